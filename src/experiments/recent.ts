/** The last values of a stream. To add one is cheap; to ask for quantiles sorts them all. */
export class Recent {
  /** Round and round. */
  readonly #ring: Float64Array
  readonly #sorted: Float64Array
  #next = 0
  #count = 0

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
  }

  /** For each part, the least value that is not below that part of all. NaN without values. */
  quantiles(parts: readonly number[], into: Float64Array): void {
    const [sorted, count] = [this.#sorted, this.#count]
    // What is not filled yet is put behind all values.
    sorted.set(this.#ring)
    sorted.fill(Infinity, count)
    sorted.sort()
    for (const [i, part] of parts.entries()) {
      into[i] = count === 0 ? Number.NaN : sorted[Math.max(0, Math.ceil(part * count) - 1)]!
    }
  }

  median(): number {
    const median = new Float64Array(1)
    this.quantiles([0.5], median)
    return median[0]!
  }

  /** Oldest first. */
  saved(): number[] {
    const ring = this.#ring
    const first = this.#count < ring.length ? 0 : this.#next
    return Array.from({ length: this.#count }, (_, i) => ring[(first + i) % ring.length]!)
  }
}
