/**
 * Do the arms get the units that they should (sample-ratio mismatch)? A Bayes factor of the planned shares against a Dirichlet
 * distribution around them (Lindon and Malek, arXiv 2011.03567).
 */
import { logGamma } from './log-gamma.ts'

const usualConcentration = 1000

/** ln of the evidence against `shares` (they sum to 1), for any number of arms with fixed shares. */
export function logBayesFactor(
  counts: readonly number[],
  shares: readonly number[],
  concentration = usualConcentration,
): number {
  const all = counts.reduce((sum, count) => sum + count, 0)
  let log = logGamma(concentration) - logGamma(concentration + all)
  for (const [i, count] of counts.entries()) {
    const prior = concentration * shares[i]!
    log += logGamma(prior + count) - logGamma(prior) - count * Math.log(shares[i]!)
  }
  return log
}

export interface SampleRatioOptions {
  /** Probability of a false alarm. */
  readonly alpha: number
  /** How near to the plan the alternatives are: units of prior knowledge. 1000 by default. */
  readonly concentration?: number
}

export interface SavedSampleRatio {
  readonly logE: number
  readonly share: number
  /** Under the present share. */
  readonly treatment: number
  readonly all: number
  readonly before: Counts
}

/** Units of the treatment, of both arms, and how many the treatment should have. */
export interface Counts {
  readonly treatment: number
  readonly all: number
  readonly expected: number
}

/** Beyond these a product is put into the logarithm. */
const [least, most] = [1e-200, 1e200]

/**
 * The same, one unit at a time: the Bayes factor is the product of what the posterior mean gives each unit's arm over what the
 * plan gives it, (C p + n) / (C + N) / p. Under the plan the mean of that factor, given the past, is the sum over arms
 * of p * (C p + n) / (C + N) / p = 1. That is so with whatever n and N, if they are of the past: so when the share
 * changes, the factors are kept, the counts begin anew, and the product is still an e-process.
 */
export class SampleRatio {
  readonly #threshold: number
  readonly #concentration: number
  /** Evidence is exp(banked) * product: logarithms are dear, and only needed to look. */
  #banked: number
  #product = 1
  #share: number
  #treatment: number
  #all: number
  #before: Counts

  constructor({ alpha, concentration = usualConcentration }: SampleRatioOptions, saved?: SavedSampleRatio) {
    this.#threshold = Math.log(1 / alpha)
    this.#concentration = concentration
    this.#banked = saved?.logE ?? 0
    this.#share = saved?.share ?? 0
    this.#treatment = saved?.treatment ?? 0
    this.#all = saved?.all ?? 0
    this.#before = saved?.before ?? { treatment: 0, all: 0, expected: 0 }
  }

  /** A unit came. `share`: the probability with which it was to go to the treatment; 0 and 1 say nothing and are left out. */
  count(isTreatment: boolean, share: number): void {
    if (!(share > 0 && share < 1)) return
    if (share !== this.#share) this.#change(share)
    const planned = isTreatment ? share : 1 - share
    const count = isTreatment ? this.#treatment++ : this.#all - this.#treatment
    const prior = this.#concentration
    this.#product *= (prior * planned + count) / ((prior + this.#all++) * planned)
    if (this.#product < least || this.#product > most) this.#bank()
  }

  get logE(): number {
    return this.#banked + Math.log(this.#product)
  }

  /** Whether there is evidence enough now. */
  get crossed(): boolean {
    return this.logE >= this.#threshold
  }

  /** Under all shares. */
  get counts(): Counts {
    const before = this.#before
    return {
      treatment: before.treatment + this.#treatment,
      all: before.all + this.#all,
      expected: before.expected + this.#share * this.#all,
    }
  }

  saved(): SavedSampleRatio {
    const { logE } = this
    return { logE, share: this.#share, treatment: this.#treatment, all: this.#all, before: this.#before }
  }

  #change(share: number): void {
    this.#before = this.counts
    this.#share = share
    this.#treatment = 0
    this.#all = 0
  }

  #bank(): void {
    this.#banked += Math.log(this.#product)
    this.#product = 1
  }
}
