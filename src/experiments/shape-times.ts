/** Runs of which one in e is still remembered. */
const memory = 1024
const kept = Math.exp(-1 / memory)
/** Recent runs from which a class of sizes, and the line through all of them, is believed. */
const [leastOfClass, leastOfFit] = [16, 64]
/** So many times what was expected is absurd (a pause of the machine, a wrong clock), unless so many in a row agree. */
const [absurd, agreeing] = [10, 4]
/** How far apart those that agree may be. */
const alike = 2

/** Sizes 1, 2, 3-4, 5-8, 9-16, ... up to 2^31. */
const classes = 32
/** Sums of a class: weights, rows, milliseconds, squares of rows, products of both. */
const [weight, rowsSum, msSum, squares, products] = [0, 1, 2, 3, 4]
const width = 5

/** How long batches of one shape take, by their rows. */
export class ShapeTimes {
  readonly #sums = new Float64Array(width * classes)
  /** Classes from here on are empty. */
  #used = 0
  #largest = 0
  /** By class: how many absurd runs came in a row, and how absurd the last one was. */
  readonly #absurdInRow = new Int32Array(classes)
  readonly #lastAbsurd = new Float64Array(classes)
  /** The line through all runs, milliseconds = intercept + slope * rows; NaN while it is not known. */
  #intercept = Number.NaN
  #slope = Number.NaN
  #isStale = true

  /** `count`: as how many runs this one counts. */
  learn(rows: number, ms: number, count: number): void {
    if (this.#isAbsurd(rows, ms)) return
    const sums = this.#sums
    const of = classOf(rows)
    this.#used = Math.max(this.#used, of + 1)
    for (let i = 0; i < width * this.#used; i++) sums[i]! *= kept
    const at = width * of
    sums[at + weight]! += count
    sums[at + rowsSum]! += count * rows
    sums[at + msSum]! += count * ms
    sums[at + squares]! += count * rows * rows
    sums[at + products]! += count * rows * ms
    this.#largest = Math.max(this.#largest, rows)
    this.#isStale = true
  }

  expected(rows: number): number | undefined {
    if (this.#isStale) this.#fit()
    const at = width * classOf(rows)
    const known = this.#sums[at + weight]!
    if (known >= leastOfClass) return this.#ofClass(at, rows)
    if (this.#runs < leastOfFit || rows > 2 * this.#largest) return undefined
    const ms = this.#intercept + this.#slope * rows
    return ms > 0 ? ms : undefined
  }

  /** The class's mean, moved along the line. Without a line it holds for the mean size only: a guess would favour an arm. */
  #ofClass(at: number, rows: number): number | undefined {
    const known = this.#sums[at + weight]!
    const [meanRows, meanMs] = [this.#sums[at + rowsSum]! / known, this.#sums[at + msSum]! / known]
    const away = rows - meanRows
    if (Math.abs(away) < 1e-6) return meanMs
    const ms = meanMs + this.#slope * away
    return ms > 0 ? ms : undefined
  }

  get #runs(): number {
    let runs = 0
    for (let k = 0; k < this.#used; k++) runs += this.#sums[width * k + weight]!
    return runs
  }

  /**
   * Least squares of relative errors: a run's weight is one over the square of its class's mean. Neither more rows nor none may
   * take less than nothing. The sums are brought together here, not in `learn`, because the weights change.
   */
  #fit(): void {
    this.#isStale = false
    let [one, x, y, xx, xy] = [0, 0, 0, 0, 0]
    const sums = this.#sums
    for (let at = 0; at < width * this.#used; at += width) {
      // What is all but forgotten has no digits left.
      if (sums[at + weight]! < 1e-3) continue
      const part = (sums[at + weight]! / sums[at + msSum]!) ** 2
      one += part * sums[at + weight]!
      x += part * sums[at + rowsSum]!
      y += part * sums[at + msSum]!
      xx += part * sums[at + squares]!
      xy += part * sums[at + products]!
    }
    const spread = one * xx - x * x
    // All runs of one size: no line.
    const slope = spread > 1e-9 * one * xx ? (one * xy - x * y) / spread : Number.NaN
    const intercept = (y - slope * x) / one
    this.#slope = intercept < 0 ? xy / xx : Math.max(0, slope)
    this.#intercept = slope < 0 ? y / one : Math.max(0, intercept)
  }

  #isAbsurd(rows: number, ms: number): boolean {
    const [inRow, last, of] = [this.#absurdInRow, this.#lastAbsurd, classOf(rows)]
    const expected = this.expected(rows)
    if (expected === undefined || ms <= absurd * expected) {
      inRow[of] = 0
      return false
    }
    const ratio = ms / expected
    const agrees = inRow[of]! > 0 && ratio < alike * last[of]! && alike * ratio > last[of]!
    inRow[of] = agrees ? inRow[of]! + 1 : 1
    last[of] = ratio
    return inRow[of] < agreeing
  }
}

function classOf(rows: number): number {
  return rows <= 1 ? 0 : Math.min(classes - 1, 32 - Math.clz32(Math.ceil(rows) - 1))
}
