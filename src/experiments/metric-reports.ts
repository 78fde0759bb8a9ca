/** What may be concluded from metrics now, and how long until more could be. */
import type { Metrics, MetricSummary, ShareCounts, ValueMoments } from './feedback/metrics.ts'
import { meanDifferenceInterval, riskRatioInterval, type Interval } from './intervals.ts'
import { Moments } from './moments.ts'
import type { ExperimentOptions } from './options.ts'
import { ratioEventsNeeded } from './forecast.ts'
import type { Alarm } from './rollout.ts'

export interface MetricReport {
  readonly name: string
  readonly kind: MetricSummary['kind']
  readonly direction: 'more' | 'fewer'
  /** Events, or values, that were told. */
  readonly control: number
  readonly treatment: number
  /** Treatment over control, relative to the control: 0.1 is 10 % more. Undefined while too little is known. */
  readonly estimate: number | undefined
  readonly interval: Interval | undefined
  readonly verdict: 'better' | 'worse' | 'open'
  /** Seconds until a difference of the size that matters would show, at the pace so far. */
  readonly secondsLeft: number | undefined
  readonly words: string
}

/** `elapsedMs`: since feedback was first taken. */
export function metricReports(options: ExperimentOptions, metrics: Metrics, elapsedMs: number): MetricReport[] {
  const { confidence, detect } = options
  const alpha = 1 - confidence
  return [...metrics.summary().metrics].map(([name, summary]) => {
    const relative = relativeOf(summary, alpha)
    const verdict = verdictOf(summary.direction, relative.interval)
    const secondsLeft = secondsUntil(summary, { alpha, detect, elapsedS: elapsedMs / 1_000 })
    const { kind, direction } = summary
    const report = { name, kind, direction, ...countsOf(summary), ...relative, verdict, secondsLeft }
    return { ...report, words: wordsOf(report, alpha, detect) }
  })
}

/** Metrics by which the treatment is worse. */
export function metricAlarms({ metricAlpha, metricAction }: ExperimentOptions, metrics: Metrics): Alarm[] {
  return [...metrics.summary().metrics].flatMap(([name, summary]) => {
    const { interval } = relativeOf(summary, metricAlpha)
    if (verdictOf(summary.direction, interval) !== 'worse') return []
    const words = `by the metric "${name}" it is worse than the control: ${showInterval(interval!)} of it`
    return [{ guard: `metric ${name}`, action: metricAction, words }]
  })
}

interface Relative {
  readonly estimate: number | undefined
  readonly interval: Interval | undefined
}

function relativeOf(summary: MetricSummary, alpha: number): Relative {
  return summary.kind === 'event' ? ofEvents(summary.epochs, alpha) : ofValues(summary, alpha)
}

function ofEvents(epochs: readonly ShareCounts[], alpha: number): Relative {
  if (epochs.length === 0) return { estimate: undefined, interval: undefined }
  const { low, high } = riskRatioInterval(epochs, alpha)
  return { estimate: ratioOf(epochs), interval: { low: low - 1, high: high - 1 } }
}

/** Of rates, from whose the events are: each share's odds over the odds of the draw, pooled. */
function ratioOf(epochs: readonly ShareCounts[]): number | undefined {
  // Mantel and Haenszel's estimate, with the draw in the place of the numbers of units.
  const above = epochs.reduce((sum, { treatment, share }) => sum + treatment * (1 - share), 0)
  const below = epochs.reduce((sum, { treatment, all, share }) => sum + (all - treatment) * share, 0)
  return below === 0 ? undefined : above / below - 1
}

type Values = Readonly<Record<'control' | 'treatment', ValueMoments>>

function ofValues(values: Values, alpha: number): Relative {
  const [control, treatment] = [momentsOf(values.control), momentsOf(values.treatment)]
  const scale = Math.abs(control.mean)
  if (control.count === 0 || treatment.count === 0 || scale === 0) return { estimate: undefined, interval: undefined }
  const found = meanDifferenceInterval(control, treatment, alpha)
  const interval = found && { low: found.low / scale, high: found.high / scale }
  return { estimate: (treatment.mean - control.mean) / scale, interval }
}

/** As if there were `times` as many, and all else the same. */
function momentsOf({ count, mean, m2 }: ValueMoments, times = 1): Moments {
  return new Moments({ count: count * times, mean, squares: m2 * times })
}

function verdictOf(direction: 'more' | 'fewer', interval: Interval | undefined): MetricReport['verdict'] {
  if (!interval || (interval.low <= 0 && interval.high >= 0)) return 'open'
  return interval.low > 0 === (direction === 'more') ? 'better' : 'worse'
}

function countsOf(summary: MetricSummary) {
  if (summary.kind === 'value') return { control: summary.control.count, treatment: summary.treatment.count }
  const all = summary.epochs.reduce((sum, epoch) => sum + epoch.all, 0)
  const treatment = summary.epochs.reduce((sum, epoch) => sum + epoch.treatment, 0)
  return { control: all - treatment, treatment }
}

interface Wish {
  readonly alpha: number
  readonly detect: number
  readonly elapsedS: number
}

function secondsUntil(summary: MetricSummary, { alpha, detect, elapsedS }: Wish): number | undefined {
  const times =
    summary.kind === 'event' ? timesEvents(summary.epochs, alpha, detect) : timesValues(summary, alpha, detect)
  return times === undefined || elapsedS <= 0 ? undefined : Math.max(0, (times - 1) * elapsedS)
}

/** How many times as many events it takes. */
function timesEvents(epochs: readonly ShareCounts[], alpha: number, detect: number): number | undefined {
  const all = epochs.reduce((sum, epoch) => sum + epoch.all, 0)
  const latest = epochs.at(-1)
  return latest && ratioEventsNeeded({ share: latest.share, ratio: 1 + detect, alpha }) / all
}

const mostTimes = 2 ** 20

function timesValues(values: Values, alpha: number, detect: number): number | undefined {
  if (values.control.count === 0 || values.treatment.count === 0) return undefined
  const wanted = detect * Math.abs(values.control.mean)
  let times = 1
  for (; times <= mostTimes; times *= 1.25) {
    const { control, treatment } = values
    const found = meanDifferenceInterval(momentsOf(control, times), momentsOf(treatment, times), alpha)
    if (found && (found.high - found.low) / 2 <= wanted) return times
  }
  return undefined
}

function wordsOf(report: Omit<MetricReport, 'words'>, alpha: number, detect: number): string {
  const { name, kind, estimate, interval, verdict, secondsLeft, control, treatment } = report
  const told = `${control} of the control and ${treatment} of the treatment`
  const what = `${name} (${kind === 'event' ? 'events' : 'values'}: ${told})`
  // An end that nothing is known of says no more than nothing.
  const isOpen = interval !== undefined && verdict === 'open' && (interval.low <= -0.99 || interval.high >= mostShown)
  if (estimate === undefined || !interval || isOpen) return `${what}: too little is known to say anything`
  const confidence = `${Number((100 * (1 - alpha)).toPrecision(4))} %`
  const seen = `${showPercent(estimate)} against the control (${confidence}: ${showInterval(interval)})`
  if (verdict !== 'open')
    return `${what}: ${seen}. The treatment is ${verdict}; that holds however often one has looked.`
  const left =
    secondsLeft === undefined
      ? ''
      : secondsLeft > 0
        ? ` A difference of ${showPercent(detect)} would show in about ${showDuration(secondsLeft)} at this pace.`
        : ` A difference of ${showPercent(detect)} would probably have shown by now.`
  return `${what}: ${seen}. Nothing can be concluded yet.${left}`
}

/** Beyond it an interval has no end that means anything. */
const mostShown = 900

function showPercent(part: number): string {
  return `${part > 0 ? '+' : ''}${(100 * part).toFixed(1)} %`
}

function showInterval({ low, high }: Interval): string {
  return `${showPercent(low)} to ${high >= mostShown ? 'any more' : showPercent(high)}`
}

function showDuration(seconds: number): string {
  if (seconds < 120) return `${Math.ceil(seconds)} s`
  if (seconds < 7_200) return `${Math.ceil(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.ceil(seconds / 3_600)} h` : `${Math.ceil(seconds / 86_400)} days`
}
