/** When a request that arrives now would be answered, as far as can be told. */
import { carries, fairRows, rateOf } from './largest-batch.ts'
import type { Curve } from './curve.ts'
import type { Arrival, Moment, Waiting } from './policy.ts'

/** Without a run for so long, a prediction that nothing can be in time is put to the test: what was learnt may be wrong. */
export const probeMs = 1_000

/**
 * Whether what should be late may be in time all the same: on an idle executor, where nobody is harmed if it is not, with
 * an average run or one of a model that is just warming up.
 */
export function hasChance(
  { startAt, isIdle }: Moment,
  curve: Curve,
  { rows, deadline }: Pick<Arrival, 'rows' | 'deadline'>,
): boolean {
  return isIdle && (curve.young || deadline - startAt >= curve.mean(rows))
}

/**
 * A place in the next batch is given to whoever could be in it, because nobody knows what will come meanwhile; unless
 * those before it fill the largest batch that it could be in, or enough is sure to come meanwhile to give it up for. A
 * place in a later batch is given if that one will be run.
 */
export function foresee(moment: Moment, waiting: Waiting, arrival: Arrival, maxRows: number): number {
  const { startAt, share } = moment
  const { curve } = waiting
  if (!curve.known) return -Infinity
  const { rows, rowsAhead, deadline, rank } = arrival
  const most = fairRows(waiting, maxRows)
  const slack = deadline - startAt
  const least = Math.max(curve.high(rows), sureMs(moment, waiting, arrival, most))
  if (slack < least) return startAt + least
  const batch = Math.max(rows, curve.largest(slack, most))
  if (rowsAhead + rows <= batch) return startAt + curve.high(rowsAhead + rows)
  const ahead = Math.max(0, rowsAhead - rowsDueBefore(waiting, startAt + curve.high(batch), rank))
  if (ahead + rows <= batch) return startAt + curve.high(ahead + rows)
  const runs = Math.max(1, Math.floor(ahead / batch))
  const laterAt = startAt + (runs * curve.mean(batch)) / share
  const own = Math.max(rows, ahead - runs * batch + rows)
  const later = curve.largest(deadline - laterAt, most)
  const isKept = later === most || (later > 0 && carries(later, rateOf(waiting, moment.now, rank), moment, curve))
  const largest = Math.max(rows, most)
  return laterAt + curve.high(isKept ? Math.min(own, largest) : largest)
}

/**
 * Time of the batch that is sure to come together in overload from requests of the same class and those above, which have as
 * long as this one has now: with
 * less time left when the batch begins it would be given up. 0 if there is no overload, or none that can be relied on.
 */
function sureMs({ now, share }: Moment, { curve, lines }: Waiting, { deadline, rank }: Arrival, most: number): number {
  let rate = 0
  for (let i = 0; i <= rank; i++) rate += lines[i]!.leastRateAt(now) / share
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
