/** Is the treatment slower than the control at the same batch size? Judged run by run. */
import { Mixture, type SavedMixture } from './mixture.ts'
import { Recent } from './recent.ts'
import { blockOdds, mostControls, oddsRatios, outcomeOf, quantiles } from './slow-odds.ts'

/** Ratios of the control from which its quantiles are taken, and without how many there are none. */
const [recentControls, leastControls] = [512, 128]
const recentTreatments = 128
/** Runs of the control after which the next block has new thresholds: to sort for each block would cost more than the test. */
const refreshed = 128
/** Runs after which the older ones count half: few, because shares change, and a block too large waits for the control. */
const memory = 128

export interface SlownessOptions {
  readonly alpha: number
  /** How many times as long as the control's a run may take. 1.15 by default. */
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
 * differently make it anything. Here that share does not matter. Given what was before the block, m and the thresholds tau
 * are fixed; let runs of the control be slow (beyond tau) with probability p, and the treatment's with p' <= p. A run's factor
 * has mean 1 + (p - t0) (t - t0) / (t0 (1 - t0)), with t = ta for the control, tb for the treatment. As tb > t0, p' = p is the
 * worst case. As t0 is the mean of the m ta and the tb, the mean of the 1 + m means is 1, so by the inequality of means
 * their product is at most 1. Which runs are left out depends on whose they are, never on how long they took.
 */
export class Slowness {
  readonly #alpha: number
  readonly #tolerate: number
  readonly #mixtures: readonly Mixture[]
  readonly #control: Recent
  readonly #treatment: Recent
  /** Runs of each arm, the older ones counting less: for the size of blocks. */
  readonly #runs: { control: number; treatment: number }
  /** The block: its runs of the control wanted and seen, and what was slow. Closed, with no thresholds yet, if 0 are wanted. */
  #wanted = 0
  #seen = 0
  #hasTreatment = false
  /** Runs of the control since the thresholds were taken. */
  #stale = Infinity
  readonly #tau = new Float64Array(quantiles.length)
  /** For each quantile, the control's last runs as bits: 1 was slow. */
  readonly #slowControls = new Int32Array(quantiles.length)
  readonly #slowTreatment = new Int32Array(quantiles.length)

  constructor({ alpha, tolerate = 1.15, horizonBlocks }: SlownessOptions, saved?: SavedSlowness) {
    this.#alpha = alpha / quantiles.length
    this.#tolerate = tolerate
    this.#mixtures = quantiles.map((_, i) => new Mixture(oddsRatios.length, saved?.mixtures[i], horizonBlocks))
    this.#control = new Recent(recentControls, saved?.control)
    this.#treatment = new Recent(recentTreatments, saved?.treatment)
    this.#runs = { control: saved?.runs[0] ?? 0, treatment: saved?.runs[1] ?? 0 }
    this.#open()
  }

  /** One run of a batch. `ratio`: its compute time over what the control takes for a batch of that size. */
  run(isTreatment: boolean, ratio: number): void {
    if (!(ratio >= 0 && ratio < Infinity)) return
    if (isTreatment) this.#ofTreatment(ratio)
    else this.#ofControl(ratio)
    if (this.#hasTreatment && this.#seen >= this.#wanted) this.#close()
  }

  closeBlock(): void {
    for (const mixture of this.#mixtures) mixture.closeBlock()
  }

  get crossed(): boolean {
    return this.which !== undefined
  }

  /** The quantile, 0.5 or 0.9 or 0.99, beyond which the treatment has been too often; undefined if it is none. */
  get which(): number | undefined {
    for (let i = 0; i < quantiles.length; i++) if (this.#mixtures[i]!.crosses(this.#alpha)) return quantiles[i]
    return undefined
  }

  /** ln of the evidence since the start, for each quantile. */
  get logE(): readonly number[] {
    return this.#mixtures.map((mixture) => mixture.logSinceStart)
  }

  /** Of the ratios of late; NaN for an arm without runs. */
  get medians(): { control: number; treatment: number } {
    return { control: this.#control.median(), treatment: this.#treatment.median() }
  }

  /** All but the open block. */
  saved(): SavedSlowness {
    return {
      mixtures: this.#mixtures.map((mixture) => mixture.saved()),
      control: this.#control.saved(),
      treatment: this.#treatment.saved(),
      runs: [this.#runs.control, this.#runs.treatment],
    }
  }

  #ofControl(ratio: number): void {
    this.#count('control')
    this.#control.add(ratio)
    this.#stale++
    if (this.#wanted === 0) {
      this.#open()
      return
    }
    const [tau, slow] = [this.#tau, this.#slowControls]
    for (let i = 0; i < tau.length; i++) slow[i] = (slow[i]! << 1) | Number(ratio > tau[i]!)
    this.#seen++
  }

  #ofTreatment(ratio: number): void {
    this.#count('treatment')
    this.#treatment.add(ratio)
    if (this.#wanted === 0 || this.#hasTreatment) return
    const [tau, slow] = [this.#tau, this.#slowTreatment]
    for (let i = 0; i < tau.length; i++) slow[i] = Number(ratio / this.#tolerate > tau[i]!)
    this.#hasTreatment = true
  }

  #count(arm: 'control' | 'treatment'): void {
    const runs = this.#runs
    runs[arm]++
    if (runs.control + runs.treatment < memory) return
    runs.control /= 2
    runs.treatment /= 2
  }

  #open(): void {
    if (this.#control.count < leastControls) return
    const { control, treatment } = this.#runs
    this.#wanted = Math.min(mostControls, Math.max(1, Math.round(control / Math.max(1, treatment))))
    this.#seen = 0
    this.#hasTreatment = false
    if (this.#stale < refreshed) return
    this.#stale = 0
    this.#control.quantiles(quantiles, this.#tau)
  }

  #close(): void {
    const wanted = this.#wanted
    for (let i = 0; i < quantiles.length; i++) {
      const slow = bitsOf(this.#slowControls[i]! & (2 ** wanted - 1))
      const outcome = outcomeOf(slow, this.#slowTreatment[i]!)
      this.#mixtures[i]!.add(blockOdds[i]![wanted]![outcome]!)
    }
    this.#open()
  }
}

/** How many are set, of at most eight. */
function bitsOf(bits: number): number {
  let count = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++
  return count
}
