/**
 * A tensor's JSON elements from bytes into typed memory, without an array of JavaScript values between. What does not go
 * in is looked at again, slowly, to say what is wrong: malformed JSON first, then the number of elements, then the
 * first element that does not fit.
 */
import { numerics, type Datatype, type NumericArray } from '../../core/datatype.ts'
import { elementCount, joinStrings, type TensorData } from '../../core/tensor.ts'
import { isWhole, oneByOne, readBigs, readFloats, readIntegers, textOf, type ReadElements } from './numbers.ts'
import { comma, isSpace, listEnd, listStart, quote, type Scanner } from './scanner.ts'

interface Target {
  readonly datatype: Datatype
  readonly read: ReadElements
  readonly data: NumericArray
  /** Ends the reading, once all elements are there. */
  readonly finish: () => TensorData
}

/** Flat or nested `data` of the given shape, from where the scanner is. Returns the elements, or what is wrong. */
export function scanElements(scanner: Scanner, datatype: Datatype, shape: readonly number[]): TensorData | string {
  const isList = scanner.space() === listStart
  if (!isList || datatype === 'FP16') {
    scanner.skip()
    return isList || datatype === 'FP16'
      ? 'FP16 has no form in JSON: send it as binary tensor data'
      : 'its data must be a list'
  }
  const from = scanner.at
  const target = targetFor(scanner, datatype, elementCount(shape))
  const problem = new ElementReader(scanner, target, shape).read()
  if (problem === undefined) return target.finish()
  // Whatever is wrong with the elements, the rest may not be JSON at all.
  scanner.at = from
  scanner.skip()
  return problem
}

function targetFor(scanner: Scanner, datatype: Datatype, count: number): Target {
  if (datatype === 'BYTES') return stringTarget(scanner)
  // Each element takes two bytes or more, so a shape that promises more than can come gets no memory for it.
  const size = Math.min(count, Math.ceil((scanner.bytes.length - scanner.at) / 2))
  const { array, bytes } = numerics[datatype]
  // Small tensors share memory of Node's pool: memory of its own for each costs more than to fill it.
  const { buffer, byteOffset } = Buffer.allocUnsafe(size * bytes)
  const data = new array(buffer, byteOffset, size)
  return { datatype, read: readerFor(datatype), data, finish: () => data }
}

function readerFor(datatype: Datatype): ReadElements {
  if (datatype === 'FP32' || datatype === 'FP64') return readFloats
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

function stringTarget(scanner: Scanner): Target {
  const parts: Uint8Array[] = []
  const read = (bytes: Uint8Array, at: number): number => {
    if (bytes[at] !== quote) return -1
    scanner.at = at
    scanner.skipString()
    const end = scanner.at
    if (!scanner.escaped) parts.push(bytes.subarray(at + 1, end - 1))
    else {
      scanner.at = at
      const text = scanner.value() as string
      if (text.includes('\0') || !text.isWellFormed()) return -1
      parts.push(utf8.encode(text))
    }
    return end
  }
  return { datatype: 'BYTES', read: oneByOne(read), data: new Uint8Array(0), finish: () => joinStrings(parts) }
}

class ElementReader {
  readonly #scanner: Scanner
  readonly #target: Target
  readonly #shape: readonly number[]
  /** Elements that are stored. */
  #done = 0

  constructor(scanner: Scanner, target: Target, shape: readonly number[]) {
    this.#scanner = scanner
    this.#target = target
    this.#shape = shape
  }

  /** From the opening bracket to behind the closing one. Returns what is wrong. */
  read(): string | undefined {
    const { bytes, at } = this.#scanner
    let p = at + 1
    while (isSpace(bytes[p])) p++
    const nested = bytes[p] === listStart && this.#shape.length > 0
    return nested ? this.#level(0) : this.#row(elementCount(this.#shape), undefined)
  }

  /** Nested lists must be nested just as the shape says, or rows would silently slip into each other. */
  #level(axis: number): string | undefined {
    const scanner = this.#scanner
    const size = this.#shape[axis]!
    if (scanner.space() !== listStart) return raggedness(axis, size)
    if (axis === this.#shape.length - 1) return this.#row(size, axis)
    scanner.at++
    for (let i = 0; i < size; i++) {
      if (i > 0 && scanner.space() !== comma) return raggedness(axis, size)
      if (i > 0) scanner.at++
      const problem = this.#level(axis + 1)
      if (problem !== undefined) return problem
    }
    if (scanner.space() !== listEnd) return raggedness(axis, size)
    scanner.at++
    return undefined
  }

  /** A list of exactly `size` elements: the innermost along `axis`, or all of them. */
  #row(size: number, axis: number | undefined): string | undefined {
    const { bytes, at } = this.#scanner
    const { read, data } = this.#target
    const cursor = { at, next: this.#done, end: this.#done + size }
    let p = at + 1
    for (;;) {
      while (bytes[p]! <= 0x20 && isSpace(bytes[p])) p++
      cursor.at = p
      p = cursor.next < cursor.end ? read(bytes, p, data as never, cursor) : -1
      if (p < 0) break
      while (isSpace(bytes[p])) p++
      if (bytes[p] !== comma) break
      p++
    }
    if (cursor.next === cursor.end && bytes[p] === listEnd) {
      this.#done = cursor.end
      this.#scanner.at = p + 1
      return undefined
    }
    return this.#whyNot({ size, axis, at, failed: cursor.at, element: cursor.next })
  }

  #whyNot({ size, axis, at, failed, element }: Failure): string {
    const scanner = this.#scanner
    scanner.at = at
    const count = scanner.skip()
    if (count !== size && axis !== undefined) return raggedness(axis, size)
    if (count !== size) return `its data holds ${count} elements but its shape needs ${size}`
    scanner.at = failed
    const value = scanner.value()
    return `element ${element} ${misfit(this.#target.datatype, value, textOf(scanner.bytes, failed, scanner.at))}`
  }
}

/** A list that could not be read: `at` is its beginning, `failed` that of the first element that did not fit. */
interface Failure {
  readonly size: number
  readonly axis: number | undefined
  readonly at: number
  readonly failed: number
  readonly element: number
}

function raggedness(axis: number, size: number): string {
  return `its nested data must hold lists of ${size} at depth ${axis + 1}, as its shape says`
}

/** Why a value is no element, given that it is none. */
function misfit(datatype: Datatype, value: unknown, text: string): string {
  if (datatype === 'BYTES') {
    if (typeof value !== 'string') return 'is not a string'
    return value.includes('\0')
      ? 'holds a NUL character, where ONNX Runtime would cut it'
      : 'holds half of a surrogate pair'
  }
  if (datatype === 'BOOL') return 'is neither true nor false'
  const outOfRange = `is outside the range of ${datatype}`
  if (numerics[datatype].float) return typeof value === 'number' ? outOfRange : 'is not a number'
  const wide = datatype === 'INT64' || datatype === 'UINT64'
  if (wide && isWhole(text)) return outOfRange
  if (!Number.isInteger(value)) return 'is not a whole number'
  if (wide && !Number.isSafeInteger(value)) {
    return 'is beyond 2^53: write it with all its digits, without exponent or fraction'
  }
  return outOfRange
}
