/** What arrives when. Every contender gets the same: a trace follows from setup, kind, load and seed alone. */
import { exponential, gamma, uniform, type Draw } from './draws.ts'
import type { Request } from './contender.ts'
import { limitPerMs, type Setup } from './setups.ts'

/** `gamma4`: bursts, gaps with a coefficient of variation of 4. */
export type ArrivalKind = 'poisson' | 'gamma4'

export interface Cell {
  readonly setup: Setup
  readonly arrivals: ArrivalKind
  /** What is offered, over the limit of the setup. */
  readonly load: number
  readonly seed: number
}

export interface Trace {
  readonly requests: readonly Request[]
  /** The requests that count, from this index to before the other: neither the first ones nor the last ones do. */
  readonly from: number
  readonly to: number
}

/** Shares of the requests, and how many deadlines that has to last: for queues to fill, and for schedulers to learn. */
const warmUp = { share: 0.15, deadlines: 10 }
const scored = { share: 0.85, deadlines: 20 }

/**
 * About `count` requests, or more where that would be over too soon for the queues to show how they behave.
 *
 * After the last request that counts others go on arriving until it can no longer matter to it: who is last would
 * otherwise have the machine to itself, which in overload would flatter everybody.
 */
export function traceOf(cell: Cell, count: number): Trace {
  const { deadlineMs } = cell.setup
  const perDeadline = cell.load * limitPerMs(cell.setup) * deadlineMs
  const atLeast = ({ share, deadlines }: typeof warmUp) => Math.ceil(Math.max(count * share, perDeadline * deadlines))
  const from = atLeast(warmUp)
  const to = from + atLeast(scored)
  const sources = Array.from({ length: cell.setup.lanes }, (_, lane) => new Source(cell, lane))
  const requests: Request[] = []
  for (let until = Infinity; ;) {
    const { lane, nextAt: arrivedAt } = sources.reduce((first, each) => (each.nextAt < first.nextAt ? each : first))
    if (arrivedAt > until) break
    requests.push({ index: requests.length, lane, arrivedAt, deadline: arrivedAt + deadlineMs })
    if (requests.length === to) until = arrivedAt + 2 * deadlineMs
    sources[lane]!.advance()
  }
  return { requests, from, to }
}

/** How often the requests that count arrive. */
export function offeredPerMs({ requests, from, to }: Trace): number {
  return (to - from) / (requests[to - 1]!.arrivedAt - requests[from]!.arrivedAt)
}

export function cellName({ setup, arrivals, load, seed }: Cell): string {
  return `${setup.name}/${arrivals}/${load}/${seed}`
}

class Source {
  readonly lane: number
  nextAt = 0
  readonly #gap: Draw
  readonly #meanMs: number

  constructor(cell: Cell, lane: number) {
    const draw = uniform(`arrivals/${cellName(cell)}/${lane}`)
    this.lane = lane
    this.#gap = cell.arrivals === 'poisson' ? exponential(draw) : gamma(draw, 1 / 16)
    this.#meanMs = cell.setup.lanes / (cell.load * limitPerMs(cell.setup))
    this.advance()
  }

  advance(): void {
    this.nextAt += this.#gap() * this.#meanMs
  }
}
