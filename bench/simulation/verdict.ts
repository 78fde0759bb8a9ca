/** How one contender stands against what is possible, and against the best of the others in every cell. */
import { round } from '../support/interleave.ts'
import { arrivalKinds, loads } from './grid.ts'
import type { Place, Scores } from './scores.ts'
import { setups } from './setups.ts'
import { meanDifference, meanOf } from './statistics.ts'

export interface Comparison extends Place {
  readonly rival: string
  /** Goodput of ours less that of the best rival, on the same traces, in points. */
  readonly difference: number
  readonly margin: number
}

export interface Verdict {
  /** Poisson at 0.9, over the limit. */
  readonly ofLimit: Readonly<Record<string, number>>
  /** Poisson at 2.0, over the most that can be done then. */
  readonly ofOverload: Readonly<Record<string, number>>
  /** Poisson at 0.3: median latency over the lowest of those that get their requests answered. */
  readonly p50Ratio: Readonly<Record<string, number>>
  readonly comparisons: readonly Comparison[]
}

/** The median is only of what was on time: who loses much would look fast. */
const servesAt = 0.95

export function verdictOn(ours: string, rivals: readonly string[], scores: Scores): Verdict {
  const poisson = (load: number) => (setup: string) => ({ setup, arrivals: 'poisson', load }) as const
  const mean = (place: Place, figure: 'goodput' | 'ofOverload') => meanOf(scores.of(place, ours, figure)).mean
  return {
    ofLimit: bySetup((setup) => mean(poisson(0.9)(setup), 'goodput')),
    ofOverload: bySetup((setup) => mean(poisson(2)(setup), 'ofOverload')),
    p50Ratio: bySetup((setup) => p50Ratio(ours, rivals, scores, poisson(0.3)(setup))),
    comparisons: places().map((place) => compare(ours, rivals, scores, place)),
  }
}

/** Whether the best rival is better by more than chance explains. */
export function isLost({ difference, margin }: Comparison): boolean {
  return difference + margin < 0
}

function bySetup(figure: (setup: string) => number): Record<string, number> {
  return Object.fromEntries(setups.map(({ name }) => [name, round(figure(name), 4)]))
}

function places(): readonly Place[] {
  return setups.flatMap(({ name: setup }) =>
    arrivalKinds.flatMap((arrivals) => loads.map((load) => ({ setup, arrivals, load }))),
  )
}

function compare(ours: string, rivals: readonly string[], scores: Scores, place: Place): Comparison {
  const goodputs = (contender: string) => scores.of(place, contender, 'goodput')
  const meanGoodput = (contender: string) => meanOf(goodputs(contender)).mean
  const rival = rivals.reduce((best, each) => (meanGoodput(each) > meanGoodput(best) ? each : best))
  const { mean, margin } = meanDifference(goodputs(ours), goodputs(rival))
  return { ...place, rival, difference: round(100 * mean, 2), margin: round(100 * margin, 2) }
}

function p50Ratio(ours: string, rivals: readonly string[], scores: Scores, place: Place): number {
  const serving = rivals.filter((rival) => meanOf(scores.of(place, rival, 'goodput')).mean >= servesAt)
  const p50 = (contender: string) => meanOf(scores.of(place, contender, 'p50Ms')).mean
  return p50(ours) / Math.min(p50(ours), ...serving.map(p50))
}
