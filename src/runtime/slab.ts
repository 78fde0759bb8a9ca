/**
 * The slab is the memory that the gateway's thread and one worker thread share: a ring of slots, each holding one batch's
 * frame, inputs and outputs, and a few control words. The gateway fills a slot while the worker runs another; the worker
 * reads inputs and writes outputs in place. One wake-up per batch, never a message per request: a hop through `Atomics`
 * costs a half to a third of a MessagePort's.
 *
 * Slots grow to the largest batch they have held and stay there: virtual memory is reserved, pages come as they are used.
 */
import { grownBytes, maxSlotBytes } from './frame.ts'

export interface SlabMemory {
  readonly control: SharedArrayBuffer
  readonly slots: readonly SharedArrayBuffer[]
}

// Control words, each in a cache line of its own so that the two threads do not fight over one. Beside a slot's state lies
// the compute time of its run, as a float64.
const line = 16
const wakeWord = 0
const doneWord = line
const stateWord = (slot: number) => (2 + slot) * line
const computeWord = (slot: number) => stateWord(slot) / 2 + 1

export const slotState = { empty: 0, queued: 1, done: 2, mailed: 3 } as const
export type SlotState = (typeof slotState)[keyof typeof slotState]

export class Slab {
  readonly memory: SlabMemory
  readonly #control: Int32Array
  readonly #times: Float64Array

  constructor(memory: SlabMemory) {
    this.memory = memory
    this.#control = new Int32Array(memory.control)
    this.#times = new Float64Array(memory.control)
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

  /** Makes a slot at least this large. Throws a RangeError if there is no memory. */
  reserve(index: number, bytes: number): SharedArrayBuffer {
    const slot = this.slot(index)
    if (slot.byteLength < bytes) slot.grow(grownBytes(slot.byteLength, bytes))
    return slot
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
    this.#times[computeWord(index)] = computeMs
    Atomics.store(this.#control, stateWord(index), state)
    this.ring()
  }

  computeMs(index: number): number {
    return this.#times[computeWord(index)]!
  }

  /** Lets go of whoever waits in `finished`. */
  ring(): void {
    Atomics.add(this.#control, doneWord, 1)
    Atomics.notify(this.#control, doneWord)
  }
}
