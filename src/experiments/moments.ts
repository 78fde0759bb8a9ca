/** Count, mean and variance of a stream (Welford), and of two streams together. */
export interface SavedMoments {
  readonly count: number
  readonly mean: number
  readonly squares: number
}

export class Moments {
  #count: number
  #mean: number
  /** Sum of squared distances from the mean. */
  #squares: number

  constructor(saved?: SavedMoments) {
    this.#count = saved?.count ?? 0
    this.#mean = saved?.mean ?? 0
    this.#squares = saved?.squares ?? 0
  }

  add(value: number): void {
    this.#count++
    const distance = value - this.#mean
    this.#mean += distance / this.#count
    this.#squares += distance * (value - this.#mean)
  }

  get count(): number {
    return this.#count
  }

  get mean(): number {
    return this.#mean
  }

  /** Of the values themselves: the divisor is their count. 0 without any. */
  get variance(): number {
    return this.#count === 0 ? 0 : this.#squares / this.#count
  }

  saved(): SavedMoments {
    return { count: this.#count, mean: this.#mean, squares: this.#squares }
  }
}

/**
 * Variance of the values of both arms thrown together. Two variances taken apart are wrong where it matters: an arm that has had
 * no rare event yet has none, and every difference from it would seem certain.
 */
export function pooledVariance(one: Moments, other: Moments): number {
  const all = one.count + other.count
  if (all === 0) return 0
  const between = (((one.mean - other.mean) ** 2 * one.count) / all) * (other.count / all)
  return (one.variance * one.count + other.variance * other.count) / all + between
}
