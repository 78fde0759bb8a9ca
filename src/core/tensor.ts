/** A tensor in the gateway's hands: a shape and the elements in row-major order. */
import { numerics, type Datatype, type NumericArray, type NumericDatatype } from './datatype.ts'

/**
 * BYTES elements as one run of bytes and `length + 1` offsets into it: element i is bytes[offsets[i] .. offsets[i+1]).
 * JavaScript strings would be smaller in code and lossy: they cannot hold every byte sequence, nor cross shared memory.
 */
export interface Strings {
  readonly offsets: Uint32Array
  readonly bytes: Uint8Array
}

export type TensorData = NumericArray | Strings

export interface Tensor {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
  readonly data: TensorData
}

/** ONNX sets no limit; the fixed place that a batch's description has for shapes does. */
export const maxRank = 8

export function isStrings(data: TensorData): data is Strings {
  return 'offsets' in data
}

/** How many elements a shape holds. Not safe from overflow: bound the shape first. */
export function elementCount(shape: readonly number[]): number {
  let count = 1
  for (const dim of shape) count *= dim
  return count
}

/** A typed view of little-endian `bytes`, copied only if the memory is not aligned for the datatype. */
export function viewOf(datatype: NumericDatatype, bytes: Uint8Array): NumericArray {
  const { array, bytes: width } = numerics[datatype]
  const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes)
  return new array(aligned.buffer, aligned.byteOffset, bytes.byteLength / width)
}

/** The memory behind a typed array, as bytes. */
export function bytesOf(data: NumericArray): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

export function joinStrings(elements: readonly Uint8Array[]): Strings {
  const offsets = new Uint32Array(elements.length + 1)
  for (let i = 0; i < elements.length; i++) offsets[i + 1] = offsets[i]! + elements[i]!.byteLength
  const bytes = new Uint8Array(offsets[elements.length]!)
  for (let i = 0; i < elements.length; i++) bytes.set(elements[i]!, offsets[i])
  return { offsets, bytes }
}

/** How many elements there are. */
export function stringCount({ offsets }: Strings): number {
  return offsets.length - 1
}

/** The bytes of one element, where they lie. */
export function stringAt({ offsets, bytes }: Strings, i: number): Uint8Array {
  return bytes.subarray(offsets[i], offsets[i + 1])
}

/** Elements `from` to `to` of a tensor's data. Numbers are looked at where they are, not copied. */
export function partOf(data: TensorData, from: number, to: number): TensorData {
  if (!isStrings(data)) return data.subarray(from, to)
  const start = data.offsets[from]!
  return {
    offsets: data.offsets.subarray(from, to + 1).map((offset) => offset - start),
    bytes: data.bytes.subarray(start, data.offsets[to]),
  }
}

/** Several tensors' elements one after another. */
export function concatStrings(parts: readonly Strings[]): Strings {
  if (parts.length === 1) return parts[0]!
  const offsets = new Uint32Array(parts.reduce((sum, part) => sum + stringCount(part), 1))
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.bytes.byteLength, 0))
  let element = 0
  let end = 0
  for (const part of parts) {
    bytes.set(part.bytes, end)
    for (let i = 1; i < part.offsets.length; i++) offsets[++element] = end + part.offsets[i]!
    end += part.bytes.byteLength
  }
  return { offsets, bytes }
}
