/** Counts of values by upper bound, with their sum: what a Prometheus histogram is made of. Recording is a short loop. */
export class Histogram {
  readonly bounds: readonly number[]
  readonly counts: Float64Array
  count = 0
  sum = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  record(value: number): void {
    let i = 0
    while (i < this.bounds.length && value > this.bounds[i]!) i++
    this.counts[i]!++
    this.count++
    this.sum += value
  }

  /** Adds another one with the same bounds. */
  add({ counts, count, sum }: Histogram): void {
    for (let i = 0; i < counts.length; i++) this.counts[i]! += counts[i]!
    this.count += count
    this.sum += sum
  }
}

/** Milliseconds; fine where a small model answers, coarse where a large one does. */
export const latencyBoundsMs = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
]

export const rowBounds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
