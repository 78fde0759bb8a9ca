/** Fills tensors up to a common shape, and cuts them back. */
import type { NumericArray } from '../core/datatype.ts'
import type { Padding } from '../core/padding.ts'
import type { TensorSpec } from '../core/signature.ts'
import { elementCount, isStrings, joinStrings, stringAt, type TensorData } from '../core/tensor.ts'

interface Shaped<Data> {
  readonly data: Data
  readonly shape: readonly number[]
}

export function isSameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.every((size, axis) => size === b[axis])
}

/** What an input is filled up with. All its dimensions say the same. */
export function fillerOf({ name, datatype, shape }: TensorSpec, padding: Padding): number {
  for (const dim of shape) {
    const value = typeof dim === 'string' ? padding.get(dim)?.values.get(name) : undefined
    if (value !== undefined) return datatype === 'FP16' ? new Uint16Array(Float16Array.of(value).buffer)[0]! : value
  }
  return 0
}

/** Puts a tensor into the corner of a larger one that holds `filler` elsewhere. */
export function grow({ data, shape }: Shaped<NumericArray>, whole: readonly number[], filler: number): NumericArray {
  const target = new (data.constructor as new (length: number) => NumericArray)(elementCount(whole))
  if (filler !== 0) target.fill((typeof target[0] === 'bigint' ? BigInt(filler) : filler) as never)
  eachRun(shape, whole, (from, to, length) => target.set(data.subarray(from, from + length) as never, to))
  return target
}

/** The corner of a tensor. */
export function cut({ data, shape }: Shaped<TensorData>, corner: readonly number[]): TensorData {
  // The inputs that are filled up are numbers, but what a model makes of them may be words.
  if (isStrings(data)) {
    const words: Uint8Array[] = []
    eachRun(corner, shape, (_, from, length) => {
      for (let i = from; i < from + length; i++) words.push(stringAt(data, i))
    })
    return joinStrings(words)
  }
  const target = new (data.constructor as new (length: number) => NumericArray)(elementCount(corner))
  eachRun(corner, shape, (to, from, length) => target.set(data.subarray(from, from + length) as never, to))
  return target
}

/** Visits the runs of elements that lie together both in a small tensor and in the corner of a large one. */
function eachRun(
  small: readonly number[],
  large: readonly number[],
  visit: (inSmall: number, inLarge: number, length: number) => void,
): void {
  // Behind the last axis that differs, everything lies together.
  const last = small.findLastIndex((size, axis) => size !== large[axis])
  const length = elementCount(small.slice(last))
  const strides = large.map((_, axis) => elementCount(large.slice(axis + 1)))
  const walk = (axis: number, inSmall: number, inLarge: number): number => {
    if (axis === last) {
      visit(inSmall, inLarge, length)
      return inSmall + length
    }
    let at = inSmall
    for (let i = 0; i < small[axis]!; i++) at = walk(axis + 1, at, inLarge + i * strides[axis]!)
    return at
  }
  walk(0, 0, 0)
}
