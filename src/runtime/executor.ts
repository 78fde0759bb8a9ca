/**
 * An executor is leave to run one batch at a time: there are as many as runs may be under way at once. It has a worker for
 * each version that is loaded, runs the batches it is given in their order, and keeps the next one ready behind the one
 * that runs.
 */
import type { Clock } from '../core/clock.ts'
import type { Ran, Work } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import { slots } from './channel.ts'
import type { Instance } from './instance.ts'
import type { RuntimeOptions } from './options.ts'
import type { Staged } from './worker.ts'

export interface ExecutorOptions {
  readonly watchdog: RuntimeOptions['watchdog']
  readonly clock: Clock
  /** Told when it can take a batch that it could not take before. */
  readonly onFree: () => void
}

interface Run {
  readonly programId: number
  readonly instance: Instance
  readonly staged: Staged
  readonly limitMs: number
  readonly resolve: (ran: Ran) => void
  isSubmitted: boolean
  /** How long it has been at the head, as far as this thread was awake. */
  ageMs: number
}

/** How often runs are looked after. */
const tickMs = 100

export class Executor {
  readonly #options: ExecutorOptions
  /** By the number of the program. */
  readonly #instances = new Map<number, Instance>()
  readonly #runs: Run[] = []
  #tickedAt = 0
  #isWatching = false

  constructor(options: ExecutorOptions) {
    this.#options = options
  }

  get free(): boolean {
    return this.#runs.length < slots
  }

  get idle(): boolean {
    return this.#runs.length === 0
  }

  /** Whether it has a worker for a program. */
  takes({ id }: Pick<Program, 'id'>): boolean {
    return this.#instances.get(id)?.worker !== undefined
  }

  /** Whether a batch of a program is with it. */
  holds(id: number): boolean {
    return this.#runs.some(({ programId }) => programId === id)
  }

  host(id: number, instance: Instance): void {
    this.#instances.set(id, instance)
  }

  dismiss(id: number): void {
    this.#instances.delete(id)
  }

  /** Stages a batch and runs it when its turn comes. Call only when `free`, and with what it `takes`. */
  async run(program: Program, works: readonly Work[], expectedMs?: number): Promise<Ran> {
    const instance = this.#instances.get(program.id)
    const staged = instance?.worker?.stage(program, works)
    if (!instance || !staged) return { kind: 'unstarted' }
    if (typeof staged === 'string') return { kind: 'failed', reason: staged }
    return new Promise((resolve) => {
      const limitMs = this.#limitMs(expectedMs)
      this.#runs.push({ programId: program.id, instance, staged, limitMs, resolve, isSubmitted: false, ageMs: 0 })
      this.#advance()
      this.#watch()
    })
  }

  /** Hands over what may be: the first run, and the next if it is the same worker's, which keeps their order itself. */
  #advance(): void {
    const [head, next] = this.#runs
    if (head && !head.isSubmitted) this.#submit(head)
    if (next && !next.isSubmitted && next.staged.worker === head?.staged.worker) this.#submit(next)
  }

  #submit(run: Run): void {
    run.isSubmitted = true
    run.staged.worker.submit(run.staged, (ran) => {
      this.#runs.splice(this.#runs.indexOf(run), 1)
      if (ran.kind === 'done') run.instance.succeeded()
      run.resolve(ran)
      this.#advance()
      this.#options.onFree()
    })
  }

  #limitMs(expectedMs: number | undefined): number {
    const { factor, leastMs, mostMs } = this.#options.watchdog
    return expectedMs === undefined ? mostMs : Math.min(mostMs, Math.max(leastMs, factor * expectedMs))
  }

  #watch(): void {
    if (this.#isWatching) return
    const { clock } = this.#options
    this.#isWatching = true
    this.#tickedAt = clock.now()
    clock.after(tickMs, () => this.#tick())
  }

  /** A machine that slept, or a thread that was busy, is no reason to call a run slow: each tick counts as two at most. */
  #tick(): void {
    this.#isWatching = false
    const [head] = this.#runs
    if (!head) return
    head.ageMs += Math.min(2 * tickMs, this.#options.clock.now() - this.#tickedAt)
    if (head.ageMs > head.limitMs) head.staged.worker.abandon()
    this.#watch()
  }
}
