/** What others do: fixed limits, as the samples of Argo Rollouts and Flagger have them, and significance tests again and again. */
import type { Draw } from '../draws.ts'
import type { Outcome } from './outcome.ts'
import { poisson } from './random.ts'
import type { Traffic } from './traffic.ts'

const minute = 60
const perMinute = { control: 5_700, treatment: 300 }
const limit = 0.02

export interface Limited {
  readonly checks: number
  readonly minutes: number
  /** Probability of a failure of the treatment. */
  readonly failing: number
  readonly traffic?: Traffic
}

/** Each minute one check, whether more than 2 % failed; so many failed checks are a rollback, not only in a row. */
export function fixedLimit({ checks, minutes, failing, traffic }: Limited, draw: Draw): Outcome {
  let failed = 0
  for (let at = 1; at <= minutes; at++) {
    const { requests, failures } = traffic
      ? unevenMinute(at, failing, traffic, draw)
      : { requests: perMinute.treatment, failures: poisson(draw, perMinute.treatment * failing) }
    if (failures > limit * requests && ++failed >= checks) return { afterS: minute * at }
  }
  return { afterS: Infinity }
}

function unevenMinute(at: number, failing: number, traffic: Traffic, draw: Draw) {
  let [requests, failures] = [0, 0]
  for (let s = minute * (at - 1); s < minute * at; s++) {
    const come = (perMinute.treatment / minute) * traffic.loadAt(s)
    const fail = poisson(draw, come * Math.min(1, failing + traffic.outageAt(s)))
    requests += come
    failures += fail
  }
  return { requests, failures }
}

/** Each minute a test of two proportions on all there is so far, one-sided; `z` is what has to be passed. */
export function peeking(z: number, minutes: number, failing: number, draw: Draw): Outcome {
  const failures = { control: 0, treatment: 0 }
  for (let at = 1; at <= minutes; at++) {
    failures.control += poisson(draw, perMinute.control * failing)
    failures.treatment += poisson(draw, perMinute.treatment * failing)
    const [control, treatment] = [perMinute.control * at, perMinute.treatment * at]
    const pooled = (failures.control + failures.treatment) / (control + treatment)
    const error = Math.sqrt(pooled * (1 - pooled) * (1 / control + 1 / treatment))
    if (failures.treatment / treatment - failures.control / control > z * error) return { afterS: minute * at }
  }
  return { afterS: Infinity }
}
