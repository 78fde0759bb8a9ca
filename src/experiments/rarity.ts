/** Evidence that the treatment hardly ever fails: less than the floor below which nobody minds, whatever the control does. */
const alternatives = [0.5, 0.25, 0.1, 0]
const logAlternatives = Math.log(alternatives.length)

/**
 * The one-sample likelihood ratio against all rates of `floor` and more, as a mixture over lower ones. A model that never
 * fails cannot be proved to fail less often than its control, because nothing ever happens; but it can be proved to be good.
 */
export class Rarity {
  readonly #floor: number
  readonly #threshold: number
  #failures: number
  #successes: number
  #reached: boolean

  constructor({ floor, alpha }: { readonly floor: number; readonly alpha: number }, saved?: SavedRarity) {
    this.#floor = floor
    this.#threshold = Math.log(1 / alpha)
    this.#failures = saved?.failures ?? 0
    this.#successes = saved?.successes ?? 0
    this.#reached = saved?.reached ?? false
  }

  /** A request to the treatment. */
  request(hasFailed: boolean): void {
    if (hasFailed) this.#failures++
    else this.#successes++
    // A likelihood ratio changes little with one success.
    if (!this.#reached && this.#floor > 0 && (this.#successes & 63) === 0) this.#reached = this.logE >= this.#threshold
  }

  get logE(): number {
    const logs = alternatives.map((part) => {
      const success = this.#successes * (Math.log1p(-part * this.#floor) - Math.log1p(-this.#floor))
      return this.#failures === 0 ? success : success + this.#failures * Math.log(part)
    })
    const most = Math.max(...logs)
    return most + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - most), 0)) - logAlternatives
  }

  /** Once reached, for ever: the promise holds for the first time that it is. */
  get reached(): boolean {
    return this.#reached
  }

  saved(): SavedRarity {
    return { failures: this.#failures, successes: this.#successes, reached: this.#reached }
  }
}

export interface SavedRarity {
  readonly failures: number
  readonly successes: number
  readonly reached: boolean
}
