/** IEEE 754 binary16 as numbers. `Float16Array` would do, but parts of ONNX Runtime's binding want that global removed. */

import type { Datatype } from '../core/datatype.ts'

/** By the five bits of the exponent, what one unit of the significand is worth; subnormals share the least. */
const units = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25))

/** The number that 16 bits stand for. */
export function halfToNumber(bits: number): number {
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  const sign = bits & 0x8000 ? -1 : 1
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN
  return sign * (exponent === 0 ? fraction : fraction + 0x400) * units[exponent]!
}

export function isFloat(datatype: Datatype): boolean {
  return datatype === 'FP16' || datatype === 'FP32' || datatype === 'FP64'
}
