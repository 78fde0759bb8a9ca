/**
 * Requests whose shapes differ can share a run if the smaller are filled up to a common size, a bucket. Only a model
 * whose author says that this changes nothing is treated so; of all others only equal shapes share a run.
 */
import type { Dim } from './signature.ts'

/** How one dimension is filled up. */
export interface PaddedDim {
  /** In rising order. A size beyond the last stays as it is. */
  readonly buckets: readonly number[]
  /** What is put where nothing was, by the name of the input; 0 for those that are not here. */
  readonly values: ReadonlyMap<string, number>
}

/** By the dimension's name. */
export type Padding = ReadonlyMap<string, PaddedDim>

export const noPadding: Padding = new Map()

/** The smallest bucket that holds `size`, or `size` itself if none does. */
export function bucketOf({ buckets }: PaddedDim, size: number): number {
  return buckets.find((bucket) => bucket >= size) ?? size
}

/** The shape that a tensor has once it is filled up. */
export function paddedShape(dims: readonly Dim[], shape: readonly number[], padding: Padding): number[] {
  return shape.map((size, axis) => {
    const dim = dims[axis]
    const padded = typeof dim === 'string' ? padding.get(dim) : undefined
    return padded ? bucketOf(padded, size) : size
  })
}

/** Equal for inputs that may share a run, rows aside. */
export function shapeKey(shapes: readonly (readonly number[])[]): string {
  return shapes.map((shape) => shape.slice(1).join('x')).join(' ')
}
