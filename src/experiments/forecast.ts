/** How long it would take to see that a model fails. */
import { moreGrid } from './attribution.ts'

export interface Regression {
  readonly requestsPerS: number
  /** Of requests that go to the treatment. */
  readonly share: number
  /** Probability that a request fails. */
  readonly controlRate: number
  readonly treatmentRate: number
  readonly alpha: number
  /** As for the attribution. */
  readonly tolerate: number
}

/**
 * Mean seconds until the attribution alarms on a regression that is there from the start: its threshold and the cost of the
 * mixture, over evidence per second. Infinity where it never would.
 */
export function secondsToDetect(regression: Regression): number {
  const { requestsPerS, share, controlRate, treatmentRate, alpha, tolerate } = regression
  const failures = share * treatmentRate + (1 - share) * controlRate
  const isWorse = treatmentRate > tolerate * controlRate
  if (!(isWorse && share > 0 && share < 1 && requestsPerS > 0)) return Infinity
  const tolerated = (share * tolerate) / (share * tolerate + 1 - share)
  const perFailure = divergence((share * treatmentRate) / failures, tolerated)
  return (Math.log(2 / alpha) + Math.log(moreGrid.length)) / (requestsPerS * failures * perFailure)
}

/** Events, of both arms, that it takes on average until a ratio of rates other than 1 is seen by an interval. */
export function ratioEventsNeeded(wish: {
  readonly share: number
  readonly ratio: number
  readonly alpha: number
}): number {
  const { share, ratio, alpha } = wish
  const isTreatment = (share * ratio) / (share * ratio + 1 - share)
  return (Math.log(2 / alpha) + Math.log(ratioGridSize)) / divergence(isTreatment, share)
}

/** Alternatives over which an interval mixes, in either direction. */
const ratioGridSize = 12

/** Kullback and Leibler's, of one coin from another, in nats. */
function divergence(of: number, from: number): number {
  const rest = of < 1 ? (1 - of) * Math.log((1 - of) / (1 - from)) : 0
  return of * Math.log(of / from) + rest
}
