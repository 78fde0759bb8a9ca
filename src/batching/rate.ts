/** How much comes in a millisecond: of late, the past forgotten exponentially; and how much at least, most of the time. */

/** How fast the windows are forgotten. */
const step = 0.1
/** So many windows without a look at them were empty. */
const mostEmpty = 40

export class Rate {
  #value = 0
  #at = 0
  #memoryMs = 1_000
  /** What came in the window that is open, and when that ends. */
  #count = 0
  #windowEnd = -Infinity
  #windowMs = 500
  /** How many there were, and what came in a millisecond of them. */
  #windows = 0
  #mean = 0
  #variance = 0

  /** `memoryMs` is how long what comes is remembered, from now on. */
  add(now: number, amount: number, memoryMs: number): void {
    this.#value = this.at(now) + amount / memoryMs
    this.#memoryMs = memoryMs
    this.#close(now)
    this.#at = now
    this.#count += amount
  }

  at(now: number): number {
    // As when something has just been added.
    if (now === this.#at) return this.#value
    return this.#value * Math.exp((this.#at - now) / this.#memoryMs)
  }

  /** A standard deviation below the mean of windows half as long as the memory: small where all comes in bursts. */
  leastAt(now: number): number {
    this.#close(now)
    return Math.max(0, this.#mean - Math.sqrt(this.#variance))
  }

  #close(now: number): void {
    if (now < this.#windowEnd) return
    if (now - this.#windowEnd > mostEmpty * this.#windowMs) this.#begin(now)
    while (now >= this.#windowEnd) {
      const share = Math.max(step, 1 / ++this.#windows)
      const off = this.#count / this.#windowMs - this.#mean
      this.#mean += share * off
      this.#variance += share * ((1 - share) * off * off - this.#variance)
      this.#open(this.#windowEnd)
    }
  }

  /** After a long silence nothing is left of what was. */
  #begin(now: number): void {
    this.#windows = 0
    this.#mean = 0
    this.#variance = 0
    this.#open(now)
  }

  #open(from: number): void {
    this.#count = 0
    this.#windowMs = this.#memoryMs / 2
    this.#windowEnd = from + this.#windowMs
  }
}
