/** The binary tensor extension: little-endian elements without padding; BYTES elements each behind a 32-bit length. */
import { isUtf8 } from 'node:buffer'
import { numerics, type Datatype } from '../../core/datatype.ts'
import {
  bytesOf,
  elementCount,
  isStrings,
  joinStrings,
  splitStrings,
  viewOf,
  type TensorData,
} from '../../core/tensor.ts'

/** Reads one tensor out of exactly these bytes. Returns the elements, or what is wrong with them. */
export function readBinary(datatype: Datatype, bytes: Uint8Array, shape: readonly number[]): TensorData | string {
  const count = elementCount(shape)
  if (datatype === 'BYTES') return readStrings(bytes, count)
  const needed = count * numerics[datatype].bytes
  if (bytes.byteLength !== needed)
    return `its binary data holds ${bytes.byteLength} bytes but its shape needs ${needed}`
  const data = viewOf(datatype, bytes)
  if (datatype === 'BOOL' && (data as Uint8Array).some((byte) => byte > 1)) return 'a BOOL element is neither 0 nor 1'
  return data
}

function readStrings(bytes: Uint8Array, count: number): TensorData | string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const elements: Uint8Array[] = []
  let at = 0
  while (at < bytes.byteLength) {
    const length = at + 4 <= bytes.byteLength ? view.getUint32(at, true) : Infinity
    if (at + 4 + length > bytes.byteLength) return `BYTES element ${elements.length} is cut short`
    const element = bytes.subarray(at + 4, at + 4 + length)
    const problem = stringProblem(element)
    if (problem) return `BYTES element ${elements.length} ${problem}`
    elements.push(element)
    if (elements.length > count) break
    at += 4 + length
  }
  if (elements.length === count) return joinStrings(elements)
  return `its binary data holds ${elements.length > count ? 'more' : elements.length} BYTES elements but its shape needs ${count}`
}

/** What keeps bytes from being a string that a model can take. */
export function stringProblem(bytes: Uint8Array): string | undefined {
  if (!isUtf8(bytes)) return 'is not UTF-8, which is all that a model can take'
  return bytes.includes(0) ? 'holds a NUL character, where ONNX Runtime would cut it' : undefined
}

/** The bytes of a tensor on the wire. */
export function writeBinary(data: TensorData): Uint8Array {
  if (!isStrings(data)) return bytesOf(data)
  const lengths = new Uint8Array(4 * (data.offsets.length - 1))
  const view = new DataView(lengths.buffer)
  const parts = splitStrings(data).flatMap((element, i) => {
    view.setUint32(4 * i, element.byteLength, true)
    return [lengths.subarray(4 * i, 4 * i + 4), element]
  })
  return Buffer.concat(parts)
}
