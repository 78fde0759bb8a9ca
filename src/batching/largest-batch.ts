/**
 * The batch that is worth most. It has no more rows than let its most urgent job be in time; in overload urgent jobs that
 * would keep it small are given up.
 */
import type { Curve } from './curve.ts'
import type { Moment, Waiting, WaitingLine } from './policy.ts'

/** So much of the throughput of the largest batch is worth to make others wait for. */
const leastProductive = 0.9

export interface Batch {
  readonly rows: number
  /** The earliest deadline in it. */
  readonly dueAt: number
}

/** The batch that serves the classes in their order: each can only be made smaller by those below it. */
export function largestBatch(moment: Moment, waiting: Waiting, maxRows: number): Batch {
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
export function fairRows({ rows, surplus, curve }: Waiting, maxRows: number): number {
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

/** Whether batches of some rows carry what comes. */
export function carries(rows: number, rate: number, { share }: Moment, curve: Curve): boolean {
  return rate <= (share * rows) / curve.mean(rows)
}

/** Rows a millisecond that come in the classes down to `rank`. */
export function rateOf({ lines }: Waiting, now: number, rank: number): number {
  let rate = 0
  for (let i = 0; i <= rank; i++) rate += lines[i]!.rateAt(now)
  return rate
}
