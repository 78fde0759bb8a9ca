/**
 * Evidence as a uniform mixture of likelihood ratios ("atoms"), kept as logarithms (natural). Each atom must be an e-process:
 * under the hypothesis it is against, the mean of every factor given the past is at most 1. Then a mixture passes 1/alpha with
 * probability alpha at most, however often one looks (Ville's inequality).
 */

/** What `JSON.stringify` can hold: minus infinity is null. */
export interface SavedMixture {
  readonly sum: readonly number[]
  readonly block: readonly number[]
  readonly restarted: readonly (number | null)[]
}

/** ln of the sum of exponentials, without overflow. Minus infinity for an empty list. */
export function logSumExp(values: Float64Array): number {
  const most = largest(values)
  if (most === -Infinity) return most
  let sum = 0
  for (let j = 0; j < values.length; j++) sum += Math.exp(values[j]! - most)
  return most + Math.log(sum)
}

/** Blocks of 10 s in a day: how long the promise of the half that restarts holds. */
const dayOfBlocks = 8640

/**
 * Two tests that share alpha. One has run since the start. It loses evidence as long as all is well, so it is late for what
 * begins late; therefore the other starts anew with every block (Shiryaev and Roberts; e-detectors, Shin, Ramdas, Rinaldo,
 * arXiv 2203.03532): R(n) = (1 + R(n - 1)) * (the block's factor) is the sum of the tests begun at each block, so R over
 * the number of blocks is a mean of e-processes, and one itself.
 */
export class Mixture {
  readonly #sum: Float64Array
  readonly #block: Float64Array
  readonly #restarted: Float64Array
  readonly #horizonBlocks: number
  readonly #logAtoms: number
  #logRestarted: number

  /** `saved` counts only if it has as many atoms, and must come from a test of the same hypothesis. */
  constructor(atoms: number, saved?: SavedMixture, horizonBlocks = dayOfBlocks) {
    const kept = saved?.sum.length === atoms ? saved : undefined
    this.#sum = kept ? Float64Array.from(kept.sum) : new Float64Array(atoms)
    this.#block = kept ? Float64Array.from(kept.block) : new Float64Array(atoms)
    this.#restarted = kept
      ? Float64Array.from(kept.restarted, (each) => each ?? -Infinity)
      : new Float64Array(atoms).fill(-Infinity)
    this.#horizonBlocks = horizonBlocks
    this.#logAtoms = Math.log(atoms)
    this.#logRestarted = logSumExp(this.#restarted) - this.#logAtoms
  }

  /** An observation's log likelihood ratio, one for each atom; or that of `times` such observations. */
  add(increments: Float64Array, times = 1): void {
    const [sum, block] = [this.#sum, this.#block]
    for (let j = 0; j < sum.length; j++) {
      const increment = times * increments[j]!
      sum[j]! += increment
      block[j]! += increment
    }
  }

  /** Every 10 s: what follows is a block of its own. */
  closeBlock(): void {
    const [restarted, block] = [this.#restarted, this.#block]
    for (let j = 0; j < restarted.length; j++) restarted[j] = logOnePlusExp(restarted[j]!) + block[j]!
    block.fill(0)
    this.#logRestarted = logSumExp(restarted) - this.#logAtoms
  }

  get logSinceStart(): number {
    return logSumExp(this.#sum) - this.#logAtoms
  }

  /** As of the last closed block; to be compared with the number of blocks over alpha. Minus infinity before the first. */
  get logRestarted(): number {
    return this.#logRestarted
  }

  /** Whether one of the halves has its evidence now; each has half of `alpha`. Ask after each observation and block. */
  crosses(alpha: number): boolean {
    if (this.#logRestarted >= Math.log((2 * this.#horizonBlocks) / alpha)) return true
    const threshold = Math.log(2 / alpha)
    // No mean is above the largest, and to find that takes no exponentials.
    return largest(this.#sum) >= threshold && this.logSinceStart >= threshold
  }

  saved(): SavedMixture {
    return {
      sum: [...this.#sum],
      block: [...this.#block],
      restarted: Array.from(this.#restarted, (each) => (each === -Infinity ? null : each)),
    }
  }
}

function largest(values: Float64Array): number {
  let most = -Infinity
  for (let j = 0; j < values.length; j++) if (values[j]! > most) most = values[j]!
  return most
}

/** ln(1 + exp(x)), without overflow. */
function logOnePlusExp(x: number): number {
  return x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x))
}
