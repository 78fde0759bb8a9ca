/**
 * One experiment: it listens to what becomes of requests, runs and shadows, and says how far its treatment has got. It
 * decides and never acts: whoever holds the split is told of each new state.
 */
import type { Clock } from '../core/clock.ts'
import { Agreement, type SavedAgreement } from './agreement.ts'
import { Evidence, type Judged, type SavedEvidence } from './evidence.ts'
import { Metrics, type MetricsSetup } from './feedback/metrics.ts'
import { metricAlarms, metricReports } from './metric-reports.ts'
import type { CanaryStep, ExperimentOptions } from './options.ts'
import { Paired, type SavedPaired } from './paired.ts'
import {
  act,
  advance,
  begin,
  hold,
  missing,
  type Alarm,
  type ByHand,
  type Facts,
  type RolloutState,
} from './rollout.ts'
import type { TimedRun } from './run-times.ts'
import { proportionInterval } from './intervals.ts'
import { Units } from './units.ts'

/** A request of one of the two arms, once its outcome is known. */
export interface Settled {
  readonly isTreatment: boolean
  /** Probability with which its unit was to go to the treatment rather than to the control. */
  readonly share: number
  readonly hasFailed: boolean
  /** What was assigned, if that is more than this one request. */
  readonly unit: string | undefined
}

/** Evidence of replicas, added up. */
export interface SharedCounts {
  add(field: string, by: number): void
  onDelta(callback: (deltas: ReadonlyMap<string, number>) => void): void
  close(): void
}

export interface ExperimentTools {
  readonly clock: Clock
  /** Undefined where this gateway is the only one. */
  readonly counts: SharedCounts | undefined
  /** Told of each new state, and of the one before. */
  readonly onState: (state: RolloutState, before: RolloutState) => void
  /** Told of guards that sound and change nothing. */
  readonly onAlert: (alarm: Alarm) => void
  /** Now and then: what is known has changed. */
  readonly onProgress: () => void
}

export interface SavedExperiment {
  /** Generation with which it began. */
  readonly since: number
  readonly state: RolloutState
  readonly evidence?: SavedEvidence | undefined
  readonly metrics?: unknown
  readonly agreement?: SavedAgreement | undefined
  readonly shadowFailures?: SavedPaired | undefined
  readonly failedUnits?: readonly string[] | undefined
  /** Units of the treatment when the step began. */
  readonly unitsBefore?: number | undefined
}

export interface ExperimentSetup {
  readonly options: ExperimentOptions
  /** Names of the arms. */
  readonly control: string
  readonly treatment: string
  /** What the configuration gives the treatment of what both get. */
  readonly share: number
  /** Generation with which it began. */
  readonly since: number
}

const tickMs = 1_000
const blockTicks = 10
/** Confidence of what is said of shadows and metrics in reports. */
const reportAlpha = 0.05

export class Experiment {
  readonly setup: ExperimentSetup
  readonly metrics: Metrics
  readonly agreement: Agreement
  readonly #tools: ExperimentTools
  readonly #evidence: Evidence
  readonly #shadowFailures: Paired
  readonly #units: Units
  #state: RolloutState
  #share: number
  #unitsBefore: number
  #ticks = 0
  /** Units of both arms as of the last block, and in it. */
  #unitsAtBlock: number
  #unitsInBlock: number | undefined
  /** As of the last block: it takes long to look. */
  #metricAlarms: readonly Alarm[] = []
  readonly #alerted = new Set<string>()
  #cancelTick: () => void = () => {}

  constructor(setup: ExperimentSetup, tools: ExperimentTools, saved?: SavedExperiment) {
    const { options, share } = setup
    this.setup = setup
    this.#tools = tools
    this.#evidence = new Evidence(options, tools.counts ? undefined : saved?.evidence)
    this.metrics = metricsOf(setup, saved?.metrics)
    this.agreement = new Agreement(saved?.agreement)
    this.#shadowFailures = new Paired(options.shadowFailures, saved?.shadowFailures)
    this.#units = new Units(saved?.failedUnits)
    this.#share = share
    this.#state = saved?.state ?? begin(options, this.#now())
    this.#unitsBefore = saved?.unitsBefore ?? 0
    this.#unitsAtBlock = this.#bothUnits
    tools.counts?.onDelta((deltas) => this.#take(deltas))
    this.#tick()
  }

  get state(): RolloutState {
    return this.#state
  }

  /** A request that was drawn for one of the two arms has its outcome. */
  settled({ isTreatment, share, hasFailed, unit }: Settled): void {
    const { isNew, isFailure } =
      unit === undefined ? { isNew: true, isFailure: hasFailed } : this.#units.count(unit, hasFailed)
    if (!isNew && !isFailure) return
    const { counts } = this.#tools
    if (counts) return counts.add(fieldOf(isTreatment, share, isNew, isFailure), 1)
    this.#evidence.settled({ isTreatment, share, isNew, isFailure })
    if (isFailure && isTreatment && this.#evidence.isUrgent) this.#decide()
  }

  /** A run of the version of an arm. */
  ran(isTreatment: boolean, key: string, rows: number, computeMs: number): void {
    this.#evidence.ran(isTreatment, key, rows, computeMs)
  }

  /** What runs of the control took before there were requests. */
  seed(runs: readonly TimedRun[]): void {
    this.#evidence.seed(runs)
  }

  /** A shadow of the treatment failed where the control answered, or the other way round. */
  shadowDiffered(isWorse: boolean): void {
    this.#shadowFailures.add(isWorse)
    if (isWorse && this.#shadowFailures.crossed) this.#decide()
  }

  /** What would become of it if somebody said so; or why that cannot be. */
  act(action: ByHand): RolloutState | string {
    return act(this.#state, this.setup.options, action, this.#now())
  }

  /** What would become of it if somebody set the treatment's share; or why that cannot be. */
  hold(share: number): RolloutState | string {
    return hold(this.#state, share, this.#tools.clock.epoch())
  }

  /** What the treatment is given of what both get, where nothing else decides. */
  want(share: number): void {
    this.#share = share
    if (this.#state.phase === 'steady' && this.#state.share !== share) this.#state = { ...this.#state, share }
  }

  /** Units of both arms in a second, of late; undefined before that is known. */
  get unitsPerS(): number | undefined {
    return this.#unitsInBlock === undefined ? undefined : (1_000 * this.#unitsInBlock) / (tickMs * blockTicks)
  }

  /** Somebody, or another gateway, has led it into a state of the same round. */
  adopt(state: RolloutState, unitsBefore: number = this.#evidence.units.treatment): void {
    this.#state = state
    this.#unitsBefore = unitsBefore
  }

  get figures(): Evidence['figures'] {
    return this.#evidence.figures
  }

  /** How near each guard is to sounding: at 1 it does. */
  get levels(): { readonly guard: string; readonly ratio: number }[] {
    const { failures, slowness, sampleRatio } = this.figures
    return Object.entries({ failures, slowness, sample_ratio: sampleRatio }).map(([guard, { evidence, soundsAt }]) => {
      return { guard, ratio: Math.max(0, evidence / soundsAt) }
    })
  }

  /** Everything that is known, for people and programs. */
  report() {
    const { options, control, treatment } = this.setup
    const { clock } = this.#tools
    const steps = options.kind === 'canary' ? options.steps : []
    const facts = this.#facts()
    const isMoving = this.#state.phase === 'ramping'
    return {
      kind: options.kind,
      control,
      treatment,
      ...this.#state,
      steps: steps.length,
      waitsFor: isMoving ? missing(this.#state, steps, facts, clock.epoch()) : [],
      sounding: facts.alarms,
      evidence: this.figures,
      shadow: { ...this.agreement.summary(proportionInterval, reportAlpha), failures: this.#shadowFailures.saved() },
      metrics: metricReports(options, this.metrics, clock.epoch() - this.#state.sinceMs),
    }
  }

  saved(): SavedExperiment {
    return {
      since: this.setup.since,
      state: this.#state,
      evidence: this.#evidence.saved(),
      metrics: this.metrics.saved(),
      agreement: this.agreement.saved(),
      shadowFailures: this.#shadowFailures.saved(),
      failedUnits: this.#units.saved(),
      unitsBefore: this.#unitsBefore,
    }
  }

  close(): void {
    this.#cancelTick()
    this.#tools.counts?.close()
  }

  #now() {
    return { nowMs: this.#tools.clock.epoch(), share: this.#share }
  }

  get #bothUnits(): number {
    const { control, treatment } = this.#evidence.units
    return control + treatment
  }

  #facts(): Facts {
    return {
      alarms: [...this.#evidence.alarms, ...this.#shadowAlarms(), ...this.#metricAlarms],
      isMismatched: this.#evidence.isMismatched,
      units: this.#evidence.units.treatment - this.#unitsBefore,
      isProved: (step: CanaryStep) => this.#evidence.isProved(step),
      isShadowGood: this.#state.phase === 'shadow' && this.#isShadowGood(),
    }
  }

  #isShadowGood(): boolean {
    const { minPairs, targetAgreement } = this.setup.options.comparison
    const { pairs, low } = this.agreement.summary(proportionInterval, reportAlpha)
    return pairs >= minPairs && low >= targetAgreement
  }

  #shadowAlarms(): Alarm[] {
    if (!this.#shadowFailures.crossed) return []
    const { worse, better } = this.#shadowFailures.saved()
    const { action } = this.setup.options.shadowFailures
    const words = `its shadow failed ${worse} times where the control answered, and answered ${better} times where the control failed`
    return [{ guard: 'shadow', action, words }]
  }

  #decide(): void {
    const facts = this.#facts()
    const next = advance(this.#state, this.setup.options, facts, this.#now())
    if (next) this.#enter(next)
    for (const alarm of facts.alarms) {
      if (alarm.action !== 'alert' || this.#alerted.has(alarm.guard)) continue
      this.#alerted.add(alarm.guard)
      this.#tools.onAlert(alarm)
    }
  }

  #enter(next: RolloutState): void {
    const before = this.#state
    this.#state = next
    this.#unitsBefore = this.#evidence.units.treatment
    this.#tools.onState(next, before)
  }

  #take(deltas: ReadonlyMap<string, number>): void {
    const all = [...deltas].flatMap(([field, count]) => {
      const judged = judgedOf(field)
      return judged ? [{ judged, count }] : []
    })
    for (const { judged, count } of all.toSorted((a, b) => inTurn(a.judged, b.judged)))
      for (let i = 0; i < count; i++) this.#evidence.settled(judged)
    this.#decide()
  }

  #tick(): void {
    this.#cancelTick = this.#tools.clock.after(tickMs, () => {
      this.#ticks++
      if (this.#ticks % blockTicks === 0) {
        this.#evidence.closeBlock()
        this.#unitsInBlock = this.#bothUnits - this.#unitsAtBlock
        this.#unitsAtBlock = this.#bothUnits
        this.#metricAlarms = metricAlarms(this.setup.options, this.metrics)
        this.#tools.onProgress()
      }
      this.#decide()
      this.#tick()
    })
  }
}

function metricsOf({ options, control, treatment, since }: ExperimentSetup, saved: unknown): Metrics {
  const setup: MetricsSetup = { options: options.feedback, control, treatment, since }
  const restored = saved === undefined ? undefined : Metrics.restore(setup, saved)
  return restored instanceof Metrics ? restored : new Metrics(setup)
}

/** Counts of what is alike, under one name. */
function fieldOf(isTreatment: boolean, share: number, isNew: boolean, isFailure: boolean): string {
  return `${isTreatment ? 't' : 'c'}${isNew ? 'n' : ''}${isFailure ? 'f' : ''} ${share}`
}

/**
 * In which order counts came is not known. One share after the other, since arms are compared under one; and first what
 * speaks against the treatment, so that nothing is proved too soon.
 */
function inTurn(a: Judged, b: Judged): number {
  return a.share - b.share || goodness(a) - goodness(b)
}

/** How much a unit speaks for the treatment. */
function goodness({ isTreatment, isFailure }: Judged): number {
  if (!isFailure) return 1
  return isTreatment ? 0 : 2
}

function judgedOf(field: string): Judged | undefined {
  const [, arm, isNew, isFailure, share] = /^([tc])(n?)(f?) ([\d.e-]+)$/.exec(field) ?? []
  if (share === undefined) return undefined
  return { isTreatment: arm === 't', share: Number(share), isNew: isNew !== '', isFailure: isFailure !== '' }
}
