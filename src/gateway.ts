/** The gateway: what the edges and the commands ask of it, answered by what `createGateway` has put together. */
import { mayNot } from './auth/access.ts'
import type { Shown } from './auth/auth.ts'
import type { Minting } from './auth/jwt/issuer.ts'
import { redact, type Config, type ConfigFile } from './config.ts'
import { systemClock } from './core/clock.ts'
import type { Mistake } from './core/document.ts'
import { strangerCalled, type Caller, type Operation } from './core/caller.ts'
import type { Origin } from './core/origin.ts'
import { isRefusal, refuse, type Refusal } from './core/refusal.ts'
import { showSpec } from './core/signature.ts'
import type { Taken, TakenAll } from './experiments/feedback/feedback.ts'
import { withIntents } from './live/intent.ts'
import type { LiveModel } from './live/model.ts'
import type { HeadFields } from './mesh/trust.ts'
import type { Refreshed } from './models/live.ts'
import type { Steps } from './pipeline.ts'
import type { Security } from './security.ts'
import { placementOf, type Wiring } from './live/served.ts'
import type { LiveModels } from './live/models.ts'
import { SplitReadings } from './live/split-readings.ts'
import { editSplit, experimentOf, viewOf, type SplitEdit, type SplitView } from './live/split-edits.ts'
import type { States } from './state/states.ts'
import type { Audit } from './telemetry/audit.ts'
import type { EdgeCounts } from './telemetry/edge-counts.ts'
import { Instruments } from './telemetry/instruments.ts'
import { Journal, type JournalListener } from './telemetry/journal.ts'
import type { Logger } from './telemetry/log.ts'

/** How long workers have to leave that nobody waits for. */
export const leaveMs = 5_000

/** What a gateway is made of beside its models. */
type Parts = Wiring & {
  readonly audit: Audit
  readonly security: Security
  readonly states: States
  readonly service: LiveModels
}

/** Whoever is on this machine. */
const localCaller = strangerCalled('local')

export class Gateway {
  readonly steps: Steps
  readonly models: ReadonlyMap<string, LiveModel>
  readonly log: Logger
  /** How callers may say who they are. */
  readonly proofs: { readonly token: boolean; readonly apiKey: string | undefined }
  #config: Config
  readonly #parts: Parts
  readonly #startedAt: number
  readonly #listeners: readonly JournalListener[]

  constructor({ config }: ConfigFile, parts: Parts) {
    this.#config = config
    this.#parts = parts
    this.log = parts.log
    this.#startedAt = parts.clock.epoch()
    const { auth } = config
    this.proofs =
      auth === 'none'
        ? { token: false, apiKey: undefined }
        : { token: auth.jwt !== undefined, apiKey: auth.apiKeys?.header }
    const { security, service } = parts
    const { identify, access, limits } = security
    this.models = service.models
    this.steps = { identify, access, limits, router: service.router }
    this.#listeners = [parts.instruments.listener, { settled: (journal) => service.settled(journal) }]
  }

  /** Everything a client can address, default routes included. */
  get routes(): readonly { readonly path: string }[] {
    return this.#parts.service.routes
  }

  /** What the edge counts. */
  get counts(): EdgeCounts {
    return this.#parts.instruments.edge
  }

  /** Opens the journal of a request that has just arrived. */
  open(): Journal {
    return new Journal(this.#parts.clock, this.#listeners)
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
    const unwritten = await this.#parts.audit.record({ who, what: 'tokens.mint', before: null, after: wish })
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
      store: this.#parts.service.versions,
      models: [...this.models.values()].map(({ name, version, contract, versions, current }) => ({
        name,
        version,
        generation: current.generation,
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
    const { arbiters, service, states, security, runtime } = this.#parts
    for (const arbiter of arbiters.values()) arbiter.close()
    await service.close()
    states.close()
    await security.close()
    return runtime.close(forMs)
  }

  /** Goes by another configuration as far as it may change while requests flow; returns what is wrong with it. */
  async reload(file: ConfigFile): Promise<readonly Mistake[]> {
    const { config, others } = withIntents(this.#config, file.config)
    const mistakes = await this.#parts.service.reload({ ...file, config })
    if (mistakes.length > 0) return mistakes
    this.#config = config
    if (others.length > 0)
      this.log.warn({ keys: others }, 'these settings are not followed while it runs: start it again for them')
    return []
  }

  /** Looks at the store now. */
  refresh(): Promise<Refreshed> {
    return this.#parts.service.refresh()
  }

  /** Takes what is told of predictions. */
  tell(entries: unknown, caller: Caller): TakenAll | Taken | Refusal {
    const { feedback } = this.#parts.service.predictions
    return Array.isArray(entries) ? feedback.takeAll(entries, caller) : feedback.take(entries, caller)
  }

  split(name: string): SplitView | Refusal {
    const model = this.models.get(name)
    if (!model) return noModel(name, this.models)
    const { mirror } = this.#parts.service
    const view = viewOf(model)
    return { ...view, shadows: view.shadows.map((each) => ({ ...each, ...mirror.viewOf(name, each.version) })) }
  }

  experiment(name: string): unknown {
    const model = this.models.get(name)
    return model ? experimentOf(model) : noModel(name, this.models)
  }

  /** Changes a split by hand. `generation` is what whoever asks has seen. */
  async editSplit(name: string, edit: SplitEdit, generation: string | undefined, who: Caller) {
    const model = this.models.get(name)
    return model ? editSplit(model, { edit, generation, who }, this.#parts.audit) : noModel(name, this.models)
  }
}

function noModel(name: string, models: ReadonlyMap<string, LiveModel>): Refusal {
  return refuse('not_found', `there is no model ${name}: there are ${[...models.keys()].join(', ')}`)
}

/** Name and meaning of every metric, for the reference. */
export function describeMetrics(): Instruments['described'] {
  return new Instruments(systemClock, () => [], new SplitReadings()).described
}
