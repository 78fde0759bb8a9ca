/**
 * How much of a trace anybody could have on time who knew all arrivals beforehand, if batches took exactly their mean
 * time: an upper bound, which tells how much of what is lost in bursts was lost by the scheduler. Warm-up is free: losing
 * a request that does not count costs nothing.
 */
import type { Request } from './contender.ts'
import { Frontier } from './frontier.ts'
import { batchMs, type Setup } from './setups.ts'
import type { Trace } from './traces.ts'

/** The most requests that count, of this trace, that can be on time. */
export function mostOnTime(setup: Setup, trace: Trace): number {
  const lost = setup.executors === 1 && setup.lanes === 1 ? leastLost(setup, trace) : leastLostByCapacity(setup, trace)
  return trace.to - trace.from - lost
}

/**
 * Exact, for one executor and one lane. As everybody is given the same time, a batch can always be made to be of requests
 * that follow each other: a member before a gap is exchanged for the one in the gap, which is there before the batch
 * starts because a later one is, and is due later. Two batches can likewise be exchanged into the order of arrival. So a
 * dynamic programme over the requests suffices: the j-th is lost, or is the last of a batch of some size, which starts
 * when it has come and the executor is idle.
 */
function leastLost(setup: Setup, trace: Trace): number {
  const { requests } = trace
  const after: Frontier[] = [new Frontier(0, [0])]
  for (const [index, request] of requests.entries()) {
    const rows = longestBatch(setup, requests, index)
    const weight = weightOf(trace, index)
    const idleAtWith = (lost: number) => {
      let earliest = after[index]!.at(lost - weight)
      for (let size = 1; size <= rows; size++) {
        const ms = batchMs(setup, size)
        if (request.arrivedAt + ms >= earliest) break
        const endsAt = Math.max(after[index + 1 - size]!.at(lost), request.arrivedAt) + ms
        if (endsAt < earliest && endsAt <= requests[index + 1 - size]!.deadline) earliest = endsAt
      }
      return earliest
    }
    const fewest = Math.min(after[index]!.lost, after[index + 1 - Math.max(1, rows)]!.lost)
    after.push(Frontier.build(fewest, nextArrival(trace, index), idleAtWith))
  }
  return after.at(-1)!.lost
}

/** How large a batch that ends with this request can be if the executor is idle. */
function longestBatch(setup: Setup, requests: readonly Request[], last: number): number {
  const { arrivedAt } = requests[last]!
  let rows = 0
  while (rows < setup.maxRows && rows <= last) {
    if (arrivedAt + batchMs(setup, rows + 1) > requests[last - rows]!.deadline) break
    rows++
  }
  return rows
}

/**
 * A relaxation, for several executors or lanes. A request in a batch of b uses l(b)/b of an executor, between its arrival
 * and its deadline. That is at least l(c)/c for the largest batch c that it could be in: of neighbours in its lane that
 * have all come early enough for the batch to end before the first is due. So nobody does better than one machine with
 * the executors' speeds added up that works on single requests of that cost, in any pieces. There, first come, first
 * served is optimal for a given choice of requests, because it is also earliest deadline first, and a dynamic programme
 * makes the choice.
 */
function leastLostByCapacity(setup: Setup, trace: Trace): number {
  const costs = leastCosts(setup, trace.requests)
  let before = new Frontier(0, [0])
  for (const [index, { arrivedAt, deadline }] of trace.requests.entries()) {
    const weight = weightOf(trace, index)
    const last = before
    before = Frontier.build(last.lost, nextArrival(trace, index), (lost) => {
      const endsAt = Math.max(last.at(lost), arrivedAt) + costs[index]!
      return Math.min(last.at(lost - weight), endsAt <= deadline ? endsAt : Infinity)
    })
  }
  return before.lost
}

/** By request, the least time of the whole machine that it can take. */
function leastCosts(setup: Setup, requests: readonly Request[]): Float64Array {
  const costs = new Float64Array(requests.length)
  for (const mates of Map.groupBy(requests, ({ lane }) => lane).values()) {
    const largest = new Uint16Array(mates.length)
    for (const last of mates.keys()) {
      const rows = longestBatch(setup, mates, last)
      for (let place = last + 1 - rows; place <= last; place++) largest[place] = Math.max(largest[place]!, rows)
    }
    for (const [place, { index }] of mates.entries()) {
      const rows = largest[place]!
      costs[index] = batchMs(setup, rows) / rows / setup.executors
    }
  }
  return costs
}

function weightOf({ from, to }: Trace, index: number): number {
  return index >= from && index < to ? 1 : 0
}

function nextArrival({ requests }: Trace, index: number): number {
  return requests[index + 1]?.arrivedAt ?? Infinity
}
