/**
 * How long a run takes: `l(b) = t0 + a*b` for `b` rows, learnt from the runs themselves. The form holds for neural
 * networks on CPUs and GPUs alike (Clockwork, OSDI 2020; Inoue, arXiv 1912.06322).
 *
 * Least squares over the last hundred runs or so, each weighted by the inverse square of its expected time because noise
 * grows with time. What makes it safe to decide by:
 * - `high` leaves room for the noise that was seen, in which no single run counts for much;
 * - a run that took absurdly long is not believed until others agree, and then what was known before is forgotten;
 * - where sizes hardly differ, the slope stays what it was; far beyond the sizes seen, nothing is gained by size.
 */
const memory = 128
/** Runs before anybody should decide by it: the first is often slow, and the third outvotes it. */
const enough = 3
/** Runs after which it is no longer young: those just after the start are slower than what is to come. */
const youth = 10
/** How many standard deviations above the mean `high` lies. */
const deviations = 2.4
const mostMargin = 4
/** So many times the expected time, beyond the margin, is absurd; and so many absurd runs in a row are the new truth. */
const absurd = 3
const agreed = 4

export class Curve {
  #t0 = 0
  #a = 0
  #margin = 1.2
  /** Of how long runs take, over what was expected. */
  #variance = 0.1 ** 2
  #runs = 0
  /** The largest size seen lately. */
  #reach = 0
  /** Runs in a row that were far off, and in which direction. */
  #strikes = 0
  #sums = emptySums()

  /** Whether enough runs were seen to decide by. */
  get known(): boolean {
    return this.#runs >= enough
  }

  /** Whether there were so few runs that those to come may well be quicker. */
  get young(): boolean {
    return this.#runs < youth
  }

  /** What was learnt: `mean(b) = baseMs + rowMs * b`, and `high` so many times that. */
  get fit(): { readonly baseMs: number; readonly rowMs: number; readonly margin: number } | undefined {
    return this.known ? { baseMs: this.#t0, rowMs: this.#a, margin: this.#margin } : undefined
  }

  /** Expected milliseconds; 0 while nothing is known. */
  mean(rows: number): number {
    const trusted = 2 * this.#reach
    return rows <= trusted ? this.#t0 + this.#a * rows : ((this.#t0 + this.#a * trusted) * rows) / (trusted || 1)
  }

  /** Milliseconds that nearly all runs keep to. */
  high(rows: number): number {
    return this.#margin * this.mean(rows)
  }

  /** The most rows, up to `most`, whose `high` fits into `ms`; 0 if not even one does. */
  largest(ms: number, most: number): number {
    const mean = (ms / this.#margin) * (1 + 1e-12)
    const trusted = 2 * this.#reach
    const within = this.#a > 0 ? (mean - this.#t0) / this.#a : mean >= this.#t0 ? Infinity : 0
    const beyond = (mean * trusted) / this.mean(trusted)
    const rows = within > trusted ? Math.max(trusted, beyond) : within
    return Math.max(0, Math.min(most, Math.floor(rows + 1e-9)))
  }

  /** The rows in flight at the limit `high(rows) + rows / rate <= ms`: the batch that an endless stream of `rate` rows a
   * millisecond can fill with requests that are answered within `ms`. */
  largestOf(rate: number, ms: number, most: number): number {
    const perRow = this.#margin * this.#a + 1 / rate
    return Math.max(0, Math.min(most, Math.floor((ms - this.#margin * this.#t0) / perRow)))
  }

  /** The fewest rows, as a fraction, that carry `rate` rows a millisecond on one executor; Infinity if none do. */
  smallest(rate: number): number {
    return rate * this.#a < 1 ? (rate * this.#t0) / (1 - rate * this.#a) : Infinity
  }

  learn(rows: number, ms: number): void {
    const expected = this.mean(rows)
    if (this.known && !this.#believes(ms, expected)) return
    this.#runs++
    this.#reach = Math.max(rows, this.#reach * (1 - 1 / memory))
    const isSeen = expected > 0
    this.#remember(rows, ms, 1 / Math.max(isSeen ? expected : ms, 1e-3) ** 2)
    this.#fit()
    if (this.known && isSeen) this.#widen(ms / expected)
  }

  /** Whether a measurement should be taken for what it says. */
  #believes(ms: number, expected: number): boolean {
    const direction = ms > absurd * this.#margin * expected ? 1 : ms * absurd < expected ? -1 : 0
    if (direction === 0) {
      this.#strikes = 0
      return true
    }
    this.#strikes = Math.sign(this.#strikes) === direction ? this.#strikes + direction : direction
    // To be too fast is no accident: whatever was believed before is wrong.
    if (this.#strikes < agreed && this.#strikes > -2) return direction < 0
    this.#strikes = 0
    this.#sums = emptySums()
    return true
  }

  #remember(rows: number, ms: number, weight: number): void {
    const sums = this.#sums
    const kept = 1 - 1 / memory
    sums.w = kept * sums.w + weight
    sums.x = kept * sums.x + weight * rows
    sums.y = kept * sums.y + weight * ms
    sums.xx = kept * sums.xx + weight * rows * rows
    sums.xy = kept * sums.xy + weight * rows * ms
  }

  #fit(): void {
    const { w, x, y, xx, xy } = this.#sums
    const rows = x / w
    const ms = y / w
    const before = this.#runs === 1 ? ms / rows : this.#a
    // Where sizes hardly differ, noise would make any slope of them.
    const inertia = (0.05 * rows) ** 2
    const variance = Math.max(0, xx / w - rows * rows)
    const covariance = xy / w - rows * ms
    const slope = (covariance + inertia * before) / (variance + inertia)
    // What is lost in the digits of the mean is no slope.
    this.#a = slope * rows < 1e-9 * ms ? 0 : Math.min(slope, ms / rows)
    this.#t0 = ms - this.#a * rows
  }

  #widen(ratio: number): void {
    const usual = Math.sqrt(this.#variance)
    // What is far out counts as that, and no more.
    const off = Math.min(Math.abs(ratio - 1), 4 * usual + 0.02)
    const share = Math.max(1 / 64, 1 / this.#runs)
    this.#variance += share * (off * off - this.#variance)
    this.#margin = Math.min(mostMargin, 1 + deviations * Math.sqrt(this.#variance))
  }
}

function emptySums() {
  return { w: 0, x: 0, y: 0, xx: 0, xy: 0 }
}
