/**
 * What every batching policy is asked. A policy never acts and keeps nothing: the lane owns the queue and what was learnt
 * of the runs, the arbiter owns the clock and the executors. So a policy is a pure decision over numbers, and can be
 * tested and simulated without either.
 */
import type { Curve } from './curve.ts'

/** The jobs of one priority class, as a policy sees them. */
export interface WaitingLine {
  readonly rows: number
  /** Rows that come in a millisecond, those that are refused included. */
  rateAt(now: number): number
  /** The same, as much as there is most of the time. */
  leastRateAt(now: number): number
  /** Visits the jobs, the earliest deadline first, until told to stop by `false`. */
  walk(visit: (job: { readonly deadline: number; readonly work: { readonly rows: number } }) => boolean): void
}

/** What waits under one batch key. */
export interface Waiting {
  readonly rows: number
  /** When the oldest was queued, on the clock's scale. */
  readonly oldestAt: number
  /** Rows of the caller that has most, if there are several of late; else 0. */
  readonly surplus: number
  /** From the most urgent class to the least. */
  readonly lines: readonly WaitingLine[]
  readonly curve: Curve
  /** When a batch of this key was last begun; -Infinity if none was. */
  readonly lastRunAt: number
}

export interface Moment {
  readonly now: number
  /** When a batch that is decided on now would begin: later than `now` if it is staged behind another. */
  readonly startAt: number
  /** Whether that is at once, on an executor that has nothing else to do. */
  readonly isIdle: boolean
  /** How many executors there are. */
  readonly executors: number
  /** How many executors' time the lane can count on, once the other lanes have had what they need. */
  readonly share: number
}

export type Proposal =
  /** Run up to `rows` rows, done by `finishAt`; jobs that are due before are given up, and so does the batch stay large. */
  | {
      readonly kind: 'run'
      readonly rows: number
      readonly finishAt: number
      /** When it must begin so that nothing in it is late. */
      readonly latestAt: number
    }
  /** Ask again at `until`, or when something changes; Infinity leaves it to the change. */
  | { readonly kind: 'wait'; readonly until: number }

/** A request that has just arrived, and what goes before it. */
export interface Arrival {
  readonly rows: number
  readonly deadline: number
  /** Index of its class among `priorities`. */
  readonly rank: number
  /** Rows whose turn is before its. */
  readonly rowsAhead: number
}

export interface Policy {
  /** Most rows in a run. */
  readonly maxRows: number
  propose(moment: Moment, waiting: Waiting): Proposal
  /** When a request would be answered, as far as can be told; -Infinity if the policy does not predict. */
  predict(moment: Moment, waiting: Waiting, arrival: Arrival): number
}
