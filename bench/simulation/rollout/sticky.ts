/** Users who keep their arm, come in bursts, and fail each in his own way: a healthy rollout where little is independent. */
import { Split, type Choice } from '../../../src/routing/split.ts'
import { splitOptions } from '../../../src/routing/split-options.ts'
import { gamma, type Draw } from '../draws.ts'
import type { Outcome } from './outcome.ts'
import { poisson } from './random.ts'
import { rampOf } from './ramp.ts'
import { Traffic } from './traffic.ts'
import { Trial } from './trial.ts'

const hourS = 3_600
const users = 2_000
const burst = 10
const burstsPerS = 10
/** Of the rates of users: mean and shape of a gamma distribution. A small shape: some fail always, most hardly ever. */
const failing = { mean: 0.01, shape: 0.3 }

/** Of users by how often they come (Zipf with exponent 1): what all up to each have together. */
const upTo = cumulated(Array.from({ length: users }, (_, user) => 1 / (user + 1)))

/** `by`: what counts as one, a user, as is shipped where users are assigned, or each request, as others do. */
export function stickyHour(by: 'user' | 'request', draw: Draw): Outcome {
  const trial = new Trial({ options: { failures: { alpha: 0.001, tolerate: 1, floor: 0 }, steps: rampOf(720) } })
  const traffic = new Traffic(draw)
  const rate = gamma(draw, failing.shape)
  const rates = Float64Array.from({ length: users }, () => Math.min(1, failing.mean * rate()))
  const seen = new Uint8Array(users)
  const armOf = armsOf(`salt ${draw()}`, trial)
  for (let s = 0; s < hourS && !trial.isRolledBack; s++) {
    trial.until(1_000 * s)
    const outage = traffic.outageAt(s)
    for (let left = poisson(draw, burstsPerS * traffic.loadAt(s)); left > 0 && !trial.isRolledBack; left--) {
      const user = userAt(draw())
      // The same request, again and again.
      const hasFailed = draw() < rates[user]! + outage
      // Another success of a user who is known changes nothing.
      if (!hasFailed && (seen[user] === 1 || by === 'request')) continue
      seen[user] = 1
      const { arm, unit } = armOf(user)
      for (let i = 0; i < (hasFailed ? burst : 1); i++)
        trial.settled(arm === 'canary', hasFailed, by === 'user' ? unit : undefined)
    }
  }
  const { rolledBackMs, isFrozen } = trial
  return { afterS: rolledBackMs === undefined ? Infinity : rolledBackMs / 1_000, isFrozen }
}

/** The shipped split, made anew when the share has changed. */
function armsOf(salt: string, trial: Trial): (user: number) => Choice {
  let share = Number.NaN
  let split: Split
  const terms = { may: () => true, force: undefined, epochMs: 0, draw: '' }
  const caller = { name: '', claims: {} }
  return (user) => {
    if (trial.share !== share) {
      share = trial.share
      split = new Split({ options: optionsOf(share), salt, generation: 1 })
    }
    return split.choose({ headers: { 'x-user': `user-${user}` } }, caller, '', terms) as Choice
  }
}

function optionsOf(share: number) {
  return splitOptions.parse({
    unit: { by: 'header', name: 'x-user' },
    arms: { stable: { version: '1', weight: 1 - share }, canary: { version: '2', weight: share } },
  })
}

function userAt(draw: number): number {
  const wanted = draw * upTo[users - 1]!
  let [from, to] = [0, users - 1]
  while (from < to) {
    const middle = (from + to) >> 1
    if (upTo[middle]! > wanted) to = middle
    else from = middle + 1
  }
  return from
}

function cumulated(parts: readonly number[]): Float64Array {
  let sum = 0
  return Float64Array.from(parts, (part) => (sum += part))
}
