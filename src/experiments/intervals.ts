/** Intervals for reports. All hold at every time at once (confidence sequences), so one may look as often as one likes. */
import { Coin } from './coin.ts'
import { logBeta } from './log-gamma.ts'
import { logSumExp } from './mixture.ts'
import { pooledVariance, type Moments } from './moments.ts'

export interface Interval {
  readonly low: number
  readonly high: number
}

/** Failures while the share was the same. */
export interface Epoch {
  readonly treatment: number
  readonly all: number
  readonly share: number
}

/** Finer than the tests' grids: to report, small differences matter too. */
const above = [1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 2, 3, 5, 10, 30, 100]
const below = above.map((each) => 1 / each)

/** Ratios of rates between which an interval is looked for; an end that is not known is one of these. */
const [leastRatio, mostRatio] = [1e-3, 1e3]
const steps = 60

/**
 * The ratio of failure rates, treatment over control: all that neither the test for more nor that for less rejects, each with
 * half of alpha. The log likelihood is concave in ln r, so evidence for more than r falls with r, that for less rises,
 * and bisection finds the ends.
 */
export function riskRatioInterval(epochs: readonly Epoch[], alpha: number): Interval {
  const threshold = Math.log(2 / alpha)
  const rejects = (ratio: number, grid: readonly number[]) => logEvidence(epochs, ratio, grid) >= threshold
  const [least, most] = [Math.log(leastRatio), Math.log(mostRatio)]
  return {
    low: Math.exp(bisect(least, most, (log) => rejects(Math.exp(log), above))),
    high: Math.exp(bisect(most, least, (log) => rejects(Math.exp(log), below))),
  }
}

/** Values in each arm before which an approximation by the normal distribution is no good. */
const burnIn = 100
/** Values (as in one sample) for which an interval of means is tightest. */
const tightest = 5000

/**
 * Mean of the treatment less mean of the control; asymptotic (Waudby-Smith et al., arXiv 2103.06476). Undefined before either
 * arm has 100 values, or while all are the same.
 */
export function meanDifferenceInterval(control: Moments, treatment: Moments, alpha: number): Interval | undefined {
  const variance = pooledVariance(control, treatment)
  if (control.count < burnIn || treatment.count < burnIn || variance === 0) return undefined
  // Two samples are as good as one of this size.
  const count = 1 / (1 / control.count + 1 / treatment.count)
  const square = (-2 * Math.log(alpha) + Math.log(1 - 2 * Math.log(alpha))) / tightest
  const spread = count * square + 1
  const half = Math.sqrt((variance * 2 * spread * Math.log(Math.sqrt(spread) / alpha)) / (count * count * square))
  const difference = treatment.mean - control.mean
  return { low: difference - half, high: difference + half }
}

/** A probability: all that a mixture of Bernoulli likelihoods over Beta(1/2, 1/2) does not reject. */
export function proportionInterval(successes: number, trials: number, alpha: number): Interval {
  const failures = trials - successes
  const mixture = logBeta(successes + 0.5, failures + 0.5) - logBeta(0.5, 0.5)
  const rejects = (p: number) =>
    mixture - times(successes, Math.log(p)) - times(failures, Math.log1p(-p)) >= Math.log(1 / alpha)
  const seen = trials === 0 ? 0.5 : successes / trials
  return { low: bisect(0, seen, rejects), high: bisect(1, seen, rejects) }
}

/** 0 of anything is 0, even of an infinite one. */
function times(count: number, log: number): number {
  return count === 0 ? 0 : count * log
}

/** The end of what is rejected, from `from` towards `to`, on the rejected side; `from` where nothing is rejected. */
function bisect(from: number, to: number, rejects: (at: number) => boolean): number {
  if (!rejects(from)) return from
  let [rejected, kept] = [from, to]
  for (let i = 0; i < steps; i++) {
    const middle = (rejected + kept) / 2
    if (rejects(middle)) rejected = middle
    else kept = middle
  }
  return rejected
}

function logEvidence(epochs: readonly Epoch[], ratio: number, grid: readonly number[]): number {
  const coin = new Coin(ratio, grid)
  const sums = new Float64Array(grid.length)
  for (const { treatment, all, share } of epochs) {
    const [ofTreatment, ofControl] = [coin.weigh(true, share), coin.weigh(false, share)]
    if (!ofTreatment || !ofControl) continue
    for (let j = 0; j < sums.length; j++) sums[j]! += treatment * ofTreatment[j]! + (all - treatment) * ofControl[j]!
  }
  return logSumExp(sums) - Math.log(sums.length)
}
