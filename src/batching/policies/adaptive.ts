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
import type { Curve } from '../curve.ts'
import type { Arrival, Moment, Policy, Proposal, Waiting, WaitingLine } from '../policy.ts'

const options = {
  maxRows: z
    .int()
    .min(1)
    .max(65_536)
    .default(64)
    .describe('Most rows in one run. A larger request is run alone, piece by piece.'),
}

/** From this part of what the executors can do on, their runs are paced; and so full the batches are planned to be. */
const paced = { from: 0.5, reserve: 0.8 }
/** So much of the throughput of the largest batch is worth to make others wait for. */
const leastProductive = 0.9
/** So often a lane may try a run that seems hopeless, lest it believe for ever in what it once learnt. */
const probeMs = 1_000

export const adaptive = kind('adaptive', options, ({ maxRows }): Policy => {
  return {
    maxRows,
    propose: (moment, waiting) => propose(moment, waiting, maxRows),
    predict: (moment, waiting, arrival) => predict(moment, waiting, { ...arrival, most: fairRows(waiting, maxRows) }),
  }
})

function propose(moment: Moment, waiting: Waiting, maxRows: number): Proposal {
  const { now, startAt } = moment
  const { curve } = waiting
  if (!curve.known) return { kind: 'run', rows: maxRows, finishAt: -Infinity, latestAt: earliestDeadline(waiting) }
  const batch = largestBatch(moment, waiting, maxRows)
  if (batch.rows === 0) return hopeless(moment, waiting)
  const runMs = curve.high(batch.rows)
  const latestAt = batch.dueAt - runMs
  const pacedAt = pace(moment, waiting, { ...batch, maxRows })
  if (pacedAt > now) return { kind: 'wait', until: pacedAt }
  return { kind: 'run', rows: Math.min(batch.rows, maxRows), finishAt: startAt + runMs, latestAt }
}

interface Batch {
  readonly rows: number
  /** The earliest deadline in it. */
  readonly dueAt: number
}

/** The batch that serves the classes in their order: each can only be made smaller by those below it. */
function largestBatch(moment: Moment, waiting: Waiting, maxRows: number): Batch {
  const { now, startAt } = moment
  const { curve, lines } = waiting
  let batch: Batch = { rows: Math.min(fairRows(waiting, maxRows), waiting.rows), dueAt: Infinity }
  let rate = 0
  let kept = 0
  let below = waiting.rows
  for (const line of lines) {
    rate += line.rateAt(now)
    if (line.rows === 0) continue
    const arriving = rate
    below -= line.rows
    const isEnough = (rows: number) => carries(rows, arriving, moment, curve)
    const start = bestStart(line, { curve, startAt, most: batch.rows, kept, below, isEnough })
    if (!start) continue
    // A request larger than a batch may be is run by itself.
    const rows = Math.max(start.rows, kept === 0 ? start.least : 0)
    batch = { rows, dueAt: Math.min(batch.dueAt, start.dueAt) }
    kept += start.kept
  }
  return kept === 0 ? { rows: 0, dueAt: Infinity } : batch
}

/**
 * The largest batch that is fair to all. What one caller has beyond what the others have only fills a batch as long as that
 * makes it much more productive: the last bit of throughput for the one would be paid by the others in latency.
 */
function fairRows({ rows, surplus, curve }: Waiting, maxRows: number): number {
  if (!curve.known) return maxRows
  const others = rows - surplus
  if (surplus === 0 || others >= maxRows) return maxRows
  const productive = Math.ceil(curve.smallest((leastProductive * maxRows) / curve.mean(maxRows)))
  return Math.min(maxRows, Math.max(productive, others))
}

interface Limits {
  readonly curve: Curve
  readonly startAt: number
  /** Most rows in the batch. */
  readonly most: number
  /** Rows that the classes above have for it, and those below. */
  readonly kept: number
  readonly below: number
  /** Whether batches of so many rows carry all that comes in this class and those above it. */
  readonly isEnough: (rows: number) => boolean
}

interface Start extends Batch {
  /** Rows of the class from this job on, and of this job. */
  readonly kept: number
  readonly least: number
}

/**
 * The job of a class that is the first to be kept: the first that can be in time at all or, in overload, the one with
 * which the batch is largest; undefined if that is none. `rows` of a start counts what is done before its deadline.
 */
function bestStart(line: WaitingLine, { curve, startAt, most, kept, below, isEnough }: Limits): Start | undefined {
  let best: Start | undefined
  let left = line.rows
  let passed = 0
  let inOverload = false
  line.walk(({ deadline, work }) => {
    const slack = deadline - startAt
    const own = left
    left -= work.rows
    if (slack < curve.high(work.rows)) return true
    const fits = Math.min(curve.largest(slack, most), kept + own + below)
    const rows = Math.max(fits, Math.min(work.rows, most))
    if (!best || rows > best.rows * 1.001) best = { rows, dueAt: deadline, kept: own, least: work.rows }
    inOverload ||= rows < Math.min(most, kept + own + below) && !isEnough(rows)
    // From here on ever more is given up and ever less is left.
    passed += work.rows
    return inOverload && kept + left + below > best.rows && passed <= 2 * most
  })
  const without = Math.min(most, kept + below)
  return best && inOverload && kept > 0 && without > best.rows ? undefined : best
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

/** Nothing can be in time. Now and then something is run all the same, so that a wrong belief is mended. */
function hopeless({ now, executors }: Moment, { lastRunAt, oldestAt }: Waiting): Proposal {
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
  const rate = rateOf(lines, now)
  const most = curve.largest(dueAt - startAt, maxRows)
  if (rate * curve.mean(most) < paced.from * share * most) return -Infinity
  const inTurn = curve.largest((dueAt - startAt) / (1 + 1 / executors), maxRows)
  const planned = Math.min(inTurn, curve.smallest(rate / (share * paced.reserve)))
  return Math.min(lastRunAt + curve.mean(Math.max(rows, planned)) / executors, dueAt - curve.high(rows + 1))
}

/**
 * A place in the next batch is given to whoever could be in it, because nobody knows what will come meanwhile; unless
 * those before it fill the largest batch that it could be in, or enough is sure to come meanwhile to give it up for. A
 * place in a later batch is given if that one will be run.
 */
function predict(
  moment: Moment,
  waiting: Waiting,
  { rows, rowsAhead, deadline, rank, most }: Arrival & { readonly most: number },
): number {
  const { startAt, share } = moment
  const { curve, lines } = waiting
  if (!curve.known) return -Infinity
  const slack = deadline - startAt
  const least = Math.max(curve.high(rows), sureMs(moment, waiting, { deadline, most }))
  if (slack < least) return startAt + least
  const batch = Math.max(rows, curve.largest(slack, most))
  if (rowsAhead + rows <= batch) return startAt + curve.high(rowsAhead + rows)
  const ahead = Math.max(0, rowsAhead - rowsDueBefore(waiting, startAt + curve.high(batch), rank))
  if (ahead + rows <= batch) return startAt + curve.high(ahead + rows)
  const runs = Math.max(1, Math.floor(ahead / batch))
  const laterAt = startAt + (runs * curve.mean(batch)) / share
  const own = Math.max(rows, ahead - runs * batch + rows)
  const later = curve.largest(deadline - laterAt, most)
  const isKept = later === most || (later > 0 && carries(later, rateOf(lines, moment.now), moment, curve))
  return laterAt + curve.high(isKept ? Math.min(own, Math.max(rows, most)) : Math.max(rows, most))
}

/**
 * Time of the batch that is sure to come together in overload from requests which have as long as this one has now: with
 * less time left when the batch begins it would be given up. 0 if there is no overload, or none that can be relied on.
 */
function sureMs(
  { now, share }: Moment,
  { curve, lines }: Waiting,
  { deadline, most }: { readonly deadline: number; readonly most: number },
): number {
  const rate = lines.reduce((sum, line) => sum + line.leastRateAt(now), 0) / share
  const rows = curve.largestOf(rate, deadline - now, most)
  return rows > 0 && rate > rows / curve.mean(rows) ? curve.high(rows) : 0
}

/** Rows, down to a class, that will be given up for a batch which ends at `finishAt`. */
function rowsDueBefore({ lines }: Waiting, finishAt: number, rank: number): number {
  let rows = 0
  for (let i = 0; i <= rank; i++) {
    lines[i]!.walk(({ deadline, work }) => {
      if (deadline >= finishAt) return false
      rows += work.rows
      return true
    })
  }
  return rows
}

/** Whether batches of some rows carry what comes. */
function carries(rows: number, rate: number, { share }: Moment, curve: Curve): boolean {
  return rate <= (share * rows) / curve.mean(rows)
}

function rateOf(lines: readonly WaitingLine[], now: number): number {
  return lines.reduce((sum, line) => sum + line.rateAt(now), 0)
}
