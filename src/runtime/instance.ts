/**
 * An instance is one version in one worker, for one executor, for as long as the version is loaded: a worker that died is
 * replaced, the sooner the longer the last one did well.
 */
import type { Clock } from '../core/clock.ts'
import type { Run } from '../core/run.ts'
import type { Device, Loaded } from './channel.ts'
import type { WorkerOptions } from './options.ts'
import { Worker, type Death } from './worker.ts'

export interface InstanceOptions {
  readonly file: string
  /** Why the version must not be loaded; undefined if it may. */
  readonly verify: () => Promise<string | undefined>
  /** Whether a run may be repeated to see how things stand. */
  readonly isRepeatable: boolean
  readonly worker: WorkerOptions
  /** How long a worker may take until it is ready. */
  readonly loadMs: number
  /** Whether there may be another worker after one that hangs. */
  readonly mayReplace: () => boolean
  readonly clock: Clock
  /** Tries a worker that has loaded the model, before it is given requests; says whether it is fit for them. */
  readonly warmUp: (run: Run) => Promise<boolean>
  /** Told when there is a worker that can be given batches. */
  readonly onReady: (device: Device) => void
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
  /** What runs it. */
  #device: Device | undefined
  /** Those that the next worker may take, and those that were given up before. */
  #providers: WorkerOptions['providers']
  #missed: Device['missed'] = []
  #restartMs = firstRestartMs
  #cancelRestart: (() => void) | undefined
  #isClosed = false
  /** The worker that was started last died, and what comes next is settled. */
  #isSeenTo = false

  constructor(options: InstanceOptions) {
    this.#options = options
    this.#providers = options.worker.providers
  }

  /** Bytes of memory that its worker has of its own. */
  get memory(): number | undefined {
    return this.#current?.memory
  }

  /** Starts a worker and loads the model. It is ready once `warmUp` has tried it. */
  async load(): Promise<Loaded> {
    const { file, verify, isRepeatable, clock, loadMs } = this.#options
    const problem = await verify()
    if (problem !== undefined) return { problem }
    if (this.#isClosed) return { problem: 'it was unloaded' }
    const options = { ...this.#options.worker, providers: this.#providers }
    const worker = new Worker(options, (death) => this.#lost(worker, death))
    this.#current = worker
    const cancel = clock.after(loadMs, () => worker.abandon())
    const loaded = await worker.load(file, options, isRepeatable)
    cancel()
    if ('problem' in loaded && worker.alive) worker.leave()
    if ('device' in loaded) this.#device = { ...loaded.device, missed: [...this.#missed, ...loaded.device.missed] }
    return loaded
  }

  /** Lets the worker be tried; says whether it is ready. */
  async warmUp(): Promise<boolean> {
    const worker = this.#current!
    const isFit = await this.#options.warmUp(this.run)
    if (!worker.alive || worker !== this.#current || this.#isClosed) return false
    if (!isFit) {
      worker.leave()
      this.#giveUpProvider()
      this.#tryAgain('it fails on what it has run before')
      return false
    }
    worker.serve()
    this.worker = worker
    this.problem = undefined
    this.#options.onReady(this.#device!)
    return true
  }

  /** For whoever tries the model before it is served. No run may take longer than a load. */
  readonly run: Run = async (program, works) => {
    const { clock, loadMs } = this.#options
    const worker = this.#current!
    const cancel = clock.after(loadMs, () => worker.abandon())
    const ran = await worker.run(program, works)
    cancel()
    return ran
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
    const { mayReplace, onDeath } = this.#options
    this.#isSeenTo = true
    if (this.worker !== worker) this.problem = `its worker died before it was ready: ${death.reason}`
    this.worker = undefined
    onDeath(death, worker)
    if (this.#isClosed) return
    if (mayReplace()) return this.#restartSoon()
    this.#fail('too many of its threads hang in their runs')
  }

  #restartSoon(): void {
    this.#cancelRestart?.()
    this.#cancelRestart = this.#options.clock.after(this.#restartMs, () => {
      this.#cancelRestart = undefined
      void this.#restart()
    })
    this.#restartMs = Math.min(this.#restartMs * 2, slowestRestartMs)
  }

  async #restart(): Promise<void> {
    this.#isSeenTo = false
    const loaded = await this.load()
    if (this.#isClosed) return
    if (!('problem' in loaded)) await this.warmUp()
    else if (!this.#isSeenTo) this.#tryAgain(loaded.problem)
  }

  #tryAgain(problem: string): void {
    this.#fail(problem)
    this.#restartSoon()
  }

  #fail(problem: string): void {
    this.problem = problem
    this.#options.onProblem(problem)
  }

  /** A device that lets itself be had and then runs nothing is as good as none: the next worker does without. */
  #giveUpProvider(): void {
    const { providers } = this.#options.worker
    const [provider] = this.#device!.provider.split('+')
    const rest = this.#providers.slice(this.#providers.findIndex((each) => each === provider) + 1)
    const isLast = rest.length === 0
    this.#providers = isLast ? providers : rest
    this.#missed = isLast
      ? []
      : [...this.#device!.missed, { provider: provider!, why: 'it fails on what it has run before' }]
  }
}
