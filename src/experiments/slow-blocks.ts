/** The test of slowness at one quantile, block by block. */
import { Mixture, type SavedMixture } from './mixture.ts'
import { alternatives, blockOdds, mostControls, outcomeOf } from './slow-odds.ts'

/** Runs after which the older ones count half: few, because shares change, and a block too large waits for the control. */
const memory = 128
/** Runs of the control in a block without one of the treatment, after which it begins anew, lest its thresholds be old. */
const longest = 64

interface SavedBlocks {
  readonly mixture?: SavedMixture | undefined
  /** Of each arm, the older ones counting less. */
  readonly runs: readonly [control: number, treatment: number]
}

/** A block is one run of the treatment and the m runs of the control nearest to it. */
export class SlowBlocks {
  readonly mixture: Mixture
  readonly #odds: readonly (readonly Float64Array[])[]
  readonly #runs: { control: number; treatment: number }
  #number = 0
  /** The runs of the control wanted and seen. */
  #wanted = 0
  #seen = 0
  /** The control's last runs as bits: 1 was slow. */
  #slowControls = 0
  #hasTreatment = false
  #slowTreatment = 0

  /** `at`: which of the quantiles. */
  constructor(at: number, { mixture, runs }: SavedBlocks, horizonBlocks: number | undefined) {
    this.mixture = new Mixture(alternatives, mixture, horizonBlocks)
    this.#odds = blockOdds[at]!
    this.#runs = { control: runs[0], treatment: runs[1] }
    this.#open()
  }

  /** Which block it is. */
  get number(): number {
    return this.#number
  }

  get runs(): SavedBlocks['runs'] {
    return [this.#runs.control, this.#runs.treatment]
  }

  ofControl(isSlow: boolean): void {
    this.#count('control')
    this.#slowControls = (this.#slowControls << 1) | Number(isSlow)
    this.#seen++
    if (this.#hasTreatment && this.#seen >= this.#wanted) this.#close()
    else if (!this.#hasTreatment && this.#seen >= longest) this.#open()
  }

  ofTreatment(isSlow: boolean): void {
    this.#count('treatment')
    if (this.#hasTreatment) return
    this.#hasTreatment = true
    this.#slowTreatment = Number(isSlow)
    if (this.#seen >= this.#wanted) this.#close()
  }

  #count(arm: 'control' | 'treatment'): void {
    const runs = this.#runs
    runs[arm]++
    if (runs.control + runs.treatment < memory) return
    runs.control /= 2
    runs.treatment /= 2
  }

  #open(): void {
    const { control, treatment } = this.#runs
    this.#number++
    this.#wanted = Math.min(mostControls, Math.max(1, Math.round(control / Math.max(1, treatment))))
    this.#seen = 0
    this.#hasTreatment = false
  }

  #close(): void {
    const wanted = this.#wanted
    const slow = bitsOf(this.#slowControls & (2 ** wanted - 1))
    this.mixture.add(this.#odds[wanted]![outcomeOf(slow, this.#slowTreatment)]!)
    this.#open()
  }
}

/** How many are set, of at most eight. */
function bitsOf(bits: number): number {
  let count = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++
  return count
}
