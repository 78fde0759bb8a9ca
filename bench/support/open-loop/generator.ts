/**
 * The open-loop load generator, in a process of its own: when each request is due is fixed beforehand, it is sent then
 * whatever became of those before it, and its latency counts from then. A server that falls behind is thus seen to, where
 * a closed loop would wait for it. It also watches itself: how late it sends, and how much of a core it takes.
 */
import { constants, setPriority } from 'node:os'
import { poissonArrivals, type Arrivals } from './arrivals.ts'
import { Caller, type CallerOrder, type RequestOrder } from './caller.ts'
import { percentilesOf, type CallerReport } from './tally.ts'

export interface OpenOrder {
  readonly kind: 'open'
  readonly request: RequestOrder
  readonly callers: readonly CallerOrder[]
}

export interface RunOrder {
  readonly kind: 'run'
  readonly pool: number
  readonly ms: number
  /** One for each caller. */
  readonly ratesPerSecond: readonly number[]
  readonly seed: number
  /** Spins before each request instead of sleeping up to two milliseconds too long: for little load only. */
  readonly precise: boolean
}

export type Order = OpenOrder | RunOrder | { readonly kind: 'close'; readonly pool: number }

export interface RunReport {
  readonly ms: number
  readonly callers: readonly CallerReport[]
  /** 99th percentile of how late requests were taken up, and sent if a connection was free. */
  readonly lagP99Ms: number
  /** CPU of the generator, in cores. */
  readonly cpuShare: number
}

/** So long after the last one was due, what is in flight is given up. */
const graceMs = 10_000
const spinMs = 2

class Run {
  readonly #callers: readonly Caller[]
  readonly #arrivals: Arrivals
  readonly #order: RunOrder
  readonly #lags: number[] = []
  readonly #cpu: NodeJS.CpuUsage
  readonly #startAt: number
  readonly #onEnd: (report: RunReport) => void
  #next = 0

  constructor(callers: readonly Caller[], order: RunOrder, onEnd: (report: RunReport) => void) {
    this.#callers = callers
    this.#order = order
    this.#onEnd = onEnd
    this.#arrivals = poissonArrivals(order.ratesPerSecond, order.ms, order.seed)
    // Only now: to make up the schedule takes a while.
    this.#cpu = process.cpuUsage()
    this.#startAt = performance.now() + 5
    // Many answers at once take their time, and none of what is due meanwhile should wait for the last of them.
    for (const each of callers) each.onAnswer = (now) => this.#send(now - this.#startAt)
    this.#tick()
  }

  #tick(): void {
    const now = performance.now()
    const elapsed = now - this.#startAt
    this.#send(elapsed)
    for (const each of this.#callers) each.expire(now)
    if (elapsed > this.#order.ms + graceMs) for (const each of this.#callers) each.abort()
    if (elapsed >= this.#order.ms && this.#callers.every(({ unsettled }) => unsettled === 0)) this.#end(elapsed)
    else this.#sleep(elapsed)
  }

  /** Whatever is due. */
  #send(elapsed: number): void {
    const { at, caller } = this.#arrivals
    for (; this.#next < at.length && at[this.#next]! <= elapsed; this.#next++) {
      const dueAt = this.#startAt + at[this.#next]!
      // The clock is read for each: a crowd of them takes its time, and that is lag too.
      const sendAt = performance.now()
      this.#callers[caller[this.#next]!]!.due(dueAt, sendAt)
      this.#lags.push(sendAt - dueAt)
    }
  }

  #sleep(elapsed: number): void {
    const untilNext = (this.#arrivals.at[this.#next] ?? Infinity) - elapsed
    if (!this.#order.precise || this.#next === this.#arrivals.at.length) setTimeout(() => this.#tick(), 1)
    else if (untilNext < spinMs) setImmediate(() => this.#tick())
    else setTimeout(() => this.#tick(), untilNext - spinMs)
  }

  #end(elapsed: number): void {
    const { user, system } = process.cpuUsage(this.#cpu)
    this.#onEnd({
      ms: this.#order.ms,
      callers: this.#callers.map((each) => each.report()),
      lagP99Ms: percentilesOf(this.#lags).p99,
      cpuShare: (user + system) / 1_000 / elapsed,
    })
  }
}

/**
 * It stands for other machines, so it does not queue for a core behind the server that it loads. Where it may not choose
 * that, it is late more often, and says so.
 */
function goFirst(): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGHEST)
  } catch {
    // Needs CAP_SYS_NICE.
  }
}

goFirst()

const pools: (readonly Caller[])[] = []

async function obey(order: Order): Promise<unknown> {
  if (order.kind === 'open') {
    const callers = order.callers.map((each) => new Caller({ ...each, ...order.request }))
    for (const each of callers) await each.open()
    return pools.push(callers) - 1
  }
  const callers = pools[order.pool]!
  if (order.kind === 'run') return new Promise((resolve) => new Run(callers, order, resolve))
  for (const each of callers) each.close()
  return true
}

process.on('message', (order) => {
  void obey(order as Order).then((reply) => process.send!(reply))
})
