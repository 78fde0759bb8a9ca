/** Evidence that the treatment is well: that it fails less than `ratio` times as often as the control. */
import { Coin } from './coin.ts'
import { Mixture, type SavedMixture } from './mixture.ts'

const grid = [0.75, 0.6, 0.5, 0.35, 0.2]

export interface CertificateOptions {
  readonly ratio: number
  /** Probability to certify what is not so. */
  readonly alpha: number
}

export interface SavedCertificate {
  readonly mixture: SavedMixture
  readonly reached: boolean
}

/** The attribution from the other side: against all ratios of `ratio` and more. Since the start only, with all of alpha. */
export class Certificate {
  readonly #threshold: number
  readonly #coin: Coin
  readonly #mixture: Mixture
  #reached: boolean

  constructor({ ratio, alpha }: CertificateOptions, saved?: SavedCertificate) {
    this.#threshold = Math.log(1 / alpha)
    this.#coin = new Coin(ratio, grid)
    this.#mixture = new Mixture(grid.length, saved?.mixture)
    this.#reached = saved?.reached ?? false
  }

  /** A unit failed; `share` as for the attribution. */
  fail(isTreatment: boolean, share: number): void {
    const increments = this.#coin.weigh(isTreatment, share)
    if (!increments || this.#reached) return
    this.#mixture.add(increments)
    this.#reached = this.#mixture.logSinceStart >= this.#threshold
  }

  /** Once reached, for ever: the promise holds for the first time that it is. */
  get reached(): boolean {
    return this.#reached
  }

  saved(): SavedCertificate {
    return { mixture: this.#mixture.saved(), reached: this.#reached }
  }
}
