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
  elements.forEach((element, i) => (offsets[i + 1] = offsets[i]! + element.byteLength))
  const bytes = new Uint8Array(offsets[elements.length]!)
  elements.forEach((element, i) => bytes.set(element, offsets[i]))
  return { offsets, bytes }
}

export function splitStrings({ offsets, bytes }: Strings): Uint8Array[] {
  return Array.from({ length: offsets.length - 1 }, (_, i) => bytes.subarray(offsets[i], offsets[i + 1]))
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
  return parts.length === 1 ? parts[0]! : joinStrings(parts.flatMap(splitStrings))
}
