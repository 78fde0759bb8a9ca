/**
 * JSON elements into typed memory. Every value is checked against its datatype before it is stored: typed arrays wrap
 * silently (300 as UINT8 becomes 44).
 */
import { numerics, type Datatype, type NumericArray, type NumericDatatype } from '../../core/datatype.ts'
import { elementCount, joinStrings, type TensorData } from '../../core/tensor.ts'

type List = readonly unknown[]

/** Flat or nested `data` of the given shape. Returns the elements, or what is wrong with them. */
export function readElements(datatype: Datatype, data: unknown, shape: readonly number[]): TensorData | string {
  if (datatype === 'FP16') return 'FP16 has no form in JSON: send it as binary tensor data'
  if (!Array.isArray(data)) return 'its data must be a list'
  const flat = Array.isArray(data[0]) ? flatten(data, shape) : data
  if (typeof flat === 'string') return flat
  const count = elementCount(shape)
  if (flat.length !== count) return `its data holds ${flat.length} elements but its shape needs ${count}`
  return datatype === 'BYTES' ? readStrings(flat) : readNumbers(datatype, flat)
}

/** Nested lists must be nested just as the shape says, or rows would silently slip into each other. */
function flatten(data: List, shape: readonly number[]): List | string {
  let level: List = data
  for (const [axis, size] of shape.entries()) {
    const last = axis === shape.length - 1
    const next: unknown[] = []
    if (axis === 0 && level.length !== size) return raggedness(axis, size)
    if (last) return level
    for (const list of level) {
      if (!Array.isArray(list) || list.length !== shape[axis + 1]) return raggedness(axis + 1, shape[axis + 1]!)
      for (const each of list as List) next.push(each)
    }
    level = next
  }
  return level
}

function raggedness(axis: number, size: number): string {
  return `its nested data must hold lists of ${size} at depth ${axis + 1}, as its shape says`
}

function readNumbers(datatype: NumericDatatype, elements: List): NumericArray | string {
  const { array, float, bytes } = numerics[datatype]
  // Small tensors share memory of Node's pool: memory of its own for each costs more than to fill it.
  const { buffer, byteOffset } = Buffer.allocUnsafe(elements.length * bytes)
  const data = new array(buffer, byteOffset, elements.length)
  if (float) return readFloats(datatype, elements, data as Float64Array)
  if (datatype === 'BOOL') return readBooleans(elements, data as Uint8Array)
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return readBig(datatype, elements, data)
  return readIntegers(datatype, elements, data as Int32Array)
}

function readFloats(datatype: NumericDatatype, elements: List, data: Float64Array): NumericArray | string {
  for (let i = 0; i < elements.length; i++) {
    const element = elements[i]
    if (typeof element !== 'number' && typeof element !== 'bigint') return `element ${i} is not a number`
    data[i] = Number(element)
    if (!Number.isFinite(data[i])) return outOfRange(i, datatype)
  }
  return data
}

function readIntegers(datatype: NumericDatatype, elements: List, data: Int32Array): NumericArray | string {
  const min = Number(numerics[datatype].min)
  const max = Number(numerics[datatype].max)
  for (let i = 0; i < elements.length; i++) {
    const element = elements[i] as number
    // Only whole numbers beyond 2^53 are read as a bigint.
    if (typeof element === 'bigint') return outOfRange(i, datatype)
    if (!Number.isInteger(element)) return `element ${i} is not a whole number`
    if (element < min || element > max) return outOfRange(i, datatype)
    data[i] = element
  }
  return data
}

function readBig(
  datatype: NumericDatatype,
  elements: List,
  data: BigInt64Array | BigUint64Array,
): NumericArray | string {
  const { min, max } = numerics[datatype]
  for (let i = 0; i < elements.length; i++) {
    const element = elements[i]
    if (typeof element !== 'bigint' && !Number.isInteger(element)) return `element ${i} is not a whole number`
    if (typeof element === 'number' && !Number.isSafeInteger(element)) {
      return `element ${i} is beyond 2^53: write it with all its digits, without exponent or fraction`
    }
    const value = BigInt(element as number | bigint)
    if (value < min || value > max) return outOfRange(i, datatype)
    data[i] = value
  }
  return data
}

function readBooleans(elements: List, data: Uint8Array): NumericArray | string {
  for (let i = 0; i < elements.length; i++) {
    const element = elements[i]
    if (typeof element !== 'boolean') return `element ${i} is neither true nor false`
    data[i] = element ? 1 : 0
  }
  return data
}

const utf8 = new TextEncoder()

function readStrings(elements: List): TensorData | string {
  const encoded: Uint8Array[] = []
  for (const [i, element] of elements.entries()) {
    if (typeof element !== 'string') return `element ${i} is not a string`
    if (element.includes('\0')) return `element ${i} holds a NUL character, where ONNX Runtime would cut it`
    if (!element.isWellFormed()) return `element ${i} holds half of a surrogate pair`
    encoded.push(utf8.encode(element))
  }
  return joinStrings(encoded)
}

function outOfRange(i: number, datatype: Datatype): string {
  return `element ${i} is outside the range of ${datatype}`
}
