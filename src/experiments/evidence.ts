/**
 * All that is known of a treatment and its control, gathered request by request, and the guards that judge by it. What
 * counts is the unit of assignment; a failure is what went wrong after a request was assigned, whoever made it good.
 */
import { Attribution, type SavedAttribution } from './attribution.ts'
import { Certificate, type SavedCertificate } from './certificate.ts'
import { Floor } from './floor.ts'
import type { SavedMixture } from './mixture.ts'
import type { CanaryStep, ExperimentOptions } from './options.ts'
import { Rarity, type SavedRarity } from './rarity.ts'
import { belowOf, type Alarm } from './rollout.ts'
import { RunTimes, type TimedRun } from './run-times.ts'
import { SampleRatio, type SavedSampleRatio } from './sample-ratio.ts'
import { Slowness, type SavedSlowness } from './slowness.ts'

/** What became of a unit's request. */
export interface Judged {
  readonly isTreatment: boolean
  /** Probability with which it was to go to the treatment rather than to the control. */
  readonly share: number
  /** Whether it is the first that is seen of its unit, and the first failure. */
  readonly isNew: boolean
  readonly isFailure: boolean
}

export interface SavedEvidence {
  readonly failures: SavedAttribution
  readonly floor: SavedMixture
  readonly rarity: SavedRarity
  readonly certificates: readonly SavedCertificate[]
  readonly slowness: SavedSlowness
  readonly ratio: SavedSampleRatio
  readonly units: ArmCounts
  readonly failed: ArmCounts
}

export interface ArmCounts {
  readonly control: number
  readonly treatment: number
}

/** That what is proved for a step is not so. */
const proofAlpha = 0.05
/** That arms are said not to get what they should, and do. */
const ratioAlpha = 0.001

export class Evidence {
  readonly #options: ExperimentOptions
  readonly #failures: Attribution
  readonly #floor: Floor
  readonly #rarity: Rarity
  /** By the multiple that they rule out. */
  readonly #certificates: ReadonlyMap<number, Certificate>
  readonly #slowness: Slowness
  readonly #times = new RunTimes()
  readonly #ratio: SampleRatio
  readonly #units: { control: number; treatment: number }
  readonly #failed: { control: number; treatment: number }

  constructor(options: ExperimentOptions, saved?: SavedEvidence) {
    const { failures, slowness } = options
    this.#options = options
    this.#failures = new Attribution(failures, saved?.failures)
    this.#floor = new Floor(failures, saved?.floor)
    this.#rarity = new Rarity({ floor: failures.floor, alpha: proofAlpha }, saved?.rarity)
    this.#certificates = new Map(
      ratiosOf(options).map((ratio, i) => [
        ratio,
        new Certificate({ ratio, alpha: proofAlpha }, saved?.certificates[i]),
      ]),
    )
    this.#slowness = new Slowness(slowness, saved?.slowness)
    this.#ratio = new SampleRatio({ alpha: ratioAlpha }, saved?.ratio)
    this.#units = { ...(saved?.units ?? { control: 0, treatment: 0 }) }
    this.#failed = { ...(saved?.failed ?? { control: 0, treatment: 0 }) }
  }

  settled({ isTreatment, share, isNew, isFailure }: Judged): void {
    const arm = isTreatment ? 'treatment' : 'control'
    if (isNew) {
      this.#units[arm]++
      this.#ratio.count(isTreatment, share)
      // Of a unit that fails later only that is added, which is no request more than there were.
      if (isTreatment && !isFailure) this.#tried(false)
    }
    if (!isFailure) return
    this.#failed[arm]++
    if (isTreatment) this.#tried(true)
    this.#failures.fail(isTreatment, share)
    for (const certificate of this.#certificates.values()) certificate.fail(isTreatment, share)
  }

  /** A run of the version of an arm. */
  ran(isTreatment: boolean, key: string, rows: number, computeMs: number): void {
    const expected = this.#times.expected(key, rows)
    if (expected) this.#slowness.run(isTreatment, computeMs / expected.ms, expected.stratum, expected.ms)
    if (!isTreatment) this.#times.learn(key, rows, computeMs)
  }

  /** What runs of the control took before there were requests. */
  seed(runs: readonly TimedRun[]): void {
    this.#times.seed(runs)
  }

  /** Every ten seconds. */
  closeBlock(): void {
    this.#failures.closeBlock()
    this.#floor.closeBlock()
    this.#slowness.closeBlock()
  }

  /** Guards that sound now. */
  get alarms(): Alarm[] {
    const { failures, slowness } = this.#options
    const alarms: Alarm[] = []
    if (this.#failures.crossed && this.#floor.crossed)
      alarms.push({ guard: 'failures', action: failures.action, words: this.#failureWords() })
    if (this.#slowness.crossed) alarms.push({ guard: 'slowness', action: slowness.action, words: this.#slowWords() })
    return alarms
  }

  /** Whether failures or runs have settled it, so that nothing should wait for the next look. */
  get isUrgent(): boolean {
    return this.#failures.crossed || this.#slowness.crossed
  }

  /** Whether the arms get what they should not. */
  get isMismatched(): boolean {
    return this.#ratio.crossed
  }

  /** Units that came. */
  get units(): ArmCounts {
    return this.#units
  }

  isProved(step: CanaryStep): boolean {
    const below = belowOf(step)
    return below === 'off' || this.#rarity.reached || (this.#certificates.get(below)?.reached ?? false)
  }

  /** Everything in numbers. Evidence is in natural logarithms; it sounds at `soundsAt`, in either of its halves. */
  get figures() {
    const { failures, slowness } = this.#options
    const { treatment, all, expected } = this.#ratio.counts
    return {
      units: { ...this.#units },
      failed: { ...this.#failed },
      failures: {
        evidence: this.#failures.logE,
        restarted: finite(this.#failures.logRestarted),
        soundsAt: Math.log(2 / failures.alpha),
        aboveFloor: this.#floor.crossed,
      },
      slowness: {
        evidence: Math.max(...this.#slowness.logE),
        soundsAt: Math.log(6 / slowness.alpha),
        tolerate: slowness.tolerate,
        medianRatios: this.#slowness.medians,
      },
      sampleRatio: { treatment, all, expected, evidence: this.#ratio.logE, soundsAt: Math.log(1 / ratioAlpha) },
      proved: [...this.#certificates].filter(([, { reached }]) => reached).map(([below]) => below),
      isRare: this.#rarity.reached,
    }
  }

  saved(): SavedEvidence {
    return {
      failures: this.#failures.saved(),
      floor: this.#floor.saved(),
      rarity: this.#rarity.saved(),
      certificates: [...this.#certificates.values()].map((each) => each.saved()),
      slowness: this.#slowness.saved(),
      ratio: this.#ratio.saved(),
      units: { ...this.#units },
      failed: { ...this.#failed },
    }
  }

  #tried(hasFailed: boolean): void {
    this.#floor.request(hasFailed)
    this.#rarity.request(hasFailed)
  }

  #failureWords(): string {
    const { treatment, all } = this.#failures.failures
    const { alpha } = this.#options.failures
    const units = this.#units
    const rates = `${rate(this.#failed.treatment, units.treatment)} of its units against ${rate(this.#failed.control, units.control)}`
    return `it fails more often than the control: ${treatment} of ${all} failures, ${rates} (by chance in at most ${alpha} of healthy rollouts)`
  }

  #slowWords(): string {
    const { control, treatment } = this.#slowness.medians
    const { alpha } = this.#options.slowness
    return `its runs take ${(treatment / control).toFixed(2)} times as long as the control's for batches of the same size (median; by chance in at most ${alpha} of healthy rollouts)`
  }
}

function ratiosOf(options: ExperimentOptions): number[] {
  if (options.kind === 'ab') return []
  return [...new Set(options.steps.map(belowOf))].filter((each) => each !== 'off').toSorted((a, b) => b - a)
}

function rate(failed: number, units: number): string {
  return units === 0 ? 'none' : `${((100 * failed) / units).toFixed(2)} %`
}

/** JSON has no infinity. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null
}
