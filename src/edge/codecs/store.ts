/** Where a tensor's JSON elements go: memory that grows as they come, so that a shape that promises more gets none. */
import type { Lease } from '../../core/arena.ts'
import { numerics, type NumericArray, type NumericDatatype } from '../../core/datatype.ts'
import type { TensorData } from '../../core/tensor.ts'
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
  /**
   * Reads and stores the element at `at`, or the rest of it, and maybe some behind; moves the cursor. Returns the place
   * behind; -1 if what is there cannot be stored; `notWhole` if it goes on beyond the bytes, of which those before
   * `cursor.at` are done with.
   */
  read(bytes: Uint8Array, at: number, cursor: Cursor): number
  /** The first `count` elements. */
  finish(count: number): TensorData
}

export const notWhole = -2

/** An array of so many elements that begins with what was there; undefined if there is no memory. */
export function enlarge(
  before: NumericArray | undefined,
  datatype: NumericDatatype,
  capacity: number,
  lease: Lease,
): NumericArray | undefined {
  const { array, bytes } = numerics[datatype]
  const buffer = lease.take(capacity * bytes)
  if (!buffer) return undefined
  const data = new array(buffer, 0, capacity)
  if (before) {
    data.set(before as never)
    lease.drop(before.buffer as ArrayBuffer)
  }
  return data
}
