/** Where a tensor's JSON elements go: typed memory that grows as they come, so that a shape that promises more gets none. */
import { GrowingBytes, type Lease } from '../../core/arena.ts'
import { numerics, type Datatype, type NumericArray, type NumericDatatype } from '../../core/datatype.ts'
import type { TensorData } from '../../core/tensor.ts'
import {
  oneByOne,
  readAnyFloats,
  readBigs,
  readFloats,
  readIntegers,
  type Cursor,
  type ReadElements,
} from './numbers.ts'
import { quote, StringEnd, stringText } from './strings.ts'

export interface ElementStore {
  /** How many elements there is room for. */
  readonly capacity: number
  /** Makes room for `capacity` elements; says whether there was the memory. */
  grow(capacity: number): boolean
  /**
   * Reads and stores the element at `at` and maybe some behind it, and moves the cursor. Returns the place behind; -1 if
   * what is there cannot be stored; `notWhole` if it may go on beyond the bytes.
   */
  read(bytes: Uint8Array, at: number, cursor: Cursor): number
  /** The first `count` elements. */
  finish(count: number): TensorData
}

export const notWhole = -2

/** `nonFinite`: floats may be NaN or infinite. */
export function storeFor(datatype: Datatype, nonFinite: boolean, lease: Lease): ElementStore {
  if (datatype === 'BYTES') return new StringStore(lease)
  return new NumberStore(datatype, readerFor(datatype, nonFinite), lease)
}

class NumberStore implements ElementStore {
  readonly #datatype: NumericDatatype
  readonly #lease: Lease
  readonly #read: ReadElements
  #data: NumericArray | undefined

  constructor(datatype: NumericDatatype, read: ReadElements, lease: Lease) {
    this.#datatype = datatype
    this.#read = read
    this.#lease = lease
  }

  get capacity(): number {
    return this.#data?.length ?? 0
  }

  grow(capacity: number): boolean {
    const larger = enlarge(this.#data, this.#datatype, capacity, this.#lease)
    if (larger) this.#data = larger
    return larger !== undefined
  }

  read(bytes: Uint8Array, at: number, cursor: Cursor): number {
    return this.#read(bytes, at, this.#data as never, cursor)
  }

  finish(count: number): TensorData {
    const data = this.#data!
    return data.length === count ? data : data.subarray(0, count)
  }
}

/** An array of so many elements that begins with what was there; undefined if there is no memory. */
function enlarge(
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

const utf8 = new TextEncoder()

class StringStore implements ElementStore {
  readonly #lease: Lease
  readonly #bytes: GrowingBytes
  readonly #end = new StringEnd()
  #offsets: Uint32Array | undefined

  constructor(lease: Lease) {
    this.#lease = lease
    this.#bytes = new GrowingBytes(lease)
  }

  get capacity(): number {
    return this.#offsets ? this.#offsets.length - 1 : 0
  }

  grow(capacity: number): boolean {
    const larger = enlarge(this.#offsets, 'UINT32', capacity + 1, this.#lease) as Uint32Array | undefined
    if (!larger) return false
    larger[0] = 0
    this.#offsets = larger
    return true
  }

  read(bytes: Uint8Array, at: number, cursor: Cursor): number {
    if (bytes[at] !== quote) return -1
    const end = this.#end
    const behind = end.find(bytes, at)
    if (behind < 0) return end.problem === '' ? notWhole : -1
    const element = elementOf(bytes, at + 1, behind - 1, end)
    end.reset()
    if (!element || !this.#bytes.append(element)) return -1
    this.#offsets![++cursor.next] = this.#bytes.length
    return behind
  }

  finish(count: number): TensorData {
    return { offsets: this.#offsets!.subarray(0, count + 1), bytes: this.#bytes.bytes }
  }
}

/** A string's bytes as a model can take them; undefined if it cannot. */
function elementOf(bytes: Uint8Array, from: number, to: number, end: StringEnd): Uint8Array | undefined {
  if (!end.escaped && !end.wide) return bytes.subarray(from, to)
  const text = stringText(bytes, from, to, end)
  if (text === undefined || text.includes('\0') || !text.isWellFormed()) return undefined
  return end.escaped ? utf8.encode(text) : bytes.subarray(from, to)
}
