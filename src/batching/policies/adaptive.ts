/**
 * Natural batching that knows how long its runs take. It runs what is queued the moment an executor is free and never
 * waits for company, so a batch is small when it is quiet and large under load: greedy dispatch is 2-competitive for
 * total flow time and no online algorithm does much better (Gfeller et al. 2007).
 *
 * - **Deadlines.** A batch is no larger than lets its most urgent job be in time.
 * - **Overload.** When more comes than such small batches can carry, urgent jobs that force them are given up, because
 *   one request saved would cost several others (the idea of Nexus, SOSP 2019, and Clockwork, OSDI 2020). Class by class:
 *   a job is only given up if its class and those above it overload the lane by themselves.
 * - **Pacing.** Several executors on one queue take turns, a part of a run apart, if the load warrants it: runs that begin
 *   together also end together, and then all wait (the gain of Symphony, arXiv 2308.07470, without its latency).
 */
import * as z from 'zod'
import { kind } from '../../core/kinds.ts'
import { foresee, hasChance, probeMs } from '../foresight.ts'
import { largestBatch, rateOf, type Batch } from '../largest-batch.ts'
import type { Moment, Policy, Proposal, Waiting } from '../policy.ts'

const options = {
  maxRows: z
    .int()
    .min(1)
    .max(65_536)
    .default(64)
    .describe('Most rows in one run. A larger request is run alone, piece by piece.'),
}

/**
 * From `from` on of what the executors can do their runs are paced, with batches planned to be as full as `reserve`; from
 * `fullFrom` on each waits up to so many turns for the largest that deadlines let it be.
 */
const paced = { from: 0.5, reserve: 0.6, fullFrom: 0.75, turns: 2 }
export const adaptive = kind('adaptive', options, ({ maxRows }): Policy => {
  return {
    maxRows,
    propose: (moment, waiting) => propose(moment, waiting, maxRows),
    predict: (moment, waiting, arrival) => foresee(moment, waiting, arrival, maxRows),
  }
})

function propose(moment: Moment, waiting: Waiting, maxRows: number): Proposal {
  const { now, startAt } = moment
  const { curve } = waiting
  if (!curve.known) return { kind: 'run', rows: maxRows, finishAt: -Infinity, latestAt: earliestDeadline(waiting) }
  const batch = largestBatch(moment, waiting, maxRows)
  if (batch.rows === 0) return hopeless(moment, waiting, maxRows)
  const runMs = curve.high(batch.rows)
  const latestAt = batch.dueAt - runMs
  const pacedAt = pace(moment, waiting, { ...batch, maxRows })
  if (pacedAt > now) return { kind: 'wait', until: pacedAt }
  return { kind: 'run', rows: Math.min(batch.rows, maxRows), finishAt: startAt + runMs, latestAt }
}

function earliestDeadline({ lines }: Waiting): number {
  let earliest = Infinity
  for (const line of lines) {
    line.walk(({ deadline }) => {
      earliest = Math.min(earliest, deadline)
      return false
    })
  }
  return earliest
}

/**
 * Nothing can be in time, but with luck. On an idle executor luck is tried where there is a chance; and now and then
 * something is run all the same, so that a wrong belief is mended.
 */
function hopeless(moment: Moment, waiting: Waiting, maxRows: number): Proposal {
  const { now, executors } = moment
  const { lastRunAt, oldestAt, curve } = waiting
  const rows = Math.min(waiting.rows, maxRows)
  if (hasChance(moment, curve, { rows, deadline: earliestDeadline(waiting) }))
    return { kind: 'run', rows, finishAt: -Infinity, latestAt: now }
  const probeAt = Math.max(lastRunAt + probeMs * executors, oldestAt)
  if (now < probeAt) return { kind: 'wait', until: probeAt }
  return { kind: 'run', rows: 1, finishAt: -Infinity, latestAt: now }
}

/**
 * When a batch should begin so that the executors take turns; in the past if it need not wait. They are a part of a run
 * apart, of the batch that carries what comes with a reserve.
 */
function pace(
  moment: Moment,
  waiting: Waiting,
  { rows, dueAt, maxRows }: Batch & { readonly maxRows: number },
): number {
  const { now, startAt, executors, share } = moment
  const { curve, lines, lastRunAt } = waiting
  if (executors < 2 || rows >= maxRows) return -Infinity
  const rate = rateOf(waiting, now, lines.length - 1)
  const most = curve.largest(dueAt - startAt, maxRows)
  const load = (rate * curve.mean(most)) / (share * most)
  if (load < paced.from) return -Infinity
  const inTurn = curve.largest((dueAt - startAt) / (1 + 1 / executors), maxRows)
  const isFull = load > paced.fullFrom
  const planned = isFull ? inTurn : Math.min(inTurn, curve.smallest(rate / (share * paced.reserve)))
  const turnMs = curve.mean(Math.max(rows, planned)) / executors
  return Math.min(lastRunAt + (isFull ? paced.turns : 1) * turnMs, dueAt - curve.high(rows + 1))
}
