/** Is the treatment slower than the control at the same batch size? Judged run by run. */
import type { SavedMixture } from './mixture.ts'
import { Recent } from './recent.ts'
import { SlowBlocks } from './slow-blocks.ts'
import { quantiles } from './slow-odds.ts'
import { Strata, Stratum } from './strata.ts'

const recentTreatments = 128
/** If the control's last run took so many times as long as usual, the machine stalls. */
const stalled = 2
/**
 * Milliseconds that a run of the treatment may take besides. What runs after a pause finds cold caches and a slow clock, and a
 * version with a small share always does. Of either of two alike versions on a busy machine, runs of 0.17 ms back to back took
 * 0.37 ms after a tenth of a second, and runs of 0.55 ms, with 4 MiB of weights, 1.1 ms.
 */
const pauseMs = 0.5

export interface SlownessOptions {
  readonly alpha: number
  /** How many times as long as the control's a run may take. 1.5 by default: cold caches cost a larger model up to a third. */
  readonly tolerate?: number
  readonly horizonBlocks?: number
}

export interface SavedSlowness {
  readonly mixtures: readonly SavedMixture[]
  readonly control: readonly number[]
  readonly treatment: readonly number[]
  readonly runs: readonly [control: number, treatment: number]
}

/**
 * The safe test of two proportions (Turner, Ly and Grünwald, arXiv 2106.02693) on blocks of one run of the treatment and the m
 * runs of the control nearest to it. Why not the attribution: its coin needs the share of the runs, and lanes that batch
 * differently make it anything. Here that share does not matter. Given what was before the block, m and the thresholds are
 * fixed; let runs of the control be slow with probability p, and the treatment's with p' <= p. A run's factor has mean
 * 1 + (p - t0) (t - t0) / (t0 (1 - t0)), with t = ta for the control, tb for the treatment. As tb > t0, p' = p is the worst
 * case. As t0 is the mean of the m ta and the tb, the mean of the 1 + m means is 1, so by the inequality of means their
 * product is at most 1. Which runs are left out depends on whose they are, how large, and what was before.
 *
 * What is slow is said for each stratum by itself, because the tail of small runs is heavier than that of large ones: beyond
 * the quantile q of its own last ratios a run is with probability p = 1 - q in every stratum, so a block may mix them. (On the
 * average of what the thresholds may be: they are of few runs. In blocks of one stratum it holds whatever they are.)
 * Where the control has not been run at a size of late, a ratio is by the shape of a curve. Its median is 1 still, but its
 * tail is that of other sizes: it counts for the median only, against all ratios of the control.
 *
 * While the machine stalls, batches grow, and a version with a small share has large ones at no other time: size would tell of
 * the machine. So after a run of the control that tells of a stall, of either arm, runs are left out of the tests of tails.
 */
export class Slowness {
  readonly #alpha: number
  readonly #tolerate: number
  readonly #tests: readonly SlowBlocks[]
  readonly #strata = new Strata()
  /** Of the control, whatever the size. */
  readonly #all: Stratum
  readonly #treatment: Recent
  #isStalled = false

  constructor({ alpha, tolerate = 1.5, horizonBlocks }: SlownessOptions, saved?: SavedSlowness) {
    this.#alpha = alpha / quantiles.length
    this.#tolerate = tolerate
    const runs = saved?.runs ?? [0, 0]
    this.#tests = quantiles.map((_, i) => new SlowBlocks(i, { mixture: saved?.mixtures[i], runs }, horizonBlocks))
    this.#all = new Stratum(saved?.control)
    this.#treatment = new Recent(recentTreatments, saved?.treatment)
  }

  /**
   * One run of a batch. `ratio`: its compute time over what the control takes for a batch of that size, which is `expectedMs`.
   * `stratum`: of runs whose ratios are alike; undefined if the control has not been run at that size of late.
   */
  run(isTreatment: boolean, ratio: number, stratum: string | undefined, expectedMs = Infinity): void {
    if (!(ratio >= 0 && ratio < Infinity)) return
    const put = isTreatment ? (ratio - pauseMs / expectedMs) / this.#tolerate : ratio
    const own = stratum === undefined ? undefined : this.#strata.get(stratum)
    for (let i = 0; i < quantiles.length; i++) this.#test(i, isTreatment, put, own)
    if (isTreatment) this.#treatment.add(ratio)
    else {
      this.#isStalled = ratio > stalled
      this.#all.add(ratio)
      if (stratum !== undefined) this.#strata.add(stratum, ratio)
    }
  }

  closeBlock(): void {
    for (const { mixture } of this.#tests) mixture.closeBlock()
  }

  get crossed(): boolean {
    return this.which !== undefined
  }

  /** The quantile, 0.5 or 0.9 or 0.99, beyond which the treatment has been too often; undefined if it is none. */
  get which(): number | undefined {
    for (let i = 0; i < quantiles.length; i++) if (this.#tests[i]!.mixture.crosses(this.#alpha)) return quantiles[i]
    return undefined
  }

  /** ln of the evidence since the start, for each quantile. */
  get logE(): readonly number[] {
    return this.#tests.map(({ mixture }) => mixture.logSinceStart)
  }

  /** Of the ratios of late; NaN for an arm without runs. */
  get medians(): { control: number; treatment: number } {
    return { control: this.#all.median(), treatment: this.#treatment.quantile(0.5) }
  }

  /** All but the open blocks and the strata, which are known again soon. */
  saved(): SavedSlowness {
    return {
      mixtures: this.#tests.map(({ mixture }) => mixture.saved()),
      control: this.#all.saved(),
      treatment: this.#treatment.saved(),
      runs: this.#tests[0]!.runs,
    }
  }

  #test(at: number, isTreatment: boolean, ratio: number, own: Stratum | undefined): void {
    if (at > 0 && this.#isStalled) return
    const stratum = own?.knows(at) ? own : at === 0 && this.#all.knows(at) ? this.#all : undefined
    if (!stratum) return
    const test = this.#tests[at]!
    const isSlow = ratio > stratum.threshold(at, test.number, isTreatment)
    if (isTreatment) test.ofTreatment(isSlow)
    else test.ofControl(isSlow)
  }
}
