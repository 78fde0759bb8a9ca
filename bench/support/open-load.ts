/** Open-loop load on a server: see open-loop/generator.ts. */
import type { HttpTarget } from './load.ts'
import type { HttpRequest } from './requests.ts'
import type { CallerOrder } from './open-loop/caller.ts'
import type { Order, RunReport } from './open-loop/generator.ts'
import type { CallerReport } from './open-loop/tally.ts'
import { Peer } from './processes.ts'

export interface Demand extends HttpRequest {
  /** The server is told, too. Infinite: it is not, and any time will do. */
  readonly deadlineMs: number
  readonly callers: readonly CallerOrder[]
}

export interface OpenRun {
  readonly ms: number
  /** One for each caller. */
  readonly ratesPerSecond: readonly number[]
  /** Exact to the tenth of a millisecond, at the price of CPU: for little load only. */
  readonly precise?: boolean
}

/** Open connections to one server. */
export interface OpenLoad {
  run(run: OpenRun): Promise<RunReport>
  close(): Promise<unknown>
}

/** Only the generator's own thread goes first: with helpers the collector would wait for those behind the server. */
const flags = ['--single-threaded-gc']

export class OpenLoadGenerator implements AsyncDisposable {
  readonly #peer = new Peer(new URL('open-loop/generator.ts', import.meta.url), flags)
  /** Each run has arrivals of its own, the same ones whenever the bench runs. */
  #seed = 0

  async open({ port }: HttpTarget, { callers, ...rest }: Demand): Promise<OpenLoad> {
    const pool = await this.#ask<number>({ kind: 'open', request: { port, ...rest }, callers })
    return {
      run: (run) => this.#ask({ kind: 'run', pool, precise: false, ...run, seed: ++this.#seed }),
      close: () => this.#ask({ kind: 'close', pool }),
    }
  }

  #ask<Reply>(order: Order): Promise<Reply> {
    return this.#peer.ask(order)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#peer[Symbol.asyncDispose]()
  }
}

const maxLagMs = 5
const maxCpuShare = 0.8

/** Whether the generator kept its schedule with a core to spare; what a slice says in which it did not is void. */
export function isSound({ lagP99Ms, cpuShare }: RunReport): boolean {
  return lagP99Ms <= maxLagMs && cpuShare <= maxCpuShare
}

/** Measures a slice until it is sound; throws when it never is, for then the load is beyond the generator. */
export async function soundly(run: () => Promise<RunReport>): Promise<{ report: RunReport; voided: number }> {
  const maxVoided = 6
  for (let voided = 0; ; voided++) {
    const report = await run()
    if (isSound(report)) return { report, voided }
    const { lagP99Ms, cpuShare } = report
    const found = `lag ${lagP99Ms.toFixed(1)} ms, ${cpuShare.toFixed(2)} of a core`
    if (voided === maxVoided) throw new Error(`the generator does not keep up with this load: ${found}`)
  }
}

/** Requests answered in time, by second. */
export function goodputOf({ ms, callers }: RunReport): number {
  return (sumOf(callers, 'ok') * 1_000) / ms
}

export type Count = 'offered' | 'ok' | 'late' | 'refused' | 'expired' | 'other' | 'notSent' | 'reopened'

export function sumOf(callers: readonly CallerReport[], count: Count): number {
  return callers.reduce((sum, each) => sum + each[count], 0)
}

/** What came of what was offered, in words. */
export function showRun(run: RunReport): string {
  const offered = sumOf(run.callers, 'offered')
  const outcomes = (['ok', 'late', 'refused', 'expired', 'other', 'notSent'] as const)
    .map((count) => `${count} ${((100 * sumOf(run.callers, count)) / offered).toFixed(1)}%`)
    .join(', ')
  const generator = `generator lag ${run.lagP99Ms.toFixed(1)} ms, ${run.cpuShare.toFixed(2)} cores`
  return `${((offered * 1_000) / run.ms).toFixed(0)}/s offered: ${outcomes}; ${generator}`
}
