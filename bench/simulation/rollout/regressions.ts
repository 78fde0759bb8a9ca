/** Canaries that fail more often than they should: when are they rolled back? Every request is simulated. */
import { refusals, type RefusalCode } from '../../../src/core/refusal.ts'
import { exponential, type Draw } from '../draws.ts'
import type { Outcome } from './outcome.ts'
import { Trial } from './trial.ts'

export interface Regression {
  /** Probabilities of a failure. */
  readonly control: number
  readonly treatment: number
  /** How the treatment fails. */
  readonly as?: RefusalCode
  /** Until then the treatment is like the control. */
  readonly fromS?: number
  /** For `failures` of the configuration. */
  readonly failures?: object
}

const requestsPerS = 100
const share = 0.05
/** Beyond it, counted from the regression, nobody waits. */
const longestS = 7_200

export function detect({ control, treatment, as, fromS = 0, failures = {} }: Regression, draw: Draw): Outcome {
  const trial = new Trial({ share, options: { failures } })
  const isFailure = as === undefined || refusals[as].status >= 500
  const gap = exponential(draw)
  let bad = 0
  for (let s = 0; s < fromS + longestS && !trial.isRolledBack; s += gap() / requestsPerS) {
    trial.until(1_000 * s)
    if (trial.isRolledBack) break
    const isTreatment = draw() < share
    const hasFailed = draw() < (isTreatment && s >= fromS ? treatment : control)
    if (isTreatment && s >= fromS) bad++
    trial.settled(isTreatment, hasFailed && (!isTreatment || isFailure))
  }
  const { rolledBackMs, isFrozen } = trial
  const afterS = rolledBackMs === undefined ? Infinity : rolledBackMs / 1_000 - fromS
  return { afterS, exposed: bad, isFrozen }
}
