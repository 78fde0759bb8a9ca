/**
 * A deployment is one version in the workers of its pool: an instance for each executor, or none while the version is
 * unloaded. Whoever asks for an unloaded one has it loaded, and waits.
 */
import type { Clock } from '../core/clock.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import type { Run } from '../core/run.ts'
import type { Graph } from '../core/signature.ts'
import type { Device } from './channel.ts'
import type { Executor } from './executor.ts'
import { Instance } from './instance.ts'
import type { RuntimeOptions, WorkerOptions } from './options.ts'
import type { Death, Worker } from './worker.ts'

export interface DeploymentOptions {
  /** The number by which executors know it. */
  readonly id: number
  readonly model: string
  readonly version: string
  readonly file: string
  /** Why the version must not be loaded; undefined if it may. */
  readonly verify: () => Promise<string | undefined>
  /** Of the graph and its weights. */
  readonly fileBytes: number
  /** Whether a run may be repeated to see how things stand. */
  readonly isRepeatable: boolean
  readonly pool: string
  readonly executors: readonly Executor[]
  readonly worker: WorkerOptions
  readonly unloadAfterMs: number
  readonly watchdog: RuntimeOptions['watchdog']
  readonly clock: Clock
  readonly events: DeploymentEvents
}

export interface DeploymentEvents {
  /** It should be loaded as soon as there is room. */
  onWanted(deployment: Deployment): void
  /** Something can be run that could not be run before. */
  onReady(deployment: Deployment): void
  onDeath(deployment: Deployment, death: Death): void
  /** What waits for it need not wait. */
  onProblem(deployment: Deployment, problem: string): void
  /** It is gone for good. */
  onRetired(deployment: Deployment): void
}

/** What a worker takes before it has loaded anything, MiB. */
const emptyMb = { thread: 8, process: 110 }
/** After a load that failed, the next is not tried for so long. */
const retryMs = 2_000
/** How often it is looked whether the last request of one that is to go is answered. */
const retireTickMs = 20

export class Deployment {
  readonly options: DeploymentOptions
  state: 'unloaded' | 'wanted' | 'loading' | 'loaded' = 'unloaded'
  /** What runs it, as of the last load. */
  device: Device | undefined
  deaths = 0
  /** Loads because a request came, whether it could wait for it or not. */
  coldStarts = 0
  /** How long it takes from the beginning of a load to the first worker that is ready. */
  loadMs = 0
  /** When somebody last asked for it. */
  usedAt: number
  /** When it was last loaded. */
  loadedAt = -Infinity
  /** Whether requests wait for it. */
  isAsked: () => boolean = () => false
  #instances: readonly Instance[] = []
  #warmUp: (run: Run) => Promise<boolean> = () => Promise.resolve(true)
  /** Whether a worker has run what `warmUp` tries. */
  #hasRun = false
  #failedAt = -Infinity
  #loadStartedAt = 0
  /** Threads that were left alone, of whatever instance. */
  readonly #hanging = new Set<Worker>()
  /** Instances that were told to leave and are not gone. */
  readonly #leaving = new Map<Instance, Promise<void>>()
  /** Whether it has ever taken requests, and whether it never will again. */
  #isOpen = false
  #isOver = false
  #retiring: Promise<void> | undefined

  constructor(options: DeploymentOptions) {
    this.options = options
    this.usedAt = options.clock.now()
  }

  /** Workers that can be given batches. */
  get ready(): number {
    return this.#instances.filter(({ worker }) => worker !== undefined).length
  }

  /** Threads that were left alone in a run and have not come back. */
  get hungThreads(): number {
    return this.#hanging.size
  }

  /** Whether a batch could be run now. */
  get isReady(): boolean {
    return this.#instances.some(hasWorker)
  }

  /** Whether it must not be unloaded. */
  get isBusy(): boolean {
    const { id, executors } = this.options
    return this.state === 'loading' || this.isAsked() || executors.some((executor) => executor.holds(id))
  }

  /** Memory that it takes now, as far as is known: what leaves is still there. */
  get bytes(): number {
    return this.#instances.reduce((sum, { memory }) => sum + (memory ?? this.#instanceBytes), 0) + this.#leavingBytes
  }

  /** Memory that it would take. */
  get wantedBytes(): number {
    return this.options.executors.length * this.#instanceBytes
  }

  get id(): number {
    return this.options.id
  }

  get #leavingBytes(): number {
    return this.#leaving.size * this.#instanceBytes
  }

  get #instanceBytes(): number {
    const { worker, fileBytes } = this.options
    return emptyMb[worker.isolation] * 2 ** 20 + fileBytes
  }

  /** The first load: returns the graph, or what is wrong with the file. It is not ready before it is `open`. */
  async deploy(): Promise<Graph | string> {
    if (this.#isOver) return over
    this.#begin()
    const all = await Promise.all(this.#instances.map((instance) => instance.load()))
    const loaded = all.find((each) => 'problem' in each) ?? all[0]!
    if ('problem' in loaded) {
      await this.unload()
      return loaded.problem
    }
    return this.#isOver ? over : loaded.graph
  }

  /** For whoever tries the model before it is served. */
  get run(): Run {
    return this.#instances[0]?.run ?? (() => Promise.resolve({ kind: 'unstarted' }))
  }

  /**
   * Lets every worker, of now and later, try `warmUp`, which says whether it could run anything, and takes requests.
   * Returns why it does not.
   */
  async open(warmUp: (run: Run) => Promise<boolean>): Promise<string | undefined> {
    this.#warmUp = warmUp
    await Promise.all(this.#instances.map((instance) => instance.warmUp()))
    const unready = this.#instances.find(({ worker }) => worker === undefined)
    if (this.#isOver) return over
    if (unready) return unready.problem ?? 'its worker died when it was tried'
    this.#readyNow()
    this.state = 'loaded'
    this.#isOpen = true
    return undefined
  }

  /** Somebody asks for it. */
  use(now: number): void {
    this.usedAt = now
    if (this.state !== 'unloaded' || this.refused()) return
    this.state = 'wanted'
    this.options.events.onWanted(this)
  }

  /** Nobody asks for it any more, and it was not loaded. */
  forgo(): void {
    this.state = 'unloaded'
  }

  /** Loads it again, one worker after another: the first takes requests while the next is loaded. */
  async load(): Promise<void> {
    if (this.#isOver) return
    this.coldStarts++
    this.#begin()
    for (const instance of this.#instances) {
      const loaded = await instance.load()
      if ('problem' in loaded) return this.#fail(loaded.problem)
      await instance.warmUp()
      if (instance === this.#instances[0]) this.#readyNow()
    }
    this.state = 'loaded'
  }

  /** Lets the workers go, once they are done; settles when they are gone. */
  async unload(): Promise<void> {
    const { id, executors } = this.options
    const leaving = this.#instances
    this.#instances = []
    this.state = 'unloaded'
    for (const executor of executors) executor.dismiss(id)
    await Promise.all(leaving.map((instance) => this.#dismiss(instance)))
  }

  /**
   * Lets it go for good, once nobody waits for it and its runs are over: whoever calls this sees to it that no more
   * requests come. It is a refusal from then on.
   */
  retire(): Promise<void> {
    this.#retiring ??= this.#retire()
    return this.#retiring
  }

  /** Lets the workers go, and none come after them; settles when all that ever left are gone. */
  async end(): Promise<void> {
    this.#isOver = true
    await this.unload()
    await Promise.all(this.#leaving.values())
  }

  /** Ends workers that do not leave, if they can be ended. */
  kill(): void {
    for (const instance of this.#leaving.keys()) instance.kill()
  }

  /** Why it cannot be asked, if that is more than a matter of moments. */
  refused(): Refusal | undefined {
    if (this.isReady) return undefined
    if (this.#isOver) return refuse('not_ready', 'this version is no longer served')
    const isKnownBad = this.options.clock.now() - this.#failedAt < retryMs
    const isFailing = this.#instances.some(({ problem }) => problem !== undefined)
    return isKnownBad || isFailing ? refuse('not_ready', 'no worker can load this model at the moment') : undefined
  }

  /** When it can be asked, as far as can be told; `now` if that is at once. */
  readyAt(now: number): number {
    if (this.isReady) return now
    return this.state === 'loading' ? Math.max(now, this.#loadStartedAt + this.loadMs) : now + this.loadMs
  }

  #begin(): void {
    const { executors, id, clock } = this.options
    this.state = 'loading'
    this.#loadStartedAt = clock.now()
    this.#instances = executors.map(() => this.#instance())
    for (const [i, executor] of executors.entries()) executor.host(id, this.#instances[i]!)
  }

  async #fail(problem: string): Promise<void> {
    this.#failedAt = this.options.clock.now()
    await this.unload()
    this.options.events.onProblem(this, problem)
  }

  async #dismiss(instance: Instance): Promise<void> {
    const closing = instance.close()
    this.#leaving.set(instance, closing)
    await closing
    this.#leaving.delete(instance)
  }

  async #retire(): Promise<void> {
    const { clock, events } = this.options
    // One that never took requests is loading for good: its load has failed.
    while (this.#isOpen && !this.#isOver && (this.isBusy || this.state === 'wanted')) {
      await new Promise<void>((resolve) => void clock.after(retireTickMs, resolve))
    }
    await this.end()
    events.onRetired(this)
  }

  #instance(): Instance {
    const { file, verify, isRepeatable, worker, watchdog, clock, events } = this.options
    const { loadMs, hungThreads } = watchdog
    return new Instance({
      file,
      verify,
      isRepeatable,
      worker,
      loadMs,
      mayReplace: () => this.#hanging.size <= hungThreads,
      clock,
      warmUp: (run) => this.#isFit(run),
      onReady: (device) => {
        this.device = device
        events.onReady(this)
      },
      onDeath: (death, dead) => {
        this.deaths++
        if (death.isHanging) void this.#waitFor(dead)
        events.onDeath(this, death)
      },
      onProblem: (problem) => events.onProblem(this, problem),
    })
  }

  /** A worker that can run nothing of what one before it could is unfit, whatever it says of itself. */
  async #isFit(run: Run): Promise<boolean> {
    const couldRun = await this.#warmUp(run)
    this.#hasRun ||= couldRun
    return couldRun || !this.#hasRun
  }

  async #waitFor(worker: Worker): Promise<void> {
    this.#hanging.add(worker)
    await worker.gone
    this.#hanging.delete(worker)
    for (const instance of this.#instances) instance.replace()
  }

  #readyNow(): void {
    const now = this.options.clock.now()
    this.loadMs = now - this.#loadStartedAt
    this.loadedAt = now
    this.#failedAt = -Infinity
  }
}

function hasWorker({ worker }: Instance): boolean {
  return worker !== undefined
}

const over = 'it is no longer served'
