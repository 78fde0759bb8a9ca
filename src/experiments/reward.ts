/**
 * Does the treatment earn less? For rewards that are not rare, or not just yes and no. Asymptotic: it holds for large counts, so it
 * has a burn-in and should have an alpha of its own. For rare rewards take the attribution with its grid for less.
 */
import { Moments, pooledVariance, type SavedMoments } from './moments.ts'
import { logNormalCdf } from './normal.ts'

/** Values of the treatment before anything is said, and how many must be on each side of the control's mean. */
const burnIn = { values: 200, eachSide: 10 }

export interface RewardOptions {
  readonly alpha: number
  /** The part of the control's mean that is still all right, such as 0.98; 1 by default. */
  readonly tolerate?: number
  /** Values of the treatment at which the test should be most sensitive: how many are expected when one wants to decide. */
  readonly plannedValues?: number
}

export interface SavedReward {
  readonly control: SavedMoments
  readonly treatment: SavedMoments
  readonly above: number
  readonly planned: number | null
}

/**
 * ln of the evidence that a mean difference is above 0, from the one-sided normal mixture (Howard et al., Ann. Stat. 49, 2021).
 * `variance`: of the estimated difference. `planned`: the information, 1 / variance, at which it is most sensitive.
 */
export function meanLogE(difference: number, variance: number, planned: number, alpha: number): number {
  const information = 1 / variance
  const score = difference * information
  const rho = mixing(planned, alpha)
  const total = information + rho
  return 0.5 * Math.log((4 * rho) / total) + score ** 2 / (2 * total) + logNormalCdf(score / Math.sqrt(total))
}

/** The parameter of the mixture; one-sided, so it is that of a two-sided one with twice the alpha. */
function mixing(planned: number, alpha: number): number {
  const log = 2 * Math.log(1 / (2 * alpha))
  return planned / (log + Math.log(1 + log))
}

export class Reward {
  readonly #alpha: number
  readonly #tolerate: number
  readonly #plannedValues: number
  readonly #control: Moments
  readonly #treatment: Moments
  /** Values of the treatment above the control's mean when they came: for yes and no, the successes. */
  #above: number
  /** Information, fixed when the burn-in ends. */
  #planned: number | undefined

  constructor({ alpha, tolerate = 1, plannedValues = 2000 }: RewardOptions, saved?: SavedReward) {
    this.#alpha = alpha
    this.#tolerate = tolerate
    this.#plannedValues = plannedValues
    this.#control = new Moments(saved?.control)
    this.#treatment = new Moments(saved?.treatment)
    this.#above = saved?.above ?? 0
    this.#planned = saved?.planned ?? undefined
  }

  /** A reward; the more, the better. Arms must be compared at the same age: a young prediction has not yet earned. */
  add(isTreatment: boolean, value: number): void {
    if (!Number.isFinite(value)) return
    if (!isTreatment) {
      this.#control.add(value)
      return
    }
    this.#treatment.add(value)
    if (value > this.#control.mean) this.#above++
    if (this.#planned === undefined && this.#isBurntIn) {
      this.#planned = this.#plannedValues / this.#treatment.count / this.#variance
    }
  }

  /** 0, which says nothing, before the burn-in is over. */
  get logE(): number {
    if (this.#planned === undefined) return 0
    const difference = this.#part * this.#control.mean - this.#treatment.mean
    return meanLogE(difference, this.#variance, this.#planned, this.#alpha)
  }

  get crossed(): boolean {
    return this.logE >= Math.log(1 / this.#alpha)
  }

  get means(): { control: number; treatment: number } {
    return { control: this.#control.mean, treatment: this.#treatment.mean }
  }

  saved(): SavedReward {
    return {
      control: this.#control.saved(),
      treatment: this.#treatment.saved(),
      above: this.#above,
      planned: this.#planned ?? null,
    }
  }

  get #isBurntIn(): boolean {
    const { count } = this.#treatment
    const fewest = Math.min(this.#above, count - this.#above)
    return count >= burnIn.values && this.#control.count >= burnIn.values && fewest >= burnIn.eachSide
  }

  /** What of the control's mean must be reached: what is tolerated lies below it, also when it is negative. */
  get #part(): number {
    return this.#control.mean < 0 ? 2 - this.#tolerate : this.#tolerate
  }

  /** Of the difference of the means. */
  get #variance(): number {
    const [control, treatment] = [this.#control, this.#treatment]
    return pooledVariance(control, treatment) * (this.#part ** 2 / control.count + 1 / treatment.count)
  }
}
