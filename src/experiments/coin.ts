/**
 * Whose failure is it? Given that a unit failed, it is the treatment's with probability w r / (w r + 1 - w), where w is the
 * probability with which it was assigned to the treatment and r the ratio of the failure rates. Neither load nor time of
 * day nor an outage of both arms changes that (Lindon and Malek, NeurIPS 2022, arXiv 2011.03567).
 */

/** The log likelihood ratios of one event: each of several ratios of rates against the ratio of the null hypothesis. */
export class Coin {
  readonly #nullRatio: number
  readonly #ratios: Float64Array
  readonly #treatment: Float64Array
  readonly #control: Float64Array
  /** For which the logarithms were taken: they are the same until the weights change. */
  #share = Number.NaN

  /** `multiples`: the alternatives, as multiples of the null hypothesis's ratio. */
  constructor(nullRatio: number, multiples: readonly number[]) {
    this.#nullRatio = nullRatio
    this.#ratios = Float64Array.from(multiples, (each) => each * nullRatio)
    this.#treatment = new Float64Array(multiples.length)
    this.#control = new Float64Array(multiples.length)
  }

  /** One for each alternative, good until the next call. Undefined where an arm got nothing: then an event says nothing. */
  weigh(isTreatment: boolean, share: number): Float64Array | undefined {
    if (!(share > 0 && share < 1)) return undefined
    if (share !== this.#share) this.#take(share)
    return isTreatment ? this.#treatment : this.#control
  }

  #take(share: number): void {
    this.#share = share
    const ofNull = share * this.#nullRatio + 1 - share
    for (const [j, ratio] of this.#ratios.entries()) {
      const control = Math.log(ofNull / (share * ratio + 1 - share))
      this.#control[j] = control
      this.#treatment[j] = Math.log(ratio / this.#nullRatio) + control
    }
  }
}
