/** Canaries that fail exactly as often as the control, under traffic that is hard on tests: who is rolled back all the same? */
import type { Draw } from '../draws.ts'
import { outcomeAt, type Outcome } from './outcome.ts'
import { poisson } from './random.ts'
import { lastShare, rampOf, shares } from './ramp.ts'
import type { Traffic } from './traffic.ts'
import { Trial, type TrialSetup } from './trial.ts'

const hourS = 3_600
const requestsPerS = 100

/** Nothing is put up with, so that a healthy treatment is at the very edge of what is promised. */
const edge = { failures: { alpha: 0.001, tolerate: 1, floor: 0 } }

/** As fast as evidence lets it: shares depend on what has failed. There are no units to wait for, of which only failures come. */
const proved = shares.map((share) => ({ share, holdS: share < lastShare ? 60 : 86_400, minRequests: 0 }))

const setups = {
  constant: { options: edge },
  scheduled: { options: { ...edge, steps: rampOf(720) } },
  proved: { options: { ...edge, steps: proved } },
} satisfies Record<string, TrialSetup>

type HealthySetup = keyof typeof setups

/** What fails in a second, of 100 requests on average. */
type Failing = (second: number, draw: Draw) => number

/** `part` of all, besides what is the same for both arms. */
export function uneven(part: number, traffic: Traffic): Failing {
  return (s, draw) => poisson(draw, requestsPerS * traffic.loadAt(s) * Math.min(1, part + traffic.outageAt(s)))
}

export function steady(part: number): Failing {
  return (_, draw) => poisson(draw, requestsPerS * part)
}

/** An hour, of which only the failures are simulated: what succeeds is no evidence where there is no floor. */
export function healthyHour(setup: HealthySetup, failing: Failing, draw: Draw): Outcome {
  const trial = new Trial(setups[setup])
  for (let s = 0; s < hourS && !trial.isRolledBack; s++) {
    trial.until(1_000 * s)
    const failures = failing(s, draw)
    for (let i = 0; i < failures && !trial.isRolledBack; i++) trial.settled(draw() < trial.share, true)
  }
  return outcomeAt(trial.rolledBackMs)
}

/** Shadows that fail as often as the control: of so many pairs that differ, each is the bad one with equal chance. */
export function healthyShadow(pairs: number, draw: Draw): Outcome {
  const trial = new Trial({ options: { shadowFailures: { alpha: 0.001 } } })
  for (let pair = 0; pair < pairs && !trial.isRolledBack; pair++) trial.shadowDiffered(draw() < 0.5)
  return outcomeAt(trial.rolledBackMs)
}

/** Requests that go where they should, none of which fails, while shares change. */
export function healthyRatio(units: number, draw: Draw): Outcome {
  const trial = new Trial({ options: { steps: rampOf(units / shares.length / requestsPerS) } })
  for (let unit = 0; unit < units && !trial.isFrozen; unit++) {
    if (unit % requestsPerS === 0) trial.until((1_000 * unit) / requestsPerS)
    trial.settled(draw() < trial.share, false)
  }
  return { afterS: Infinity, isFrozen: trial.isFrozen }
}
