/** Figures by scenario, and whether they are good enough. */
import { round, spreadOf } from '../../support/interleave.ts'
import type { Outcomes } from './grid.ts'
import type { Outcome } from './outcome.ts'
import { heaviness, laneName, scenarios, slownesses } from './scenarios.ts'

interface Delay {
  readonly rollouts: number
  /** Seconds, of those that were not rolled back before there was a reason. */
  readonly mean: number
  /** Half the 95 % confidence interval of the mean. */
  readonly margin: number
  readonly p50: number
  readonly p90: number
  /** Requests or runs that the canary got. */
  readonly exposed: number
  /** Rolled back before, or never. */
  readonly early: number
  readonly missed: number
}

interface Alarms {
  readonly rollouts: number
  readonly rolledBack: number
  /** Where units were counted. */
  readonly mismatched: number | undefined
}

interface Target {
  readonly scenario: string
  readonly figure: 'mean' | 'p50' | 'p90'
  readonly most: number
}

const delayTargets: readonly Target[] = [
  { scenario: '1 % -> 3 %, tolerate 1', figure: 'mean', most: 160 },
  { scenario: '1 % -> 3 %, tolerate 1', figure: 'p90', most: 290 },
  { scenario: '1 % -> 10 %, tolerate 1', figure: 'mean', most: 20 },
  { scenario: '1 % -> 3 % after 30 minutes, tolerate 1', figure: 'mean', most: 300 },
  { scenario: 'shadow 1 % -> 3 %', figure: 'p50', most: 20 },
]
const lanesMost = 10
const falseMost = { rolledBack: 10, of: 4_000 }
/** A stated limit: lanes load differently, and nothing is put up with. */
const unjudged = new Set(['slowness: 5 %, tolerate 1'])

export const delayScenarios: readonly string[] = [
  ...Object.keys(scenarios).filter((name) => name.includes('->') && !name.includes('checks')),
  'all fail',
  'all are shed',
]
export const healthyScenarios: readonly string[] = Object.keys(scenarios).filter((name) =>
  /^(failures|slowness|shadow|sample ratio): /.test(name),
)

export function judge(outcomes: Outcomes) {
  const delays = Object.fromEntries(delayScenarios.map((name) => [name, delayOf(outcomes.get(name)!)]))
  const lanes = Object.fromEntries(lanesNames().map((name) => [name, delayOf(outcomes.get(name)!)]))
  const alarms = Object.fromEntries(healthyScenarios.map((name) => [name, alarmsOf(outcomes.get(name)!)]))
  const isShedAlike = delays['all are shed']!.mean <= 1.1 * delays['all fail']!.mean
  const missed = [
    ...delayTargets
      .filter(({ scenario, figure, most }) => delays[scenario]![figure] > most)
      .map(({ scenario, figure }) => `${scenario}, ${figure}`),
    ...heaviness.map((heavy) => laneName(slownesses[0]!, heavy)).filter((name) => lanes[name]!.mean > lanesMost),
    ...(isShedAlike ? [] : ['all are shed']),
    ...healthyScenarios.filter((name) => !unjudged.has(name) && isTooOften(alarms[name]!)),
  ]
  return { figures: { delays, lanes, alarms, missed }, targets: targetsOf(), pass: missed.length === 0 }
}

export function lanesNames(): readonly string[] {
  return heaviness.flatMap((heavy) => slownesses.map((about) => laneName(about, heavy)))
}

function isTooOften({ rolledBack, mismatched, rollouts }: Alarms): boolean {
  const most = Math.max(falseMost.rolledBack * (rollouts / falseMost.of), 1)
  return Math.max(rolledBack, mismatched ?? 0) > most
}

function targetsOf(): Record<string, string> {
  return {
    ...Object.fromEntries(delayTargets.map(({ scenario, figure, most }) => [`${scenario}, ${figure} s`, `<= ${most}`])),
    'x2 compute time, mean s': `<= ${lanesMost}`,
    'all are shed, mean s over that of all fail': '<= 1.1',
    'false rollbacks of each guard, and false sample-ratio alarms': `<= ${falseMost.rolledBack} in ${falseMost.of}`,
  }
}

export function delayOf(outcomes: readonly Outcome[]): Delay {
  const late = outcomes.filter(({ afterS }) => afterS >= 0)
  const seconds = late.map(({ afterS }) => afterS)
  const mean = meanOf(seconds)
  const variance = meanOf(seconds.map((each) => (each - mean) ** 2))
  return {
    rollouts: outcomes.length,
    mean: round(mean, 2),
    margin: round(1.96 * Math.sqrt(variance / seconds.length), 2),
    p50: round(spreadOf(seconds).median, 2),
    p90: round(quantileOf(seconds, 0.9), 2),
    exposed: round(meanOf(late.map(({ exposed = 0 }) => exposed)), 1),
    early: outcomes.length - late.length,
    missed: seconds.filter((each) => each === Infinity).length,
  }
}

export function alarmsOf(outcomes: readonly Outcome[]): Alarms {
  return {
    rollouts: outcomes.length,
    rolledBack: outcomes.filter(({ afterS }) => afterS < Infinity).length,
    mismatched: outcomes[0]?.isFrozen === undefined ? undefined : outcomes.filter(({ isFrozen }) => isFrozen).length,
  }
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function quantileOf(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!
}
