/** What is slow for a run of its size: thresholds from the control's last runs of that size. */
import { Recent } from './recent.ts'
import { quantiles, treatmentQuantiles } from './slow-odds.ts'

const [mostStrata, remembered, enough] = [32, 256, 64]
/** Runs of the control after which thresholds are taken again: to sort for each would cost more than the test. */
const stale = 64

/** For each quantile, how many runs it takes to tell it: from fewer none of them would be beyond it as often as should be. */
const leastRuns = treatmentQuantiles.map((part) => Math.max(enough, Math.ceil(part / (1 - part) - 1e-9)))

export class Stratum {
  readonly #recent: Recent
  readonly #control = new Float64Array(quantiles.length)
  readonly #treatment = new Float64Array(quantiles.length)
  /** For each quantile: runs since its thresholds were taken, and the block that had a run of this stratum last. */
  readonly #since = new Float64Array(quantiles.length)
  readonly #block = new Float64Array(quantiles.length)
  usedAt = 0

  constructor(saved: readonly number[] = []) {
    this.#recent = new Recent(remembered, saved)
    this.#since.fill(Infinity)
  }

  add(ratio: number): void {
    this.#recent.add(ratio)
    for (let i = 0; i < this.#since.length; i++) this.#since[i]!++
  }

  clear(): void {
    this.#recent.clear()
    this.#since.fill(Infinity)
    this.#block.fill(0)
  }

  knows(quantile: number): boolean {
    return this.#recent.count >= leastRuns[quantile]!
  }

  /** `quantile`: which. They are the same throughout a block, and so never of runs in it: `block` says which it is. */
  threshold(quantile: number, block: number, isTreatment: boolean): number {
    const isNewBlock = this.#block[quantile] !== block
    this.#block[quantile] = block
    if (isNewBlock && this.#since[quantile]! >= stale) this.#take(quantile)
    return (isTreatment ? this.#treatment : this.#control)[quantile]!
  }

  saved(): number[] {
    return this.#recent.saved()
  }

  median(): number {
    return this.#recent.quantile(0.5)
  }

  #take(quantile: number): void {
    this.#since[quantile] = 0
    this.#control[quantile] = this.#recent.quantile(quantiles[quantile]!)
    this.#treatment[quantile] = this.#recent.quantile(treatmentQuantiles[quantile]!)
  }
}

/** By name; the one used least recently makes room. */
export class Strata {
  readonly #strata = new Map<string, Stratum>()
  #now = 0

  get(name: string): Stratum | undefined {
    const stratum = this.#strata.get(name)
    if (stratum) stratum.usedAt = ++this.#now
    return stratum
  }

  add(name: string, ratio: number): void {
    const stratum = this.get(name) ?? this.#make(name)
    stratum.add(ratio)
  }

  #make(name: string): Stratum {
    const stratum = this.#strata.size < mostStrata ? new Stratum() : this.#takeOldest()
    stratum.usedAt = ++this.#now
    this.#strata.set(name, stratum)
    return stratum
  }

  #takeOldest(): Stratum {
    let [oldest, stratum]: [string, Stratum] = this.#strata.entries().next().value!
    for (const [name, each] of this.#strata) if (each.usedAt < stratum.usedAt) [oldest, stratum] = [name, each]
    this.#strata.delete(oldest)
    stratum.clear()
    return stratum
  }
}
