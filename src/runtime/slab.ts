/**
 * The slab is the memory that the gateway's thread and one worker share: a ring of slots, each holding one batch's
 * description, inputs and outputs, and a few control words. The gateway fills a slot while the worker runs another; the
 * worker reads inputs and writes outputs in place. One wake-up per batch, never a message per request: a hop through
 * `Atomics` costs a half to a third of a MessagePort's.
 *
 * Slots grow to the largest batch they have held and stay there: virtual memory is reserved, pages come as they are used.
 */
import { datatypes, type Datatype } from '../core/datatype.ts'
import { maxRank } from '../core/tensor.ts'

/** One tensor of a batch: which port of the session it belongs to, and where its elements are. */
export interface Placed {
  readonly port: number
  /** As the graph has it. */
  readonly datatype: Datatype
  readonly shape: readonly number[]
  /** Bytes from the start of the slot, a multiple of 64; -1 for an output whose size is not known before the run. */
  readonly offset: number
  readonly bytes: number
}

/** A batch as a slot holds it. */
export interface Frame {
  readonly session: number
  readonly rows: number
  /** Most rows in one call of the model; 0 if the first axis does not count rows. */
  readonly runRows: number
  readonly inputs: readonly Placed[]
  readonly outputs: readonly Placed[]
}

export interface SlabMemory {
  readonly control: SharedArrayBuffer
  readonly slots: readonly SharedArrayBuffer[]
}

/** Of one slot. Reserved, not used; a batch beyond it is refused. */
export const maxSlotBytes = 2 ** 30

// Control words, each in a cache line of its own so that the two threads do not fight over one.
const line = 16
const wakeWord = 0
const doneWord = line
const stateWord = (slot: number) => (2 + slot) * line

export const slotState = { empty: 0, queued: 1, done: 2, mailed: 3 } as const
export type SlotState = (typeof slotState)[keyof typeof slotState]

// Words of a frame: session, inputs, outputs, rows, rows in a run, (free), compute time as a float64, then the tensors.
const headWords = 8
const computeWord = 6
const tensorWords = 5 + maxRank

export function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64
}

/** Where a frame's first tensor may lie. */
export function frameHeadBytes(tensors: number): number {
  return align(4 * (headWords + tensors * tensorWords))
}

export class Slab {
  readonly memory: SlabMemory
  readonly #control: Int32Array

  constructor(memory: SlabMemory) {
    this.memory = memory
    this.#control = new Int32Array(memory.control)
  }

  static create(slots: number): Slab {
    return new Slab({
      control: new SharedArrayBuffer(4 * line * (2 + slots)),
      slots: Array.from({ length: slots }, () => new SharedArrayBuffer(0, { maxByteLength: maxSlotBytes })),
    })
  }

  get slots(): number {
    return this.memory.slots.length
  }

  slot(index: number): SharedArrayBuffer {
    return this.memory.slots[index]!
  }

  /** Makes a slot at least this large. */
  reserve(index: number, bytes: number): void {
    const slot = this.slot(index)
    if (slot.byteLength < bytes) slot.grow(Math.min(maxSlotBytes, Math.max(bytes, slot.byteLength * 2, 65_536)))
  }

  state(index: number): SlotState {
    return Atomics.load(this.#control, stateWord(index)) as SlotState
  }

  /** The gateway's side: hands a filled slot over, and wakes the worker. */
  submit(index: number): void {
    Atomics.store(this.#control, stateWord(index), slotState.queued)
    this.wake()
  }

  release(index: number): void {
    Atomics.store(this.#control, stateWord(index), slotState.empty)
  }

  /** Wakes the worker for a slot, or for mail that it cannot hear while it waits. */
  wake(): void {
    Atomics.add(this.#control, wakeWord, 1)
    Atomics.notify(this.#control, wakeWord)
  }

  /** Counts what was finished; read it before looking at the slots, and give it to `finished`. */
  get doneCount(): number {
    return Atomics.load(this.#control, doneWord)
  }

  /** Settles when more has been finished than `seen`. */
  async finished(seen: number): Promise<void> {
    await Atomics.waitAsync(this.#control, doneWord, seen).value
  }

  /** The worker's side: read before looking for work, and give it to `sleep`. */
  get wakeCount(): number {
    return Atomics.load(this.#control, wakeWord)
  }

  /** Blocks the worker's thread until something happened after `seen`. */
  sleep(seen: number): void {
    Atomics.wait(this.#control, wakeWord, seen)
  }

  finish(index: number, state: SlotState, computeMs: number): void {
    new Float64Array(this.slot(index), 4 * computeWord, 1)[0] = computeMs
    Atomics.store(this.#control, stateWord(index), state)
    this.ring()
  }

  /** Lets go of whoever waits in `finished`. */
  ring(): void {
    Atomics.add(this.#control, doneWord, 1)
    Atomics.notify(this.#control, doneWord)
  }

  computeMs(index: number): number {
    return new Float64Array(this.slot(index), 4 * computeWord, 1)[0]!
  }

  writeFrame(index: number, { session, rows, runRows, inputs, outputs }: Frame): void {
    const words = new Int32Array(this.slot(index), 0, frameHeadBytes(inputs.length + outputs.length) / 4)
    words[0] = session
    words[1] = inputs.length
    words[2] = outputs.length
    words[3] = rows
    words[4] = runRows
    let at = headWords
    for (const tensor of inputs) at = writePlaced(words, at, tensor)
    for (const tensor of outputs) at = writePlaced(words, at, tensor)
  }

  readFrame(index: number): Frame {
    const slot = this.slot(index)
    // A view without a length would ask the growable memory for its own at every access.
    const [session = 0, inputs = 0, outputs = 0, rows = 0, runRows = 0] = new Int32Array(slot, 0, headWords)
    const words = new Int32Array(slot, 0, frameHeadBytes(inputs + outputs) / 4)
    const placed = (_: unknown, i: number) => readPlaced(words, headWords + i * tensorWords)
    const tensors = Array.from({ length: inputs + outputs }, placed)
    return { session, rows, runRows, inputs: tensors.slice(0, inputs), outputs: tensors.slice(inputs) }
  }
}

function writePlaced(words: Int32Array, at: number, { port, datatype, shape, offset, bytes }: Placed): number {
  words[at] = port
  words[at + 1] = datatypes.indexOf(datatype)
  words[at + 2] = shape.length
  words[at + 3] = offset
  words[at + 4] = bytes
  for (let i = 0; i < shape.length; i++) words[at + 5 + i] = shape[i]!
  return at + tensorWords
}

function readPlaced(words: Int32Array, at: number): Placed {
  return {
    port: words[at]!,
    datatype: datatypes[words[at + 1]!]!,
    shape: [...words.subarray(at + 5, at + 5 + words[at + 2]!)],
    offset: words[at + 3]!,
    bytes: words[at + 4]!,
  }
}
