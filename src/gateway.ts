/**
 * The composition root: a configuration becomes a gateway here, by plain constructor calls. Concepts do not import each
 * other; what one needs of another is passed from this file.
 */
import { mayNot } from './auth/access.ts'
import type { Shown } from './auth/auth.ts'
import type { Minting } from './auth/jwt/issuer.ts'
import { redact, type Config, type ConfigFile } from './config.ts'
import { systemClock, type Clock } from './core/clock.ts'
import type { Mistake } from './core/document.ts'
import { strangerCalled, type Caller, type Operation } from './core/caller.ts'
import type { Origin } from './core/origin.ts'
import { isRefusal, refuse, type Refusal } from './core/refusal.ts'
import { showSpec } from './core/signature.ts'
import { loadFleet, type Model } from './models/fleet.ts'
import { scanStore } from './models/store.ts'
import { badFallbacks, strangers } from './misfits.ts'
import type { HeadFields } from './mesh/trust.ts'
import type { Steps, Target } from './pipeline.ts'
import { constantFallback } from './routing/constant.ts'
import { versionFallback, type Fallback } from './routing/fallback.ts'
import { pathOf, serviceDefaults, type RouteOptions } from './routing/options.ts'
import { Router, type Route } from './routing/router.ts'
import { defaultPool } from './runtime/options.ts'
import { openSecurity, type Security } from './security.ts'
import { placementOf, serveModel, wire, type ServedModel, type Wiring } from './served.ts'
import type { EdgeCounts } from './telemetry/edge-counts.ts'
import { Audit } from './telemetry/audit.ts'
import { Instruments } from './telemetry/instruments.ts'
import { Journal } from './telemetry/journal.ts'
import { createLog, type Logger } from './telemetry/log.ts'

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
  const { runtime, instruments } = wiring
  const onProblem = ({ file, message }: Mistake) => log.error({ file }, message)
  const { auth: authCounts, limits: limitCounts } = instruments
  const onReached = (what: string) => log.info({ file: what }, 'it can be asked again')
  const onDenied = ({ name }: Caller, operation: Operation, model: string) => {
    authCounts.denied(operation)
    log.debug({ caller: name, operation, model }, 'the caller may not do this')
  }
  const security = await openSecurity(config, { clock, authCounts, limitCounts, onProblem, onReached, onDenied })
  const closeAll = async () => {
    if (!('mistakes' in security)) await security.close()
    return runtime.close(leaveMs)
  }
  if ('mistakes' in security) return { mistakes: security.mistakes, isStuck: !(await closeAll()) }
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
    await closeAll()
    throw defect
  })
  fleet.mistakes.push(...badFallbacks({ config, locate }, fleet.models))
  if (fleet.mistakes.length > 0) {
    return { mistakes: fleet.mistakes, isStuck: !(await closeAll()) }
  }
  return { gateway: new Gateway(config, fleet.models, { ...wiring, security }) }
}

/** What a gateway is made of beside its models. */
type Parts = Wiring & { readonly security: Security }

/** Whoever is on this machine. */
const localCaller = strangerCalled('local')

/** How long workers have to leave that nobody waits for. */
const leaveMs = 5_000

export class Gateway {
  readonly steps: Steps
  readonly models: ReadonlyMap<string, ServedModel>
  readonly routes: readonly Route<Target>[]
  readonly log: Logger
  /** How callers may say who they are. */
  readonly proofs: { readonly token: boolean; readonly apiKey: string | undefined }
  readonly #config: Config
  readonly #parts: Parts
  readonly #audit: Audit
  readonly #startedAt: number

  constructor(config: Config, models: ReadonlyMap<string, Model>, parts: Parts) {
    this.#config = config
    this.#parts = parts
    this.log = parts.log
    this.#startedAt = parts.clock.epoch()
    this.#audit = new Audit(config.admin.auditFile, parts.clock)
    const { auth } = config
    this.proofs =
      auth === 'none'
        ? { token: false, apiKey: undefined }
        : { token: auth.jwt !== undefined, apiKey: auth.apiKeys?.header }
    this.models = new Map([...models.values()].map((model) => [model.name, serveModel(model, config, parts)]))
    this.routes = [...this.models.keys()]
      .map((model) => this.#route({ ...(config.models[model] ?? serviceDefaults), name: model, match: {}, model }))
      .concat(config.routes.map((route) => this.#route(route)))
    const { identify, access, limits } = parts.security
    this.steps = { identify, access, limits, router: new Router(this.routes) }
  }

  /** What the edge counts. */
  get counts(): EdgeCounts {
    return this.#parts.instruments.edge
  }

  /** Opens the journal of a request that has just arrived. */
  open(): Journal {
    return new Journal(this.#parts.clock, [this.#parts.instruments.listener])
  }

  /** Takes out of a head what nobody may believe, and says whose request it is. */
  screen(headers: HeadFields, origin: Origin, peer: string): string {
    return this.#parts.security.trust.screen(headers, origin, peer)
  }

  /** Who asks on the admin listener, if it may do this. */
  async admit({ headers, origin }: Pick<Shown, 'headers' | 'origin'>, operation: Operation, isLocal: boolean) {
    if (isLocal) return localCaller
    const { identify, access } = this.#parts.security
    // No proxy stands in front of this listener: only what proves itself counts.
    const { authorization } = headers
    const { apiKey } = this.proofs
    const own = { authorization, ...(apiKey !== undefined && { [apiKey]: headers[apiKey] }) }
    const caller = await identify({ headers: own, origin, peer: origin.address })
    if (isRefusal(caller) || access.decide(caller, operation, '', '').isAllowed) return caller
    return caller.method === 'none'
      ? refuse('unauthenticated', 'show who is calling, as on the listener for clients')
      : mayNot(operation)
  }

  /** Makes a token for development. */
  async mint(wish: Minting, who: Caller): Promise<string | Refusal> {
    const { mint } = this.#parts.security
    if (!mint) return refuse('not_found', 'there is no development issuer, so no token can be minted here')
    const unwritten = await this.#audit.record({ who, what: 'tokens.mint', before: null, after: wish })
    return unwritten ?? mint(wish)
  }

  /** A token to try things with, where there is a development issuer. */
  async trialToken(): Promise<string | undefined> {
    return this.#parts.security.mint?.({ subject: 'developer', scopes: ['models'] })
  }

  /** The caller of a full name such as `key:robot`, where the configuration says all about it. */
  callerNamed(name: string): Caller | undefined {
    return this.#parts.security.named(name)
  }

  /** What a caller may do, and which rule has it so, in words. */
  explain(caller: Caller, operation: Operation, model: string, version: string): string {
    if (this.#config.auth === 'none') return 'allowed: `auth: none` asks nobody'
    const { isAllowed, rule } = this.#parts.security.access.decide(caller, operation, model, version)
    const why = rule === undefined ? 'no rule fits' : `by auth.access[${rule}]`
    return `${isAllowed ? 'allowed' : 'denied'}, ${why}`
  }

  /** Why nothing can be run at the moment, if that is so. */
  refused(): Refusal | undefined {
    return this.#parts.runtime.alive ? undefined : refuse('not_ready', 'no worker can load a model at the moment')
  }

  metrics(): Promise<string> {
    return this.#parts.instruments.metrics()
  }

  config(): unknown {
    return redact(this.#config)
  }

  status(): unknown {
    const { clock, runtime } = this.#parts
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
    for (const arbiter of this.#parts.arbiters.values()) arbiter.close()
    await this.#parts.security.close()
    return this.#parts.runtime.close(forMs)
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
}

/** Name and meaning of every metric, for the reference. */
export function describeMetrics(): Instruments['described'] {
  return new Instruments(systemClock, () => []).described
}
