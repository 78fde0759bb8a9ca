/**
 * The composition root: a configuration becomes a gateway here, by plain constructor calls. Concepts do not import each
 * other; what one needs of another is passed from this file.
 */
import { createIdentify } from './auth/auth.ts'
import { Accounts } from './batching/accounts.ts'
import { Arbiter } from './batching/arbiter.ts'
import { Lane } from './batching/lane.ts'
import type { BatchingOptions } from './batching/options.ts'
import { policies } from './batching/policies.ts'
import { redact, type Config, type ConfigFile } from './config.ts'
import { systemClock, type Clock } from './core/clock.ts'
import type { Mistake } from './core/document.ts'
import { refuse, type Refusal } from './core/refusal.ts'
import { showSpec } from './core/signature.ts'
import { loadFleet, type Model, type Version } from './models/fleet.ts'
import { scanStore } from './models/store.ts'
import { badFallbacks, strangers, versionOf } from './misfits.ts'
import type { Steps, Target } from './pipeline.ts'
import { constantFallback } from './routing/constant.ts'
import { versionFallback, type Fallback } from './routing/fallback.ts'
import { pathOf, serviceDefaults, type RouteOptions } from './routing/options.ts'
import { Router, type Route } from './routing/router.ts'
import type { Deployment } from './runtime/deployment.ts'
import { defaultPool } from './runtime/options.ts'
import { Runtime } from './runtime/runtime.ts'
import type { EdgeCounts } from './telemetry/edge-counts.ts'
import { Instruments, type VersionCounts } from './telemetry/instruments.ts'
import { Journal } from './telemetry/journal.ts'
import { createLog, type Logger } from './telemetry/log.ts'
import type { VersionState } from './telemetry/version-gauges.ts'

/** A version with the lane in which its requests wait. */
export interface Served extends Target {
  readonly digest: string
  readonly samples: readonly string[]
  readonly batched: boolean
  readonly why: string
  readonly maxRows: number
  readonly lane: Lane
  readonly deployment: Deployment
  readonly counts: VersionCounts
  /** What runs it, and how long that takes as far as it is known. */
  runsOn(): Pick<VersionState, 'provider' | 'device'> & { readonly runMs: Lane['fit'] }
  /** Why it cannot be run, if it will not be soon either. */
  refused(): Refusal | undefined
}

export interface ServedModel {
  readonly name: string
  readonly contract: Target['contract']
  readonly version: string
  readonly versions: ReadonlyMap<string, Served>
}

export interface Failed {
  readonly mistakes: Mistake[]
  /** A thread does not come back from a run that was tried: nothing but the end of the process ends it. */
  readonly isStuck: boolean
}

/** Loads everything; returns the gateway, or every reason why there is none. */
export async function createGateway(
  { config, locate }: ConfigFile,
  clock: Clock = systemClock,
): Promise<{ gateway: Gateway } | Failed> {
  const log = createLog(config.log)
  const { bundles, mistakes } = await scanStore(config.store.path)
  if (mistakes.length > 0) return { mistakes, isStuck: false }
  const lost = strangers({ config, locate }, bundles)
  if (lost.length > 0) return { mistakes: lost, isStuck: false }
  const wiring = wire(config, clock, log)
  const { runtime } = wiring
  const loading = loadFleet(bundles, {
    deploy: ({ model, version, file, bytes, verify, manifest }) => {
      const { pool = defaultPool, worker = config.runtime.worker, unloadAfterS } = config.models[model] ?? {}
      const isRepeatable = !manifest.sideEffects
      const placement = { pool, worker, unloadAfterS }
      return runtime.deploy({ model, version, file, fileBytes: bytes, verify, isRepeatable, ...placement })
    },
    maxRows: (model) => (config.models[model]?.batching ?? config.batching).policy.maxRows,
    warmUpMs: config.runtime.warmUpMs,
    clock,
  })
  // A defect must not leave workers behind that keep the process up.
  const fleet = await loading.catch(async (defect: unknown) => {
    await runtime.close(leaveMs)
    throw defect
  })
  fleet.mistakes.push(...badFallbacks({ config, locate }, fleet.models))
  if (fleet.mistakes.length > 0) {
    return { mistakes: fleet.mistakes, isStuck: !(await runtime.close(leaveMs)) }
  }
  return { gateway: new Gateway(config, fleet.models, wiring) }
}

/** How long workers have to leave that nobody waits for. */
const leaveMs = 5_000

/** What is there before any model is. */
interface Wiring {
  readonly clock: Clock
  readonly log: Logger
  readonly runtime: Runtime
  /** By the name of their pool. */
  readonly arbiters: ReadonlyMap<string, Arbiter>
  /** By the number of the deployment. */
  readonly lanes: Map<number, Lane>
  readonly accounts: Accounts
}

function wire(config: Config, clock: Clock, log: Logger): Wiring {
  const lanes: Wiring['lanes'] = new Map()
  const about = ({ options: { model, version } }: Deployment) => ({ model, version })
  const runtime: Runtime = new Runtime(config.runtime, clock, {
    onFree: (pool) => arbiters.get(pool)?.poke(),
    onReady: ({ options: { pool } }) => arbiters.get(pool)!.poke(),
    onDeath: (deployment, { reason }) => {
      log.error({ ...about(deployment), reason }, 'a worker died and is being replaced')
    },
    onProblem: (deployment, reason) => {
      log.error({ ...about(deployment), reason }, 'a worker cannot be made ready')
      const refusal = deployment.refused()
      if (refusal) lanes.get(deployment.id)?.clear(refusal)
    },
  })
  const arbiters = new Map([...runtime.pools].map(([name, executors]) => [name, new Arbiter(executors, clock)]))
  return { clock, log, runtime, arbiters, lanes, accounts: new Accounts(config.fairness.weights) }
}

export class Gateway {
  readonly steps: Steps
  readonly models: ReadonlyMap<string, ServedModel>
  readonly routes: readonly Route<Target>[]
  readonly log: Logger
  readonly #config: Config
  readonly #wiring: Wiring
  readonly #instruments: Instruments
  readonly #startedAt: number

  constructor(config: Config, models: ReadonlyMap<string, Model>, wiring: Wiring) {
    this.#config = config
    this.#wiring = wiring
    this.log = wiring.log
    this.#startedAt = wiring.clock.epoch()
    this.#instruments = new Instruments(wiring.clock, () => this.#versions().map(stateOf))
    this.models = new Map([...models.values()].map((model) => [model.name, this.#serve(model)]))
    this.routes = [...this.models.keys()]
      .map((model) => this.#route({ ...(config.models[model] ?? serviceDefaults), name: model, match: {}, model }))
      .concat(config.routes.map((route) => this.#route(route)))
    this.steps = { identify: createIdentify(config.auth), router: new Router(this.routes) }
  }

  /** What the edge counts. */
  get counts(): EdgeCounts {
    return this.#instruments.edge
  }

  /** Opens the journal of a request that has just arrived. */
  open(): Journal {
    return new Journal(this.#wiring.clock, [this.#instruments.listener])
  }

  /** Why nothing can be run at the moment, if that is so. */
  refused(): Refusal | undefined {
    return this.#wiring.runtime.alive ? undefined : refuse('not_ready', 'no worker can load a model at the moment')
  }

  metrics(): Promise<string> {
    return this.#instruments.metrics()
  }

  config(): unknown {
    return redact(this.#config)
  }

  status(): unknown {
    const { clock, runtime } = this.#wiring
    return {
      uptimeS: Math.round((clock.epoch() - this.#startedAt) / 1_000),
      executors: Object.fromEntries([...runtime.pools].map(([name, executors]) => [name, executors.length])),
      modelBytes: runtime.bytes,
      models: [...this.models.values()].map(({ name, version, contract, versions }) => ({
        name,
        version,
        contract: { inputs: contract.inputs.map(showSpec), outputs: contract.outputs.map(showSpec) },
        versions: [...versions.values()].map((served) => ({
          version: served.version,
          digest: served.digest,
          batched: served.batched,
          batchedWhy: served.why,
          maxRows: served.maxRows,
          queuedRows: served.lane.rows,
          runMs: served.lane.fit,
          ...placementOf(served.deployment),
        })),
      })),
    }
  }

  /**
   * Ends the workers once they are done with what they run. Close the edges first. False if some are not done after so
   * long: then nothing but the end of the process ends them.
   */
  async close(forMs: number = leaveMs): Promise<boolean> {
    for (const arbiter of this.#wiring.arbiters.values()) arbiter.close()
    return this.#wiring.runtime.close(forMs)
  }

  #versions(): Served[] {
    return [...this.models.values()].flatMap(({ versions }) => [...versions.values()])
  }

  #route(route: RouteOptions): Route<Target> {
    const { name, match, model, sla, priority } = route
    const { version, versions } = this.models.get(model)!
    const terms = { deadlineMs: sla.deadlineMs ?? Infinity, priority }
    const fallback = this.#fallback(route)
    return { name, host: match.host, path: pathOf(route), model, version, targets: versions, terms, fallback }
  }

  #fallback({ model, fallback }: RouteOptions): Fallback | undefined {
    const { contract, versions } = this.models.get(model)!
    if (fallback.kind === 'version') {
      const { version, keepMs } = fallback
      return versionFallback(version, keepMs, versions.get(version)!.lane)
    }
    // What is wrong with one was found before there was a gateway.
    return fallback.kind === 'constant' ? (constantFallback(contract, fallback.outputs) as Fallback) : undefined
  }

  #serve(model: Model): ServedModel {
    const { name, contract, versions } = model
    const { batching = this.#config.batching } = this.#config.models[name] ?? {}
    const served = [...versions.values()].map((each) => this.#serveVersion(each, contract, batching))
    return {
      name,
      contract,
      version: versionOf(this.#config, model),
      versions: new Map(served.map((each) => [each.version, each])),
    }
  }

  #serveVersion(
    { bundle, program, rows, firstRuns }: Version,
    contract: Target['contract'],
    batching: BatchingOptions,
  ): Served {
    const { clock, log, runtime, arbiters, lanes, accounts } = this.#wiring
    const { model, version, digest, samples } = bundle
    const counts = this.#instruments.of(model, version)
    const deployment = runtime.deployments[program.id]!
    // A version whose requests run alone gains nothing from waiting: each fills a batch.
    const policy = program.batched ? batching.policy : ({ kind: 'adaptive', maxRows: 1 } as const)
    const lane = new Lane({
      program,
      policy: policies.create(policy),
      maxQueueRows: batching.maxQueueRows,
      clock,
      host: deployment,
      accounts,
      planner: arbiters.get(deployment.options.pool)!,
      onRun: (ran, computeMs) => this.#instruments.ran(counts, ran, computeMs),
      onExtraRun: () => counts.extraRuns++,
      onFailure: (reason, requestId) => log.warn({ requestId, model, version, reason }, 'the model failed on an input'),
    })
    for (const { key, rows: size, computeMs } of firstRuns) lane.learn(key, size, computeMs)
    lanes.set(program.id, lane)
    deployment.isAsked = () => !lane.empty
    const { independent: batched, why } = rows
    const served = { model, version, contract, digest, samples, batched, why, maxRows: policy.maxRows }
    const runsOn = () => ({ ...deviceOf(deployment), runMs: lane.fit })
    return { ...served, lane, deployment, counts, runsOn, refused: () => deployment.refused() }
  }
}

function deviceOf({ device }: Deployment): Pick<VersionState, 'provider' | 'device'> {
  return { provider: device?.provider ?? '', device: device?.device ?? '' }
}

function stateOf({ model, version, lane, deployment }: Served): VersionState {
  const { ready, deaths, hungThreads, coldStarts, loadMs, bytes } = deployment
  return {
    model,
    version,
    queuedRows: lane.rows,
    workers: ready,
    deaths,
    hungThreads,
    coldStarts,
    loadMs,
    bytes,
    ...deviceOf(deployment),
    fit: lane.fit,
  }
}

/** What runs a version, for people. */
function placementOf({ options, state, ready, device, deaths, hungThreads, coldStarts, bytes, loadMs }: Deployment) {
  const { pool, worker } = options
  return {
    state,
    pool,
    isolation: worker.isolation,
    workers: { ready, of: options.executors.length, deaths, hungThreads, bytes },
    ...device,
    coldStarts,
    loadMs: Math.round(loadMs),
  }
}

/** Name and meaning of every metric, for the reference. */
export function describeMetrics(): Instruments['described'] {
  return new Instruments(systemClock, () => []).described
}
