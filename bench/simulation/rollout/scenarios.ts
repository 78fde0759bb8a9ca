/** All that is simulated, by name. */
import { exponential, type Draw } from '../draws.ts'
import { healthyHour, healthyRatio, healthyShadow, steady, uneven } from './healthy.ts'
import { slowLanes } from './lanes.ts'
import type { Outcome } from './outcome.ts'
import { rampOf } from './ramp.ts'
import { detect, type Regression } from './regressions.ts'
import { fixedLimit, peeking } from './rivals.ts'
import { detectByShadow } from './shadow.ts'
import { stickyHour } from './sticky.ts'
import { Traffic } from './traffic.ts'

export interface Scenario {
  readonly rollouts: number
  readonly run: (draw: Draw) => Outcome
}

const edge = { tolerate: 1 }
const [many, fewer] = [4_000, 2_000]

function regression(rollouts: number, about: Regression): Scenario {
  return { rollouts, run: (draw) => detect(about, draw) }
}

const regressions = {
  '1 % -> 3 %, tolerate 1': regression(2_000, { control: 0.01, treatment: 0.03, failures: edge }),
  '1 % -> 3 %': regression(1_000, { control: 0.01, treatment: 0.03 }),
  '1 % -> 10 %, tolerate 1': regression(4_000, { control: 0.01, treatment: 0.1, failures: edge }),
  '1 % -> 10 %': regression(4_000, { control: 0.01, treatment: 0.1 }),
  '1 % -> 2 %, tolerate 1': regression(500, { control: 0.01, treatment: 0.02, failures: edge }),
  '1 % -> 2 %': regression(500, { control: 0.01, treatment: 0.02 }),
  '0.1 % -> 1 %, tolerate 1': regression(1_000, { control: 0.001, treatment: 0.01, failures: edge }),
  '0.1 % -> 1 %': regression(1_000, { control: 0.001, treatment: 0.01 }),
  '1 % -> 3 % after 30 minutes, tolerate 1': regression(400, {
    control: 0.01,
    treatment: 0.03,
    fromS: 1_800,
    failures: edge,
  }),
  '1 % -> 3 % after 30 minutes': regression(200, { control: 0.01, treatment: 0.03, fromS: 1_800 }),
  'all fail': regression(4_000, { control: 0.01, treatment: 1, as: 'model_failed' }),
  'all are shed': regression(4_000, { control: 0.01, treatment: 1, as: 'overloaded' }),
} satisfies Record<string, Scenario>

/** Loads of the executor by how heavy the model is: with 1, 0.46 of it if every request ran alone. */
export const heaviness: readonly number[] = [0.5, 1, 2, 4, 8]

/** Twice as slow for the default; less than that only for who puts up with less. */
export const slownesses: readonly { readonly slow: number; readonly tolerate?: number }[] = [
  { slow: 2 },
  { slow: 1.3, tolerate: 1.15 },
]

export function laneName({ slow, tolerate }: (typeof slownesses)[number], heavy: number): string {
  return `x${slow}${tolerate === undefined ? '' : `, tolerate ${tolerate}`}, heavy ${heavy}`
}

const lanes = Object.fromEntries(
  heaviness.flatMap((heavy) =>
    slownesses.map((about): [string, Scenario] => {
      const { slow, tolerate } = about
      const setup = { heavy, slow, options: { slowness: { tolerate } }, longestRuns: Infinity, longestS: 3_600 }
      return [laneName(about, heavy), { rollouts: 500, run: (draw) => slowLanes(setup, draw) }]
    }),
  ),
)

const longestRuns = 8_000
const longestS = 3_600
const heavyAmong = (draw: Draw) => [1, 4, 8][Math.floor(3 * draw())]!

/** Of a machine: by so much faster and slower, in minutes. */
function driftOf(draw: Draw): (second: number) => number {
  const [phase, periodS] = [draw(), 300]
  return (second) => 1 + 0.5 * Math.sin(2 * Math.PI * (second / periodS + phase))
}

/** Of a machine: four times as slow for two seconds, three times a minute. */
function stallsOf(draw: Draw): (second: number) => number {
  const gap = exponential(draw)
  let [from, to] = [0, 0]
  return (second) => {
    while (second >= to) {
      from = to + 20 * gap()
      to = from + 2 * gap()
    }
    return second >= from ? 4 : 1
  }
}

/** Runs of both arms take the same time, whatever the share, the load and the state of the machine. */
function healthyLanes(
  rollouts: number,
  about: (draw: Draw) => Omit<Partial<Parameters<typeof slowLanes>[0]>, 'slow' | 'longestRuns'>,
): Scenario {
  return {
    rollouts,
    run: (draw) => slowLanes({ heavy: heavyAmong(draw), longestS, ...about(draw), slow: 1, longestRuns }, draw),
  }
}

function unevenLoad(draw: Draw): (second: number) => number {
  const traffic = new Traffic(draw)
  return (second) => traffic.loadAt(second)
}

const healthy = {
  'failures: 5 %, 20 000 failures': {
    rollouts: many,
    run: (draw) => healthyHour('constant', uneven(0.048, new Traffic(draw)), draw),
  },
  'failures: by schedule': {
    rollouts: many,
    run: (draw) => healthyHour('scheduled', uneven(0.01, new Traffic(draw)), draw),
  },
  'failures: by proof': {
    rollouts: fewer,
    run: (draw) => healthyHour('proved', uneven(0.01, new Traffic(draw)), draw),
  },
  'failures: users': { rollouts: many, run: (draw) => stickyHour('user', draw) },
  'slowness: lanes alike, tolerate 1': healthyLanes(many, () => ({ share: 0.5, options: { slowness: edge } })),
  'slowness: load and shares change': healthyLanes(many, (draw) => ({
    options: { steps: rampOf(60) },
    loadAt: unevenLoad(draw),
  })),
  'slowness: the machine drifts': healthyLanes(fewer, (draw) => ({ slownessAt: driftOf(draw) })),
  'slowness: the machine stalls': healthyLanes(fewer, (draw) => ({ slownessAt: stallsOf(draw) })),
  'slowness: 5 %, tolerate 1': healthyLanes(400, () => ({ options: { slowness: edge } })),
  'shadow: 20 000 pairs': { rollouts: many, run: (draw) => healthyShadow(20_000, draw) },
  'sample ratio: 50 000 units': { rollouts: fewer, run: (draw) => healthyRatio(50_000, draw) },
} satisfies Record<string, Scenario>

const shadows = {
  'shadow 1 % -> 3 %': { rollouts: many, run: (draw) => detectByShadow(0.01, 0.03, draw) },
  'shadow 1 % -> 2 %': { rollouts: 1_000, run: (draw) => detectByShadow(0.01, 0.02, draw) },
} satisfies Record<string, Scenario>

export const checkCounts: readonly number[] = [3, 5, 10]
type LimitedTo = '1 % -> 3 %' | 'healthy hour' | 'uneven hour'

export function limitName(checks: number, what: LimitedTo): string {
  return `${checks} failed checks, ${what}`
}

const limits = checkCounts.flatMap((checks) => [
  limited(checks, '1 % -> 3 %', { minutes: 600, failing: 0.03 }),
  limited(checks, 'healthy hour', { minutes: 60, failing: 0.01 }),
  limited(checks, 'uneven hour', { minutes: 60, failing: 0.01 }),
])

function limited(
  checks: number,
  what: LimitedTo,
  about: { readonly minutes: number; readonly failing: number },
): readonly [string, Scenario] {
  const traffic = (draw: Draw) => (what === 'uneven hour' ? { traffic: new Traffic(draw) } : {})
  const run = (draw: Draw) => fixedLimit({ checks, ...about, ...traffic(draw) }, draw)
  return [limitName(checks, what), { rollouts: many, run }]
}

const rivals = {
  ...Object.fromEntries(limits),
  'peeking at 0.05': { rollouts: many, run: (draw) => peeking(1.6449, 330, 0.01, draw) },
  'peeking at 0.001': { rollouts: many, run: (draw) => peeking(3.0902, 330, 0.01, draw) },
  'ours, healthy hour': { rollouts: 1_000, run: (draw) => healthyHour('constant', steady(0.01), draw) },
  'each request of a user': { rollouts: 500, run: (draw) => stickyHour('request', draw) },
} satisfies Record<string, Scenario>

export const scenarios: Readonly<Record<string, Scenario>> = {
  ...regressions,
  ...lanes,
  ...healthy,
  ...shadows,
  ...rivals,
}
