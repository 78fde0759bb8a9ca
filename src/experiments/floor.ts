/**
 * Does the treatment fail more than a floor below which nobody minds? Where the control hardly ever fails, three failures are
 * many times its rate and still nothing. To be asked for together with the attribution: that both give a false alarm is no
 * likelier than that one does, so it takes no alpha of its own.
 */
import { Mixture, type SavedMixture } from './mixture.ts'

const multiples = [1.5, 2, 4, 8, 16, 64, 250]

export interface FloorOptions {
  readonly alpha: number
  /** Probability of failure, below 1. With 0 there is no floor, and this is always crossed. */
  readonly floor: number
  readonly horizonBlocks?: number
}

export class Floor {
  readonly #alpha: number
  readonly #isNone: boolean
  readonly #failure: Float64Array
  readonly #success: Float64Array
  readonly #mixture: Mixture
  /** Not yet in the mixture: successes are many, and all alike. */
  #successes = 0

  constructor({ alpha, floor, horizonBlocks }: FloorOptions, saved?: SavedMixture) {
    this.#alpha = alpha
    this.#isNone = floor <= 0
    // Under a probability of 1 one success would end all evidence.
    const rates = multiples.map((each) => Math.min(each * floor, 1 - (1 - floor) / 10))
    this.#failure = Float64Array.from(rates, (rate) => (this.#isNone ? 0 : Math.log(rate / floor)))
    this.#success = Float64Array.from(rates, (rate) => Math.log1p(-rate) - Math.log1p(-floor))
    this.#mixture = new Mixture(multiples.length, saved, horizonBlocks)
  }

  /** A request to the treatment. */
  request(hasFailed: boolean): void {
    if (!hasFailed) {
      this.#successes++
      return
    }
    this.#flush()
    this.#mixture.add(this.#failure)
  }

  closeBlock(): void {
    this.#flush()
    this.#mixture.closeBlock()
  }

  get logE(): number {
    this.#flush()
    return this.#mixture.logSinceStart
  }

  get crossed(): boolean {
    if (this.#isNone) return true
    this.#flush()
    return this.#mixture.crosses(this.#alpha)
  }

  saved(): SavedMixture {
    this.#flush()
    return this.#mixture.saved()
  }

  #flush(): void {
    if (this.#successes === 0) return
    this.#mixture.add(this.#success, this.#successes)
    this.#successes = 0
  }
}
