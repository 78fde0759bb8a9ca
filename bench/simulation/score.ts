/** What an outcome is worth. */
import type { Outcome } from './machine.ts'
import { limitPerMs, overloadPerMs } from './setups.ts'
import { offeredPerMs, type Cell, type Trace } from './traces.ts'

export interface Score {
  /** Requests on time per second, over the smaller of what was offered and what the setup can do. */
  readonly goodput: number
  /** The same over the most that can be done in overload at this offered rate. */
  readonly ofOverload: number
  /** Median latency of what was on time. */
  readonly p50Ms: number
  readonly meanRows: number
}

export function scoreOf({ latencies, meanRows }: Outcome, cell: Cell, trace: Trace): Score {
  const onTime = latencies.slice(trace.from, trace.to).filter((ms) => !Number.isNaN(ms))
  const p50Ms = onTime.toSorted()[onTime.length >> 1] ?? NaN
  return { ...goodputOf(onTime.length, cell, trace), p50Ms, meanRows }
}

export function goodputOf(onTime: number, { setup }: Cell, trace: Trace): Pick<Score, 'goodput' | 'ofOverload'> {
  const offered = offeredPerMs(trace)
  const perMs = (onTime / (trace.to - trace.from)) * offered
  return { goodput: perMs / Math.min(offered, limitPerMs(setup)), ofOverload: perMs / overloadPerMs(setup, offered) }
}
