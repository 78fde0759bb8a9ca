/** Where a tensor's JSON elements go: memory that grows as they come, so that a shape that promises more gets none. */
import { Move, movedAtOnce, type Lease } from '../../core/arena.ts'
import { numerics, type NumericArray, type NumericDatatype } from '../../core/datatype.ts'
import { bytesOf, type TensorData } from '../../core/tensor.ts'
import type { Cursor } from './numbers.ts'

/** Why an element could not be stored, where the store knows better than a look at its text would tell. */
export type StoreProblem =
  /** What goes behind "element 7". */
  | { readonly why: string }
  /** Not JSON, at a byte of the window. */
  | { readonly notJson: string; readonly at: number }
  | 'memory'

export interface ElementStore {
  /** How many elements there is room for. */
  readonly capacity: number
  /** Whether the beginning of an element has been read, and its rest comes next. */
  readonly isOpen: boolean
  readonly problem: StoreProblem | undefined
  /** Makes room for `capacity` elements; says whether there was the memory. */
  grow(capacity: number): boolean
  /** Goes on with what growing has left to do, for about so many bytes. */
  settle(bytes: number): void
  /**
   * Reads and stores the element at `at`, or the rest of it, and maybe some behind; moves the cursor. Returns the place
   * behind; -1 if what is there cannot be stored; `notWhole` if it goes on beyond the bytes, of which those before
   * `cursor.at` are done with.
   */
  read(bytes: Uint8Array, at: number, cursor: Cursor): number
  /** The first `count` elements; undefined if there is more to do. */
  finish(count: number): TensorData | undefined
}

export const notWhole = -2

/** An array of numbers that may be made longer, with what is in it. */
export class GrowingArray<T extends NumericArray> {
  data: T | undefined
  readonly #datatype: NumericDatatype
  readonly #lease: Lease
  /** From the array before, which is held until it is over. */
  #move: Move | undefined

  constructor(datatype: NumericDatatype, lease: Lease) {
    this.#datatype = datatype
    this.#lease = lease
  }

  get capacity(): number {
    return this.data?.length ?? 0
  }

  /** Says whether there was the memory. */
  grow(capacity: number): boolean {
    const { array, bytes } = numerics[this.#datatype]
    this.settle(Infinity)
    const buffer = this.#lease.take(capacity * bytes)
    if (!buffer) return false
    const before = this.data
    this.data = new array(buffer, 0, capacity) as T
    if (before) this.#move = new Move(bytesOf(before), bytesOf(this.data), this.#lease)
    this.settle(movedAtOnce)
    return true
  }

  /** Goes on with what growing has left to do, for about so many bytes; says whether that was all. */
  settle(bytes: number): boolean {
    if (this.#move?.go(bytes)) this.#move = undefined
    return !this.#move
  }
}
