/** Numbers and truth values out of JSON, into a typed array. */
import type { Lease } from '../../core/arena.ts'
import type { NumericArray, NumericDatatype } from '../../core/datatype.ts'
import type { TensorData } from '../../core/tensor.ts'
import { sliceBytes } from './decoder.ts'
import { oneByOne, readAnyFloats, readFloats, readIntegers, type Cursor, type ReadElements } from './numbers.ts'
import { readBigs } from './wide-integers.ts'
import { GrowingArray, type ElementStore } from './store.ts'

export class NumberStore implements ElementStore {
  readonly isOpen = false
  /** A look at the text tells. */
  readonly problem = undefined
  readonly #read: ReadElements
  readonly #array: GrowingArray<NumericArray>

  /** `nonFinite`: floats may be NaN or infinite. */
  constructor(datatype: NumericDatatype, nonFinite: boolean, lease: Lease) {
    this.#read = readerFor(datatype, nonFinite)
    this.#array = new GrowingArray(datatype, lease)
  }

  get capacity(): number {
    return this.#array.capacity
  }

  grow(capacity: number): boolean {
    return this.#array.grow(capacity)
  }

  settle(bytes: number): void {
    this.#array.settle(bytes)
  }

  read(bytes: Uint8Array, at: number, cursor: Cursor): number {
    return this.#read(bytes, at, this.#array.data as never, cursor)
  }

  finish(count: number): TensorData | undefined {
    if (!this.#array.settle(sliceBytes)) return undefined
    const data = this.#array.data!
    return data.length === count ? data : data.subarray(0, count)
  }
}

function readerFor(datatype: NumericDatatype, nonFinite: boolean): ReadElements {
  if (datatype === 'FP32' || datatype === 'FP64') return nonFinite ? readAnyFloats : readFloats
  if (datatype === 'INT64' || datatype === 'UINT64') return readBigs
  return datatype === 'BOOL' ? readBooleans : readIntegers
}

const word = { true: [0x74, 0x72, 0x75, 0x65], false: [0x66, 0x61, 0x6c, 0x73, 0x65] }

function readBoolean(bytes: Uint8Array, at: number, data: Uint8Array, i: number): number {
  const value = bytes[at] === word.true[0]
  const expected = value ? word.true : word.false
  for (let k = 0; k < expected.length; k++) if (bytes[at + k] !== expected[k]) return -1
  data[i] = value ? 1 : 0
  return at + expected.length
}

const readBooleans = oneByOne(readBoolean)
