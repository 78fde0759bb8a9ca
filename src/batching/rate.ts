/** How much comes in a millisecond, the past forgotten exponentially. */
export class Rate {
  #value = 0
  #at = 0
  #memoryMs = 1_000

  /** `memoryMs` is how long what comes is remembered, from now on. */
  add(now: number, amount: number, memoryMs: number): void {
    this.#memoryMs = memoryMs
    this.#value = this.at(now) + amount / memoryMs
    this.#at = now
  }

  at(now: number): number {
    return this.#value * Math.exp((this.#at - now) / this.#memoryMs)
  }
}
