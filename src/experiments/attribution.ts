/** Does the treatment fail more than the control? Judged by whose each failure is, so successes need not be counted. */
import { Coin } from './coin.ts'
import { Mixture, type SavedMixture } from './mixture.ts'

/** How much more the treatment may fail: alternatives of the test, as multiples of what is tolerated. */
export const moreGrid: readonly number[] = [1.5, 2, 3, 5, 10, 30, 100]
/** For rewards that are rare: the treatment earns less. */
export const lessGrid: readonly number[] = [0.95, 0.9, 0.8, 0.7, 0.5, 0.25, 0.05]

export interface AttributionOptions {
  /** Probability of a false alarm, both halves together. */
  readonly alpha: number
  /** The ratio of rates, treatment over control, that is still all right. */
  readonly tolerate: number
  readonly grid?: readonly number[]
  /** Failures of the treatment without which nothing is said; 5, or 0 where the grid looks for fewer events. */
  readonly leastTreatment?: number
  /** Blocks for which the promise of the half that restarts holds. */
  readonly horizonBlocks?: number
}

export interface SavedAttribution {
  readonly mixture: SavedMixture
  readonly treatment: number
  readonly all: number
}

/**
 * The e-process of attribution. The mean of each factor is linear in the probability that the failure is the treatment's,
 * rises with it (falls, for a grid below 1), and is 1 at the tolerated ratio; so it is at most 1 under all that is
 * tolerated, whatever the shares were, if each was fixed before its unit was assigned.
 */
export class Attribution {
  readonly #alpha: number
  readonly #leastTreatment: number
  readonly #coin: Coin
  readonly #mixture: Mixture
  #treatment: number
  #all: number

  constructor(options: AttributionOptions, saved?: SavedAttribution) {
    const { alpha, tolerate, grid = moreGrid, horizonBlocks } = options
    this.#alpha = alpha
    this.#leastTreatment = options.leastTreatment ?? (grid.every((each) => each < 1) ? 0 : 5)
    this.#coin = new Coin(tolerate, grid)
    this.#mixture = new Mixture(grid.length, saved?.mixture, horizonBlocks)
    this.#treatment = saved?.treatment ?? 0
    this.#all = saved?.all ?? 0
  }

  /** A unit failed. `share`: the probability with which it was assigned to the treatment rather than to the control. */
  fail(isTreatment: boolean, share: number): void {
    const increments = this.#coin.weigh(isTreatment, share)
    if (!increments) return
    if (isTreatment) this.#treatment++
    this.#all++
    this.#mixture.add(increments)
  }

  closeBlock(): void {
    this.#mixture.closeBlock()
  }

  /** ln of the evidence since the start. */
  get logE(): number {
    return this.#mixture.logSinceStart
  }

  get logRestarted(): number {
    return this.#mixture.logRestarted
  }

  /** Whether there is evidence enough now. It can be lost again: ask after each failure and each block. */
  get crossed(): boolean {
    return this.#treatment >= this.#leastTreatment && this.#mixture.crosses(this.#alpha)
  }

  get failures(): { treatment: number; all: number } {
    return { treatment: this.#treatment, all: this.#all }
  }

  saved(): SavedAttribution {
    return { mixture: this.#mixture.saved(), treatment: this.#treatment, all: this.#all }
  }
}
