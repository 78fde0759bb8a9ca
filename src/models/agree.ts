/** Whether two answers are the same but for rounding: kernels may sum in another order for another number of rows. */
import { isDeepStrictEqual } from 'node:util'
import { isStrings, type Tensor } from '../core/tensor.ts'

export function agree(a: readonly Tensor[], b: readonly Tensor[]): boolean {
  return a.every((tensor, i) => {
    const { shape, data: other } = b[i]!
    if (!isDeepStrictEqual(tensor.shape, shape)) return false
    if (tensor.datatype === 'FP32' || tensor.datatype === 'FP64')
      return close(tensor.data as Float64Array, other as Float64Array)
    if (isStrings(tensor.data) || tensor.datatype !== 'FP16') return isDeepStrictEqual(tensor.data, other)
    // Neighbouring FP16 numbers have neighbouring bits.
    return (tensor.data as Uint16Array).every((bits, j) => Math.abs(bits - (other as Uint16Array)[j]!) <= 4)
  })
}

function close(a: Float64Array, b: Float64Array): boolean {
  const largest = a.reduce((most, x) => Math.max(most, Math.abs(x)), 0)
  return a.every((x, i) => Object.is(x, b[i]) || Math.abs(x - b[i]!) <= 1e-6 * largest + 1e-4 * Math.abs(x))
}
