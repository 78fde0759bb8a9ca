/**
 * An instance is one version in one worker, for one executor, for as long as the version is loaded: a worker that died is
 * replaced, the sooner the longer the last one did well.
 */
import type { Clock } from '../core/clock.ts'
import type { Run } from '../core/run.ts'
import type { Loaded } from './channel.ts'
import type { WorkerOptions } from './options.ts'
import { Worker, type Death } from './worker.ts'

export interface InstanceOptions {
  readonly file: string
  readonly worker: WorkerOptions
  /** How long a worker may take until it is ready. */
  readonly loadMs: number
  /** Whether there may be another worker after one that hangs. */
  readonly mayReplace: () => boolean
  readonly clock: Clock
  /** Tries a worker that has loaded the model, before it is given requests. */
  readonly warmUp: (run: Run) => Promise<void>
  /** Told when there is a worker that can be given batches. */
  readonly onReady: () => void
  readonly onDeath: (death: Death, worker: Worker) => void
  /** Told that a worker could not be made ready. */
  readonly onProblem: (problem: string) => void
}

const firstRestartMs = 50
const slowestRestartMs = 10_000

export class Instance {
  /** The worker that can be given batches, if there is one. */
  worker: Worker | undefined
  /** Why there is none, if that is more than a matter of moments. */
  problem: string | undefined
  readonly #options: InstanceOptions
  /** Whether or not it is ready. */
  #current: Worker | undefined
  #restartMs = firstRestartMs
  #cancelRestart: (() => void) | undefined
  #isClosed = false

  constructor(options: InstanceOptions) {
    this.#options = options
  }

  /** Bytes of memory that its worker has of its own. */
  get memory(): number | undefined {
    return this.#current?.memory
  }

  /** Starts a worker and loads the model. It is ready once `prepare` has tried it. */
  async load(): Promise<Loaded> {
    const { file, worker: options, loadMs, clock } = this.#options
    const worker = new Worker(options, (death) => this.#lost(worker, death))
    this.#current = worker
    const cancel = clock.after(loadMs, () => worker.abandon())
    const loaded = await worker.load(file, options)
    cancel()
    if ('problem' in loaded && worker.alive) worker.leave()
    return loaded
  }

  async warmUp(): Promise<void> {
    const { loadMs, clock, warmUp, onReady } = this.#options
    const worker = this.#current!
    const cancel = clock.after(loadMs, () => worker.abandon())
    await warmUp(worker.run)
    cancel()
    if (!worker.alive || worker !== this.#current) return
    this.worker = worker
    this.problem = undefined
    onReady()
  }

  /** For whoever tries the model before it is served. */
  get run(): Run {
    return this.#current!.run
  }

  /** A run ended well: the next death is an accident again. */
  succeeded(): void {
    this.#restartMs = firstRestartMs
  }

  /** Lets the worker finish what it has and leave; settles when it has. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#cancelRestart?.()
    this.worker = undefined
    const current = this.#current
    if (current?.alive) current.leave()
    if (!current?.isHanging) await current?.gone
  }

  /** Ends a worker that does not leave, if it can be ended. */
  kill(): void {
    this.#current?.kill()
  }

  /** Another worker may be started, where there could not be one before. */
  replace(): void {
    if (!this.#isClosed && !this.#current?.alive && this.#options.mayReplace()) this.#restartSoon()
  }

  #lost(worker: Worker, death: Death): void {
    const { mayReplace, onDeath, onProblem } = this.#options
    if (this.worker !== worker) this.problem = `its worker died before it was ready: ${death.reason}`
    this.worker = undefined
    onDeath(death, worker)
    if (this.#isClosed) return
    if (mayReplace()) return this.#restartSoon()
    this.problem = 'too many of its threads hang in their runs'
    onProblem(this.problem)
  }

  #restartSoon(): void {
    this.#cancelRestart?.()
    this.#cancelRestart = this.#options.clock.after(this.#restartMs, () => void this.#restart())
    this.#restartMs = Math.min(this.#restartMs * 2, slowestRestartMs)
  }

  async #restart(): Promise<void> {
    const loaded = await this.load()
    if (this.#isClosed) return
    if (!('problem' in loaded)) return this.warmUp()
    this.problem = loaded.problem
    this.#options.onProblem(loaded.problem)
    // A worker that died in its load has seen to its successor.
    this.#restartSoon()
  }
}
