/** What is served: each version with the lane in which its requests wait and the workers that run it, put together. */
import { Accounts } from '../batching/accounts.ts'
import { Arbiter } from '../batching/arbiter.ts'
import { Lane } from '../batching/lane.ts'
import { policies } from '../batching/policies.ts'
import type { Config } from '../config.ts'
import type { Clock } from '../core/clock.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Version } from '../models/fleet.ts'
import type { Target } from '../pipeline.ts'
import type { Deployment } from '../runtime/deployment.ts'
import { Runtime } from '../runtime/runtime.ts'
import { Instruments, type VersionCounts } from '../telemetry/instruments.ts'
import type { Logger } from '../telemetry/log.ts'
import type { SplitReading } from '../telemetry/split-gauges.ts'
import type { VersionState } from '../telemetry/version-gauges.ts'

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
  /** What its first runs took. */
  readonly firstRuns: Version['firstRuns']
  /** Told of each run that ends well. */
  onRun: (key: string, rows: number, computeMs: number) => void
  /** What runs it, and how long that takes as far as it is known. */
  runsOn(): Pick<VersionState, 'provider' | 'device'> & { readonly runMs: Lane['fit'] }
  /** Why it cannot be run, if it will not be soon either. */
  refused(): Refusal | undefined
}

/** What is there before any model is. */
export interface Wiring {
  readonly clock: Clock
  readonly log: Logger
  readonly runtime: Runtime
  /** By the name of their pool. */
  readonly arbiters: ReadonlyMap<string, Arbiter>
  /** By the number of the deployment. */
  readonly lanes: Map<number, Lane>
  readonly accounts: Accounts
  readonly instruments: Instruments
  /** Every version that is served. */
  readonly served: Served[]
}

/** `splits` is asked at each scrape. */
export function wire(config: Config, splits: SplitReading, { clock, log }: Pick<Wiring, 'clock' | 'log'>): Wiring {
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
  const served: Served[] = []
  const instruments = new Instruments(clock, () => served.map(stateOf), splits)
  const accounts = new Accounts(config.fairness.weights)
  return { clock, log, runtime, arbiters, lanes, accounts, instruments, served }
}

interface ServeOptions {
  readonly contract: Target['contract']
  readonly config: Config
  /** Whether nobody waits for its answers: then it is in no statistics of requests. */
  readonly isShadow?: boolean
}

/** Gives a version a lane. */
export function serveVersion(
  { bundle, program, rows, firstRuns }: Version,
  { contract, config, isShadow = false }: ServeOptions,
  wiring: Wiring,
): Served {
  const { clock, log, runtime, arbiters, lanes, accounts, instruments } = wiring
  const { model, version, digest, samples } = bundle
  const { batching = config.batching } = config.models[model] ?? {}
  const counts = instruments.of(model, version)
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
    onRun: (ran, computeMs, key) => {
      if (!isShadow) instruments.ran(counts, ran, computeMs)
      served.onRun(key, ran, computeMs)
    },
    onExtraRun: () => counts.extraRuns++,
    onFailure: (reason, requestId) => log.warn({ requestId, model, version, reason }, 'the model failed on an input'),
  })
  for (const { key, rows: size, computeMs } of firstRuns) lane.learn(key, size, computeMs)
  lanes.set(program.id, lane)
  deployment.isAsked = () => !lane.empty
  const { independent: batched, why } = rows
  const served: Served = {
    model,
    version,
    contract,
    digest,
    samples,
    batched,
    why,
    maxRows: policy.maxRows,
    isRepeatable: program.repeatable,
    lane,
    deployment,
    counts,
    firstRuns,
    onRun: () => {},
    runsOn: () => ({ ...deviceOf(deployment), runMs: lane.fit }),
    refused: () => deployment.refused(),
  }
  if (!isShadow) wiring.served.push(served)
  return served
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
export function placementOf({
  options,
  state,
  ready,
  device,
  deaths,
  hungThreads,
  coldStarts,
  bytes,
  loadMs,
}: Deployment) {
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
