/** The binary tensor extension: little-endian elements without padding; BYTES elements each behind a 32-bit length. */
import { isUtf8 } from 'node:buffer'
import { numerics, type Datatype } from '../../core/datatype.ts'
import { bytesOf, elementCount, isStrings, stringAt, stringCount, viewOf } from '../../core/tensor.ts'
import type { Strings, TensorData } from '../../core/tensor.ts'

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

/** In one pass and without an object for each element: there may be very many, and very small. */
function readStrings(wire: Uint8Array, count: number): TensorData | string {
  const view = new DataView(wire.buffer, wire.byteOffset, wire.byteLength)
  const bytes = new Uint8Array(wire.byteLength)
  const offsets = new Uint32Array(count + 1)
  let at = 0
  for (let i = 0; i < count; i++) {
    if (at >= wire.byteLength) return `its binary data holds ${i} BYTES elements but its shape needs ${count}`
    const length = at + 4 <= wire.byteLength ? view.getUint32(at, true) : Infinity
    if (at + 4 + length > wire.byteLength) return `BYTES element ${i} is cut short`
    if (length > 0) bytes.set(wire.subarray(at + 4, at + 4 + length), offsets[i])
    offsets[i + 1] = offsets[i]! + length
    at += 4 + length
  }
  if (at < wire.byteLength) return `its binary data holds more BYTES elements but its shape needs ${count}`
  const strings = { offsets, bytes: bytes.subarray(0, offsets[count]) }
  return allFit(strings) ? strings : firstProblem(strings)
}

/** All at once; and no element may begin inside a character (RFC 3629 section 3), or it would be UTF-8 only together. */
function allFit({ offsets, bytes }: Strings): boolean {
  if (stringProblem(bytes)) return false
  for (const offset of offsets) if ((bytes[offset]! & 0xc0) === 0x80) return false
  return true
}

function firstProblem(strings: Strings): string {
  for (let i = 0; i < stringCount(strings); i++) {
    const problem = stringProblem(stringAt(strings, i))
    if (problem) return `BYTES element ${i} ${problem}`
  }
  return 'its BYTES elements are not UTF-8'
}

/** What keeps bytes from being a string that a model can take. */
export function stringProblem(bytes: Uint8Array): string | undefined {
  if (!isUtf8(bytes)) return 'is not UTF-8, which is all that a model can take'
  return bytes.includes(0) ? 'holds a NUL character, where ONNX Runtime would cut it' : undefined
}

/** The bytes of a tensor on the wire. */
export function writeBinary(data: TensorData): Uint8Array {
  if (!isStrings(data)) return bytesOf(data)
  const { offsets, bytes } = data
  const count = stringCount(data)
  const wire = new Uint8Array(4 * count + bytes.byteLength)
  const view = new DataView(wire.buffer)
  for (let i = 0; i < count; i++) {
    const at = 4 * i + offsets[i]!
    const length = offsets[i + 1]! - offsets[i]!
    view.setUint32(at, length, true)
    if (length > 0) wire.set(stringAt(data, i), at + 4)
  }
  return wire
}
