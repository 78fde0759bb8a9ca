/**
 * Pairs: the same request to both models (shadow). Only pairs of which one is bad and the other good say anything; if the new
 * model is not worse, it is the bad one in half of them at most (McNemar's test, as an e-process).
 */
import { moreGrid } from './attribution.ts'
import { logSumExp } from './mixture.ts'

const whenWorse = Float64Array.from(moreGrid, (ratio) => Math.log((2 * ratio) / (1 + ratio)))
const whenBetter = Float64Array.from(moreGrid, (ratio) => Math.log(2 / (1 + ratio)))
const atoms = new Float64Array(moreGrid.length)

/** ln of the evidence that the new model is worse. `worse`: pairs of which only its answer was bad; `better`: the reverse. */
export function pairedLogE(worse: number, better: number): number {
  for (let j = 0; j < atoms.length; j++) atoms[j] = worse * whenWorse[j]! + better * whenBetter[j]!
  return logSumExp(atoms) - Math.log(atoms.length)
}

export interface SavedPaired {
  readonly worse: number
  readonly better: number
}

export class Paired {
  readonly #threshold: number
  #worse: number
  #better: number

  constructor({ alpha }: { readonly alpha: number }, saved?: SavedPaired) {
    this.#threshold = Math.log(1 / alpha)
    this.#worse = saved?.worse ?? 0
    this.#better = saved?.better ?? 0
  }

  /** A pair of which one is bad and the other good. */
  add(isWorse: boolean): void {
    if (isWorse) this.#worse++
    else this.#better++
  }

  get logE(): number {
    return pairedLogE(this.#worse, this.#better)
  }

  /** Whether there is evidence enough now: ask after each pair. */
  get crossed(): boolean {
    return this.logE >= this.#threshold
  }

  saved(): SavedPaired {
    return { worse: this.#worse, better: this.#better }
  }
}
