/** BentoML's idea of how long a batch takes, and of how long a head waits for its batch. */
export interface Sample {
  readonly rows: number
  readonly ms: number
  readonly waitedMs: number
}

const kept = 50
const skipped = 2

export class Line {
  rowMs: number
  baseMs: number
  waitMs = 0
  readonly #samples: Sample[] = []
  #seen = 0

  constructor(deadlineMs: number) {
    this.rowMs = Math.min(2_000, (2 * deadlineMs) / 30)
    this.baseMs = Math.min(1_000, deadlineMs / 30)
  }

  learn(sample: Sample): void {
    if (++this.#seen <= skipped) return
    this.#samples.push(sample)
    if (this.#samples.length > kept) this.#samples.shift()
    this.#fit()
  }

  #fit(): void {
    const mean = (value: (sample: Sample) => number) =>
      this.#samples.reduce((sum, sample) => sum + value(sample), 0) / this.#samples.length
    const rows = mean((sample) => sample.rows)
    const ms = mean((sample) => sample.ms)
    const square = mean((sample) => sample.rows ** 2)
    const variance = square - rows ** 2
    // Where all sizes are equal, the shortest of the vectors that solve it, as numerical libraries give it.
    const slope =
      variance > 1e-9
        ? mean((sample) => (sample.rows - rows) * (sample.ms - ms)) / variance
        : (ms * rows) / (rows ** 2 + 1)
    this.rowMs = Math.max(1e-3, slope)
    this.baseMs = Math.max(0, ms - slope * rows)
    this.waitMs = mean((sample) => sample.waitedMs)
  }
}
