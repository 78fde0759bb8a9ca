/**
 * A tensor's elements as people write them, in JSON or YAML: numbers, booleans and strings. For configuration and for
 * files of the store; requests have a decoder of their own, which makes no JavaScript array.
 */
import { numerics, type Datatype, type NumericArray, type NumericDatatype } from './datatype.ts'
import { isStrings, joinStrings, stringAt, type TensorData } from './tensor.ts'

/**
 * The elements in a tensor's memory, or which one is wrong. INT64 and UINT64 beyond 2^53 are strings of decimals, because
 * JSON's numbers are not exact there; FP16 is given as numbers and becomes bits.
 */
export function dataOf(datatype: Datatype, elements: readonly unknown[]): TensorData | string {
  if (datatype === 'BYTES') {
    const odd = elements.findIndex((each) => typeof each !== 'string')
    if (odd >= 0) return `element ${odd} must be a string`
    const encoder = new TextEncoder()
    return joinStrings(elements.map((each) => encoder.encode(each as string)))
  }
  const { array } = numerics[datatype]
  const kind = datatype === 'BOOL' ? 'boolean' : 'number'
  const isLong = array === BigInt64Array || array === BigUint64Array
  const odd = elements.findIndex((each) => typeof each !== kind && !(isLong && isDecimal(each)))
  if (odd >= 0) return `element ${odd} must be a ${kind}`
  const beyond = elements.findIndex((each) => !holds(datatype, each as Written))
  if (beyond >= 0) return `element ${beyond} is no ${datatype}`
  if (datatype === 'FP16') return new Uint16Array(Float16Array.from(elements as number[]).buffer)
  const data: NumericArray = new array(elements.length)
  for (const [i, each] of (elements as Written[]).entries()) {
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(each)
    else data[i] = Number(each)
  }
  return data
}

/** One element as people read it; floats as the numbers that they are. */
export function elementAt(datatype: Datatype, data: TensorData, i: number): number | bigint | boolean | string {
  if (isStrings(data)) return new TextDecoder().decode(stringAt(data, i))
  const raw = data[i]!
  if (datatype === 'BOOL') return raw !== 0
  return datatype === 'FP16' ? new Float16Array(Uint16Array.of(Number(raw)).buffer)[0]! : raw
}

type Written = number | boolean | string

function isDecimal(element: unknown): boolean {
  return typeof element === 'string' && /^-?\d{1,20}$/.test(element)
}

/** Whether the datatype has a form for it: a finite float must not become an infinite one. */
function holds(datatype: NumericDatatype, element: Written): boolean {
  const { float, min, max } = numerics[datatype]
  if (typeof element === 'boolean') return true
  if (typeof element === 'string') return BigInt(element) >= min && BigInt(element) <= max
  if (!float) return Number.isSafeInteger(element) && BigInt(element) >= min && BigInt(element) <= max
  if (!Number.isFinite(element)) return true
  if (datatype === 'FP16') return Number.isFinite(Math.f16round(element))
  return datatype === 'FP64' || Number.isFinite(Math.fround(element))
}
