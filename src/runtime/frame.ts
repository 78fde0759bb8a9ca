/**
 * A frame describes a batch to the worker that runs it, in the first words of the slot that holds the batch: which
 * tensors there are, and where in the slot they lie. Inputs come first and outputs behind them.
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
  readonly rows: number
  /** Most rows in one call of the model; 0 if the first axis does not count rows. */
  readonly runRows: number
  readonly inputs: readonly Placed[]
  readonly outputs: readonly Placed[]
}

/** Memory of a slot: shared with a thread, or of one process alone. */
export type SlotMemory = ArrayBuffer | SharedArrayBuffer

/** Of one slot. A batch beyond it is refused. */
export const maxSlotBytes = 2 ** 30

// Words of a frame: inputs, outputs, rows, rows in a run, then the tensors.
const headWords = 4
const rowsWord = 2
const tensorWords = 5 + maxRank

/** How large a slot becomes that has to hold so much: slots grow seldom, and do not shrink. */
export function grownBytes(before: number, needed: number): number {
  return Math.min(maxSlotBytes, Math.max(needed, 2 * before, 65_536))
}

export function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64
}

/** Where a frame's first tensor may lie. */
export function frameHeadBytes(tensors: number): number {
  return align(4 * (headWords + tensors * tensorWords))
}

export function writeFrame(slot: SlotMemory, { rows, runRows, inputs, outputs }: Frame): void {
  const words = new Int32Array(slot, 0, frameHeadBytes(inputs.length + outputs.length) / 4)
  words[0] = inputs.length
  words[1] = outputs.length
  words[rowsWord] = rows
  words[3] = runRows
  let at = headWords
  for (const tensor of inputs) at = writePlaced(words, at, tensor)
  for (const tensor of outputs) at = writePlaced(words, at, tensor)
}

/** So many frames of one slot are remembered. */
const mostKnown = 256

/**
 * Reads the frames of one slot. Batches of the same rows mostly have the same frame, and it comes as the same object then,
 * so that what was made of it can be kept with it.
 */
export class FrameReader {
  readonly #slot: SlotMemory
  /** By rows. */
  readonly #known = new Map<number, { readonly words: Int32Array; readonly frame: Frame }>()

  constructor(slot: SlotMemory) {
    this.#slot = slot
  }

  read(): Frame {
    const words = wordsIn(this.#slot)
    const rows = words[rowsWord]!
    const last = this.#known.get(rows)
    if (last && areEqual(last.words, words)) return last.frame
    const frame = frameIn(words)
    if (this.#known.size >= mostKnown) this.#known.clear()
    this.#known.set(rows, { words: words.slice(), frame })
    return frame
  }
}

function areEqual(a: Int32Array, b: Int32Array): boolean {
  let i = a.length === b.length ? 0 : -1
  while (i >= 0 && i < a.length && a[i] === b[i]) i++
  return i === a.length
}

/** All words of the frame in a slot. */
function wordsIn(slot: SlotMemory): Int32Array {
  // A view without a length would ask growable memory for its own at every access.
  const head = new Int32Array(slot, 0, headWords)
  return new Int32Array(slot, 0, headWords + (head[0]! + head[1]!) * tensorWords)
}

function frameIn(words: Int32Array): Frame {
  const [inputs = 0, outputs = 0, rows = 0, runRows = 0] = words
  const placed = (_: unknown, i: number) => readPlaced(words, headWords + i * tensorWords)
  const tensors = Array.from({ length: inputs + outputs }, placed)
  return { rows, runRows, inputs: tensors.slice(0, inputs), outputs: tensors.slice(inputs) }
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
