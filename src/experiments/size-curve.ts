/** How the time of a batch grows with its rows. */

/** Rows, and milliseconds. */
export type SizePoint = readonly [rows: number, ms: number]

/** How far points lie from the truth, relatively, if each is the quickest of three runs. */
const noise = 0.1

/** Straight lines between points. */
export class SizeCurve {
  readonly #rows: readonly number[]
  readonly #ms: readonly number[]

  /** More rows do not take less: if they seem to, noise has added to the fewer. */
  constructor(points: readonly SizePoint[]) {
    const sorted = rising(points)
    this.#rows = sorted.map(([rows]) => rows)
    this.#ms = sorted.map(([, ms]) => ms)
  }

  /** Through few runs of each size, so points are moved towards one line, the less the further they lie from it (James and Stein). */
  static smooth(points: readonly SizePoint[]): SizeCurve {
    const sorted = rising(points)
    const line = lineThrough(sorted)
    const offs = sorted.map(([rows, ms]) => Math.log(ms / line(rows)))
    const variance = offs.reduce((sum, off) => sum + off * off, 0) / Math.max(1, offs.length - 2)
    const kept = Math.max(0, 1 - noise ** 2 / variance)
    return new SizeCurve(sorted.map(([rows], i) => [rows, line(rows) * Math.exp(kept * offs[i]!)]))
  }

  get isEmpty(): boolean {
    return this.#rows.length === 0
  }

  /** Down to half the smallest and up to twice the largest it is believed. */
  reaches(rows: number): boolean {
    const [first = Infinity, last = 0] = [this.#rows[0], this.#rows.at(-1)]
    return 2 * rows >= first && rows <= 2 * last
  }

  /** 1 if it is empty. */
  ms(rows: number): number {
    const [known, ms] = [this.#rows, this.#ms]
    const last = known.length - 1
    if (last < 1) return ms[0] ?? 1
    let right = 1
    while (right < last && known[right]! < rows) right++
    const left = right - 1
    const slope = (ms[right]! - ms[left]!) / (known[right]! - known[left]!)
    // Fewer rows than were ever seen take at least their part.
    return Math.max(ms[left]! + slope * (rows - known[left]!), (ms[0]! * Math.min(rows, known[0]!)) / known[0]!)
  }
}

function rising(points: readonly SizePoint[]): SizePoint[] {
  const sorted = points.toSorted(([one], [other]) => one - other)
  return sorted.map(([rows], i) => [rows, Math.min(...sorted.slice(i).map(([, ms]) => ms))])
}

/** Least squares of relative errors, with neither a slope nor an intercept below nothing. */
function lineThrough(points: readonly SizePoint[]): (rows: number) => number {
  let [one, x, y, xx, xy] = [0, 0, 0, 0, 0]
  for (const [rows, ms] of points) {
    const weight = 1 / ms ** 2
    one += weight
    x += weight * rows
    y += weight * ms
    xx += weight * rows * rows
    xy += weight * rows * ms
  }
  const spread = one * xx - x * x
  const slope = spread > 1e-9 * one * xx ? Math.max(0, (one * xy - x * y) / spread) : 0
  const intercept = (y - slope * x) / one
  return intercept > 0 ? (rows) => intercept + slope * rows : (rows) => (xy / xx) * rows
}
