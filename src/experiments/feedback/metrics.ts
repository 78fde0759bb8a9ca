/**
 * What was told of the predictions of one experiment: counts and moments, from which others draw conclusions. Only
 * predictions whose arm was drawn are counted, because forced ones are a selection.
 */
import * as z from 'zod'
import { greatestValue, type FeedbackOptions, type MetricOptions } from './options.ts'
import type { PredictionFacts } from './token.ts'

/** Events among predictions that were drawn with one probability for the treatment. */
const shareCounts = z
  .strictObject({ treatment: z.int().min(0), all: z.int().min(1), share: z.number().gt(0).lt(1) })
  .refine(({ treatment, all }) => treatment <= all)
export type ShareCounts = z.output<typeof shareCounts>

/** Of values: how many, their mean, and the sum of the squares of what they differ from it (Welford 1962). */
const valueMoments = z.strictObject({ count: z.int().min(0), mean: z.number(), m2: z.number().min(0) })
export type ValueMoments = z.output<typeof valueMoments>

const arms = ['control', 'treatment'] as const
type Arm = (typeof arms)[number]
const byArm = <S extends z.ZodType>(schema: S) => z.strictObject({ control: schema, treatment: schema })

const savedMetrics = z.strictObject({
  since: z.int().min(0),
  predicted: byArm(z.int().min(0)),
  events: z.record(z.string(), z.array(shareCounts).max(64)),
  values: z.record(z.string(), byArm(valueMoments)),
})
/** As JSON. */
export type SavedMetrics = z.output<typeof savedMetrics>

export interface MetricsSetup {
  readonly options: FeedbackOptions
  /** Names of the two arms; predictions of others are not counted. */
  readonly control: string
  readonly treatment: string
  /** Generation with which the experiment began: what is older belongs to another one. */
  readonly since: number
}

/** Totals of one metric, to be read as a whole: shares that are merged change what was read before. */
export type MetricSummary =
  | { readonly kind: 'event'; readonly direction: 'more' | 'fewer'; readonly epochs: readonly ShareCounts[] }
  | ({ readonly kind: 'value'; readonly direction: 'more' | 'fewer' } & Readonly<Record<Arm, ValueMoments>>)

export interface MetricsSummary {
  /** Predictions that feedback may come for. */
  readonly predicted: Readonly<Record<Arm, number>>
  readonly metrics: ReadonlyMap<string, MetricSummary>
}

type Evidence = Pick<PredictionFacts, 'arm' | 'share'>

export class Metrics {
  readonly options: FeedbackOptions
  readonly since: number
  /** Of the metrics, in the order of the options. */
  readonly names: readonly string[]
  readonly #arms: ReadonlyMap<string, Arm>
  readonly #predicted: Record<Arm, number>
  readonly #metrics: ReadonlyMap<string, EventCounts | ValueCounts>

  constructor({ options, control, treatment, since }: MetricsSetup, saved?: SavedMetrics) {
    this.options = options
    this.since = since
    this.names = Object.keys(options.metrics)
    this.#arms = new Map([
      [control, 'control'],
      [treatment, 'treatment'],
    ])
    this.#predicted = { ...(saved?.predicted ?? { control: 0, treatment: 0 }) }
    const countsOf = (name: string, metric: MetricOptions) =>
      metric.kind === 'event'
        ? new EventCounts(metric, saved?.events[name])
        : new ValueCounts(metric, saved?.values[name])
    this.#metrics = new Map(Object.entries(options.metrics).map(([name, metric]) => [name, countsOf(name, metric)]))
  }

  /** Goes on from what was saved; metrics that are not declared any more are left out. */
  static restore(setup: MetricsSetup, saved: unknown): Metrics | { readonly problem: string } {
    const read = savedMetrics.safeParse(saved)
    if (!read.success) return { problem: 'what was saved of the metrics is damaged' }
    if (read.data.since !== setup.since) return { problem: 'what was saved of the metrics is of another experiment' }
    return new Metrics(setup, read.data)
  }

  kindOf(name: string): 'event' | 'value' | undefined {
    return this.#metrics.get(name)?.kind
  }

  /** What is wrong with a value for a declared metric; undefined if it can be added. */
  mistake(name: string, value: number | undefined): string | undefined {
    return this.#metrics.get(name)?.mistake(value)
  }

  /** Counts a prediction that feedback may come for. */
  predicted(facts: Evidence): void {
    const arm = this.#armOf(facts)
    if (arm) this.#predicted[arm]++
  }

  /** Whether telling so would be counted: of an event that did not happen there is nothing to count. */
  isEvidence(name: string, facts: Evidence, value: number | undefined): boolean {
    const metric = this.#metrics.get(name)
    if (!metric || metric.mistake(value) !== undefined || this.#armOf(facts) === undefined) return false
    return metric.kind === 'value' || value !== 0
  }

  /** Adds what counts; an event without a value has happened. */
  add(name: string, facts: Evidence, value?: number): void {
    const arm = this.#armOf(facts)
    if (arm && this.isEvidence(name, facts, value)) this.#metrics.get(name)?.add(arm, facts.share, value)
  }

  summary(): MetricsSummary {
    const metrics = new Map([...this.#metrics].map(([name, metric]) => [name, metric.summary()]))
    return { predicted: { ...this.#predicted }, metrics }
  }

  saved(): SavedMetrics {
    const all = [...this.#metrics]
    const events = all.flatMap(([name, metric]) => (metric.kind === 'event' ? [[name, metric.saved()] as const] : []))
    const values = all.flatMap(([name, metric]) => (metric.kind === 'value' ? [[name, metric.saved()] as const] : []))
    return {
      since: this.since,
      predicted: { ...this.#predicted },
      events: Object.fromEntries(events),
      values: Object.fromEntries(values),
    }
  }

  #armOf({ arm, share }: Evidence): Arm | undefined {
    return share > 0 && share < 1 ? this.#arms.get(arm) : undefined
  }
}

type EventOptions = Extract<MetricOptions, { kind: 'event' }>
type ValueOptions = Extract<MetricOptions, { kind: 'value' }>

/** A ramp has far fewer steps. */
const mostEpochs = 64

/**
 * Events by the share they were drawn with. Beyond 64 shares the two that are nearest to each other become one, with the
 * mean of both weighted by their events. That keeps how many events the treatment is expected to have, and a test of
 * equal rates on it stays valid: the expectation of one likelihood ratio is linear in the share, and a product of
 * linear factors is greatest where all are equal, at their mean.
 */
class EventCounts {
  readonly kind = 'event'
  readonly #direction: EventOptions['direction']
  /** In the order of the shares. */
  #epochs: ShareCounts[]

  constructor({ direction }: EventOptions, saved: readonly ShareCounts[] = []) {
    this.#direction = direction
    this.#epochs = saved.map((each) => ({ ...each })).toSorted((a, b) => a.share - b.share)
  }

  mistake(value: number | undefined): string | undefined {
    return value === undefined || value === 0 || value === 1
      ? undefined
      : 'the value of an event is 1 or 0, or left out'
  }

  add(arm: Arm, share: number, _value: number | undefined): void {
    const epoch = this.#epochs.find((each) => each.share === share) ?? this.#open(share)
    epoch.all++
    if (arm === 'treatment') epoch.treatment++
    if (this.#epochs.length > mostEpochs) this.#merge()
  }

  summary(): MetricSummary {
    return { kind: 'event', direction: this.#direction, epochs: this.saved() }
  }

  saved(): ShareCounts[] {
    return this.#epochs.map((each) => ({ ...each }))
  }

  #open(share: number): ShareCounts {
    const epoch = { treatment: 0, all: 0, share }
    const next = this.#epochs.findIndex((each) => each.share > share)
    this.#epochs.splice(next < 0 ? this.#epochs.length : next, 0, epoch)
    return epoch
  }

  #merge(): void {
    const gaps = this.#epochs.slice(1).map(({ share }, i) => share - this.#epochs[i]!.share)
    const first = gaps.indexOf(Math.min(...gaps))
    const [a, b] = this.#epochs.slice(first, first + 2) as [ShareCounts, ShareCounts]
    const all = a.all + b.all
    const share = a.share + (b.share - a.share) * (b.all / all)
    this.#epochs.splice(first, 2, { treatment: a.treatment + b.treatment, all, share })
  }
}

class ValueCounts {
  readonly kind = 'value'
  readonly #direction: ValueOptions['direction']
  readonly #cap: number
  readonly #moments: Record<Arm, ValueMoments>

  constructor({ direction, cap = Infinity }: ValueOptions, saved?: Readonly<Record<Arm, ValueMoments>>) {
    this.#direction = direction
    this.#cap = cap
    const none = { count: 0, mean: 0, m2: 0 }
    this.#moments = { control: { ...(saved?.control ?? none) }, treatment: { ...(saved?.treatment ?? none) } }
  }

  mistake(value: number | undefined): string | undefined {
    if (value === undefined) return 'this metric needs a value'
    return Math.abs(value) <= greatestValue ? undefined : 'the value is a number between -1e15 and 1e15'
  }

  add(arm: Arm, _share: number, value = 0): void {
    const moments = this.#moments[arm]
    const before = Math.max(-this.#cap, Math.min(this.#cap, value)) - moments.mean
    moments.count++
    moments.mean += before / moments.count
    moments.m2 += before * (before - before / moments.count)
  }

  summary(): MetricSummary {
    return { kind: 'value', direction: this.#direction, ...this.saved() }
  }

  saved(): Record<Arm, ValueMoments> {
    return { control: { ...this.#moments.control }, treatment: { ...this.#moments.treatment } }
  }
}
