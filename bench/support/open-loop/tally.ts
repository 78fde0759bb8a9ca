/** What came of the requests of a caller. */
export interface Percentiles {
  readonly p50: number
  readonly p99: number
}

export interface CallerReport {
  /** What was due. All below add up to it. */
  readonly offered: number
  /** 200 within the deadline, counted from the time the request was due. */
  readonly ok: number
  /** 200 after it. */
  readonly late: number
  /** 503. */
  readonly refused: number
  /** 504. */
  readonly expired: number
  /** Any other answer, or none. */
  readonly other: number
  /** No connection came free before the deadline. */
  readonly notSent: number
  /** Of all with 200, late or not, from the time they were due. */
  readonly servedMs: Percentiles
  /** Of all with 503, from the time they were sent. */
  readonly refusalMs: Percentiles
  /** Connections that the server closed, or that were given up. */
  readonly reopened: number
}

type Outcome = 'ok' | 'late' | 'refused' | 'expired' | 'other' | 'notSent'

/** Counts what came of the requests of one run. */
export class Tally {
  offered = 0
  reopened = 0
  readonly #counts = { ok: 0, late: 0, refused: 0, expired: 0, other: 0, notSent: 0 }
  readonly #servedMs: number[] = []
  readonly #refusalMs: number[] = []
  #settled = 0

  get unsettled(): number {
    return this.offered - this.#settled
  }

  count(outcome: Outcome): void {
    this.#counts[outcome]++
    this.#settled++
  }

  served(ms: number, onTime: boolean): void {
    this.#servedMs.push(ms)
    this.count(onTime ? 'ok' : 'late')
  }

  refused(ms: number): void {
    this.#refusalMs.push(ms)
    this.count('refused')
  }

  report(): CallerReport {
    const { offered, reopened } = this
    const [servedMs, refusalMs] = [percentilesOf(this.#servedMs), percentilesOf(this.#refusalMs)]
    return { offered, reopened, ...this.#counts, servedMs, refusalMs }
  }
}

/** Zeros if there is nothing. */
export function percentilesOf(values: readonly number[]): Percentiles {
  const sorted = Float64Array.from(values).toSorted()
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0
  return { p50: at(0.5), p99: at(0.99) }
}
