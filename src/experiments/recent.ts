/** The last values of a stream. To add one is cheap; to ask for quantiles sorts them all. */
export class Recent {
  /** Round and round. */
  readonly #ring: Float64Array
  readonly #sorted: Float64Array
  #next = 0
  #count = 0
  #isSorted = false

  constructor(most: number, saved: readonly number[] = []) {
    this.#ring = new Float64Array(most)
    this.#sorted = new Float64Array(most)
    for (const value of saved) this.add(value)
  }

  get count(): number {
    return this.#count
  }

  add(value: number): void {
    const ring = this.#ring
    ring[this.#next] = value
    this.#next = this.#next + 1 < ring.length ? this.#next + 1 : 0
    if (this.#count < ring.length) this.#count++
    this.#isSorted = false
  }

  clear(): void {
    this.#next = 0
    this.#count = 0
    this.#isSorted = false
  }

  /**
   * The value beyond which the next one is with probability 1 - `part`, if it is like these: of n values the one at part * (n + 1),
   * interpolated, and no further than the largest. NaN without values.
   */
  quantile(part: number): number {
    const count = this.#count
    if (count === 0) return Number.NaN
    const sorted = this.#sort()
    const at = Math.min(count - 1, Math.max(0, part * (count + 1) - 1))
    const below = Math.floor(at)
    const [low, high] = [sorted[below]!, sorted[Math.min(count - 1, below + 1)]!]
    return low + (at - below) * (high - low)
  }

  /** Oldest first. */
  saved(): number[] {
    const ring = this.#ring
    const first = this.#count < ring.length ? 0 : this.#next
    return Array.from({ length: this.#count }, (_, i) => ring[(first + i) % ring.length]!)
  }

  #sort(): Float64Array {
    const sorted = this.#sorted
    if (this.#isSorted) return sorted
    // What is not filled yet is put behind all values.
    sorted.set(this.#ring)
    sorted.fill(Infinity, this.#count)
    sorted.sort()
    this.#isSorted = true
    return sorted
  }
}
