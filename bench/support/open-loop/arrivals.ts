/** When requests are due: fixed before the first is sent, so that no server can slow down the load that it gets. */
import { seeded } from '../../../test/support/draw.ts'

export interface Arrivals {
  /** In milliseconds from the start, ascending. */
  readonly at: Float64Array
  /** Whose each is: the index of a caller. */
  readonly caller: Uint16Array
}

/** Poisson arrivals of several callers at once, each with its own rate; the same for the same seed. */
export function poissonArrivals(ratesPerSecond: readonly number[], ms: number, seed: number): Arrivals {
  const all = ratesPerSecond.flatMap((rate, caller) => {
    const draw = seeded(seed * 1_000 + caller)
    return poisson(rate / 1_000, ms, draw).map((at) => ({ at, caller }))
  })
  all.sort((x, y) => x.at - y.at)
  return { at: Float64Array.from(all, ({ at }) => at), caller: Uint16Array.from(all, ({ caller }) => caller) }
}

function poisson(ratePerMs: number, ms: number, draw: () => number): number[] {
  const times: number[] = []
  if (ratePerMs <= 0) return times
  // 1 - draw is never 0, whose logarithm would be infinite.
  const gap = () => -Math.log(1 - draw()) / ratePerMs
  for (let at = gap(); at < ms; at += gap()) times.push(at)
  return times
}
