/** The runtime: executors in their pools, and what is deployed on them. */
import { availableParallelism } from 'node:os'
import type { Clock } from '../core/clock.ts'
import { Deployment, type DeploymentEvents, type DeploymentOptions } from './deployment.ts'
import { Executor } from './executor.ts'
import { defaultPool, shadowPool, type RuntimeOptions } from './options.ts'
import { Residency } from './residency.ts'

type Own = 'id' | 'executors' | 'unloadAfterMs' | 'watchdog' | 'clock' | 'events'
export type Deploying = Omit<DeploymentOptions, Own> & { readonly unloadAfterS: number | undefined }

export interface RuntimeEvents extends Omit<DeploymentEvents, 'onWanted' | 'onRetired'> {
  /** An executor of a pool can take a batch that it could not take before. */
  onFree(pool: string): void
}

export class Runtime {
  readonly pools: ReadonlyMap<string, readonly Executor[]>
  /** By their number, which no other ever has. */
  readonly deployments: Record<number, Deployment> = {}
  readonly #options: RuntimeOptions
  readonly #clock: Clock
  readonly #events: RuntimeEvents
  readonly #residency: Residency
  /** Retired, with threads that hang: those still are the process's. */
  #hanging: readonly Deployment[] = []
  #nextId = 0
  #isClosed = false

  constructor(options: RuntimeOptions, clock: Clock, events: RuntimeEvents) {
    const { executors, shadowExecutors, pools, watchdog, memoryMb = Infinity } = options
    this.#options = options
    this.#clock = clock
    this.#events = events
    this.#residency = new Residency(memoryMb * 2 ** 20, clock)
    const all = Object.entries({ [defaultPool]: { executors }, [shadowPool]: { executors: shadowExecutors }, ...pools })
    this.pools = new Map(
      all.map(([name, pool]) => {
        const onFree = () => events.onFree(name)
        return [name, Array.from({ length: countOf(pool) }, () => new Executor({ watchdog, clock, onFree }))]
      }),
    )
  }

  /** Memory that models take, as far as is known. */
  get bytes(): number {
    return this.#residency.bytes
  }

  /** Whether anything can be run: nothing is deployed, something is ready, or would be if it were asked for. */
  get alive(): boolean {
    const all = this.#all
    return all.length === 0 || all.some((each) => each.refused() === undefined)
  }

  get #all(): Deployment[] {
    return Object.values(this.deployments)
  }

  /** Makes a version known and loads it, so that it can be tried; it takes requests once it is opened. */
  async deploy({ unloadAfterS = this.#options.unloadAfterS, ...deploying }: Deploying): Promise<Deployment | string> {
    const deployment = new Deployment({
      ...deploying,
      id: this.#nextId++,
      executors: this.pools.get(deploying.pool)!,
      unloadAfterMs: 1_000 * (unloadAfterS ?? Infinity),
      watchdog: this.#options.watchdog,
      clock: this.#clock,
      events: {
        ...this.#events,
        onWanted: (wanted) => this.#residency.want(wanted),
        onRetired: (retired) => this.#forget(retired),
      },
    })
    const tooLarge = this.#excessOf(deployment)
    if (tooLarge) return tooLarge
    await this.#residency.makeRoom(deployment.wantedBytes)
    if (this.#isClosed) return 'nothing is loaded any more'
    this.deployments[deployment.id] = deployment
    this.#residency.add(deployment)
    return deployment
  }

  /**
   * Lets a version go for good, once nobody waits for it and its runs are over, and forgets it. Its number stays its own.
   * Send it no more requests first.
   */
  async retire(id: number): Promise<void> {
    await this.deployments[id]?.retire()
  }

  #forget(deployment: Deployment): void {
    delete this.deployments[deployment.id]
    this.#residency.remove(deployment)
    this.#hanging = [...this.#hanging, deployment].filter(({ hungThreads }) => hungThreads > 0)
  }

  #excessOf({ wantedBytes }: Deployment): string | undefined {
    const { memoryMb = Infinity } = this.#options
    const wantedMb = Math.ceil(wantedBytes / 2 ** 20)
    if (wantedMb <= memoryMb) return undefined
    return `its workers need about ${wantedMb} MiB, and \`runtime.memoryMb\` is ${memoryMb}`
  }

  /**
   * Lets the workers finish what they run and leave, and kills processes that have not after so long. False if threads are
   * left, which nothing but the end of the process ends.
   */
  async close(forMs: number): Promise<boolean> {
    this.#isClosed = true
    this.#residency.close()
    const deployments = this.#all
    const all = Promise.all(deployments.map((deployment) => deployment.end()))
    if (!(await this.#within(forMs, all))) for (const deployment of deployments) deployment.kill()
    const areGone = await this.#within(killedMs, all)
    return areGone && [...deployments, ...this.#hanging].every(({ hungThreads }) => hungThreads === 0)
  }

  async #within(ms: number, done: Promise<unknown>): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const cancel = this.#clock.after(ms, () => resolve(false))
    const isDone = await Promise.race([done.then(() => true), promise])
    cancel()
    return isDone
  }
}

/** How long a process that was killed may take to be gone. */
const killedMs = 200

function countOf({ executors }: Pick<RuntimeOptions, 'executors'>): number {
  return executors === 'auto' ? Math.max(1, availableParallelism() - 1) : executors
}
