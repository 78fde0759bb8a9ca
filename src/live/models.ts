/**
 * What is in service: every model with its versions, and the routes that lead to it. It follows the configuration, the
 * store and HTTPRoutes while requests flow; whatever is wrong with something new changes nothing of what is there.
 */
import { randomBytes } from 'node:crypto'
import type { ConfigFile } from '../config.ts'
import type { Caller } from '../core/caller.ts'
import type { Mistake } from '../core/document.ts'
import type { SplitIntent } from '../mesh/http-route.ts'
import { intentOf, type Intent, type Stored } from './intent.ts'
import { LiveModel } from './model.ts'
import type { LiveModelsTools } from './tools.ts'
import { mistakesOf, unknownModels } from '../misfits.ts'
import { Mirror } from './mirror.ts'
import type { Model, Version } from '../models/fleet.ts'
import { LiveFleet, type Departure, type Refreshed } from '../models/live.ts'
import { scanStore, type Bundle } from '../models/store.ts'
import { openPredictions, type Predictions } from './predictions.ts'
import { Router, type Route } from '../routing/router.ts'
import type { Choice } from '../routing/split.ts'
import { fallbacksOf, routesOf, storedOf } from './routes.ts'
import { ShadowVersions } from './shadow-versions.ts'
import { serveVersion, type Served } from './served.ts'
import type { Journal } from '../telemetry/journal.ts'
import { Waits } from './waits.ts'

/** May force arms where callers are known by their scopes. */
export const forceScope = 'experiment:force'

export class LiveModels {
  readonly models = new Map<string, LiveModel>()
  readonly router: Router<Served>
  readonly mirror: Mirror
  /** Requests by model, arm and decision. */
  readonly assigned = new Map<string, number>()
  predictions!: Predictions
  #file: ConfigFile
  #routes: readonly Route<Served>[] = []
  readonly #tools: LiveModelsTools
  readonly #fleet: LiveFleet
  readonly #shadows: ShadowVersions
  /** What was seen in the store last. */
  #known: readonly Bundle[]
  #refreshed: Refreshed | undefined
  #cancelLook: () => void = () => {}
  /** What is done one after the other: models and versions that come into service. */
  #turn: Promise<void> = Promise.resolve()
  readonly #waits: Waits

  private constructor(file: ConfigFile, models: ReadonlyMap<string, Model>, tools: LiveModelsTools) {
    this.#file = file
    this.#tools = tools
    this.#known = [...models.values()].flatMap(({ versions }) => [...versions.values()].map(({ bundle }) => bundle))
    const { wiring, security } = tools
    const { access } = security
    const { clock, log } = wiring
    this.#waits = new Waits(clock)
    this.#shadows = new ShadowVersions(file.config, wiring, tools.shadowRunner)
    this.mirror = new Mirror(this.models, this.#shadows, clock)
    const tag = randomBytes(8).toString('hex')
    let draws = 0
    this.router = new Router([], {
      clock,
      draw: () => `${tag}-${draws++}`,
      may: (caller, model, version) => access.sees(caller, model, version, 'infer'),
      mayForce: (caller) => file.config.auth === 'none' || caller.scopes.includes(forceScope),
      mirror: (mirrored) => this.mirror.mirror(mirrored),
      predictionOf: (model, choice, caller) => this.#predictionOf(model, choice, caller),
    })
    this.#fleet = new LiveFleet(models, tools.runner, {
      onReady: (model, version) => void this.#inTurn(() => this.#add(model, version)),
      onFailed: ({ file: at }, message) => log.error({ file: at }, message),
      onGone: (model, version, departure) => this.#remove(model, version, departure),
      contractOf: (model) => this.models.get(model)?.contract,
    })
  }

  /** Puts models into service, or says what is wrong. */
  static async open(
    file: ConfigFile,
    models: ReadonlyMap<string, Model>,
    tools: LiveModelsTools,
  ): Promise<LiveModels | { readonly mistakes: Mistake[] }> {
    const service = new LiveModels(file, models, tools)
    const { wiring, security, states } = tools
    for (const model of models.values()) await service.#enter(model)
    await Promise.all([...service.models.values()].map((model) => service.#shade(model)))
    const access = security.access
    const predictions = await openPredictions(file.config, {
      clock: wiring.clock,
      states,
      access,
      models: service.models,
    })
    if ('mistakes' in predictions) {
      await service.close()
      return predictions
    }
    service.predictions = predictions
    service.#readdress()
    service.#lookLater()
    tools.httpRoutes.onChange = (name, route) => service.#reroute(name, route)
    return service
  }

  get routes(): readonly Route<Served>[] {
    return this.#routes
  }

  /** Every version that is or was lately in the store. */
  get versions(): LiveFleet['states'] {
    return this.#fleet.states
  }

  settled(journal: Journal): void {
    const { choice, model } = journal
    if (!choice) return
    const key = `${model} ${choice.arm} ${choice.decision}`
    this.assigned.set(key, (this.assigned.get(key) ?? 0) + 1)
    this.models.get(model)?.settled(journal)
  }

  /** Goes by another configuration, as far as that is about splits; returns what is wrong with it, and then changes nothing. */
  async reload(file: ConfigFile): Promise<readonly Mistake[]> {
    // First of all, because versions may come and go meanwhile.
    await this.predictions.prepare(file.config)
    const wanted = new Map<LiveModel, { readonly intent: Intent; readonly more: readonly Version[] }>()
    const mistakes = unknownModels(file, this.#fleet.models.keys(), Object.keys(this.#file.config.models))
    for (const model of this.models.values()) {
      const waiting = this.#waitingFor(model)
      const whole = this.#intentOf(model.name, storedOf(model.versions, waiting), file)
      // A version that does not go with it waits on, and is no reason not to go by the rest.
      const intent = 'misfits' in whole ? this.#intentOf(model.name, storedOf(model.versions), file) : whole
      if ('misfits' in intent) mistakes.push(...mistakesOf(model.name, intent.misfits, file.locate))
      else wanted.set(model, { intent, more: intent === whole ? waiting : [] })
    }
    if (mistakes.length > 0) return mistakes
    this.#file = file
    // All in one go: no request sees one model by the new and another by the old.
    await Promise.all(
      [...wanted].flatMap(([model, { intent, more }]) => [
        ...more.map((version) => model.add(this.#serve(model, version), model.intent)),
        model.want(intent),
      ]),
    )
    for (const model of wanted.keys()) void this.#shade(model)
    await this.#inTurn(() => this.#enterAll())
    return []
  }

  /** Looks at the store at once. What it says is ready is in service. */
  async refresh(): Promise<Refreshed> {
    const refreshed = await this.#fleet.refresh(async () => {
      const seen = await scanStore(this.#file.config.store.path, this.#known)
      this.#known = seen.bundles
      return seen
    })
    await this.#turn
    // Several may have asked for one look.
    if (refreshed !== this.#refreshed) this.#tell(refreshed.mistakes)
    this.#refreshed = refreshed
    return refreshed
  }

  async close(): Promise<void> {
    this.#cancelLook()
    this.#waits.end()
    this.#fleet.close()
    this.#tools.httpRoutes.close()
    await Promise.all([...this.models.values()].map((model) => model.close()))
  }

  #predictionOf(name: string, choice: Choice, caller: Caller): string | undefined {
    const model = this.models.get(name)
    return model && this.predictions.nameOf(model, choice, caller)
  }

  async #enter(model: Model): Promise<void> {
    const { name, contract, versions } = model
    const stored = storedOf(new Map(), [...versions.values()])
    const intent = this.#intentOf(name, stored, this.#file)
    // What does not fit was found before there was a service; of a model that has come since it is told.
    if ('misfits' in intent) return this.#tell(mistakesOf(name, intent.misfits, this.#file.locate))
    const live = new LiveModel(name, contract, intent, this.#tools.live)
    await live.open([...versions.values()].map((version) => this.#serve(model, version)))
    this.models.set(name, live)
    const now = this.#intentOf(name, stored, this.#file)
    if (!('misfits' in now)) await live.want(now)
  }

  /** Models that have come, and that the configuration did not go with before. */
  async #enterAll(): Promise<void> {
    const waiting = [...this.#fleet.models.values()].filter(({ name }) => !this.models.has(name))
    for (const model of waiting) await this.#enter(model)
    if (waiting.length > 0) this.#readdress()
  }

  /** Has the shadows of a model loaded that its split names, and no others. */
  #shade({ name, contract, intent }: LiveModel): Promise<void> {
    const shadows = intent.split?.shadows ?? []
    const bundles = shadows.flatMap(({ version }) => this.#fleet.bundleOf(name, version) ?? [])
    return this.#shadows.want({ name, contract, bundles })
  }

  #serve({ contract }: Pick<Model, 'contract'>, version: Version): Served {
    return serveVersion(version, { contract, config: this.#file.config }, this.#tools.wiring)
  }

  async #add({ name }: Model, { bundle: { version } }: Version): Promise<void> {
    this.#tools.wiring.log.info({ model: name, version }, 'a new version is ready')
    const live = this.models.get(name)
    if (!live) return this.#enterAll()
    for (const waiting of this.#waitingFor(live)) {
      const intent = this.#intentOf(name, storedOf(live.versions, [waiting]), this.#file)
      if ('misfits' in intent) this.#tell(mistakesOf(name, intent.misfits, this.#file.locate))
      else await this.#change(live, () => live.add(this.#serve(live, waiting), intent))
    }
    void this.#shade(live)
  }

  /** Versions of a model that are ready and that no request can reach: the configuration does not go with them. */
  #waitingFor({ name, versions }: LiveModel): Version[] {
    const ready = this.#fleet.models.get(name)?.versions.values() ?? []
    return [...ready].filter(({ bundle }) => !versions.has(bundle.version))
  }

  /** The newest version answers where nothing else is said, so it is told when that is another. */
  async #change(live: LiveModel, make: () => Promise<void>): Promise<void> {
    const { version: before } = live
    await make()
    const { version } = live
    if (live.live || version === before) return
    const message = `requests that name no version go to ${version} now, and before to ${before}: set \`models.${live.name}.version\` or a split to have it otherwise`
    this.#tools.wiring.log.warn({ model: live.name, version }, message)
  }

  /** Settles once it may be forgotten: nobody is sent there, and who was has been answered; or once it is back. */
  async #remove({ name }: Model, { bundle: { version }, program }: Version, departure: Departure): Promise<void> {
    const { wiring } = this.#tools
    wiring.log.info({ model: name, version }, 'a version is gone from the store')
    await this.#turn
    const live = this.models.get(name)
    if (live?.versions.has(version) && !(await this.#hasLeft(live, version, departure))) return
    departure.leave()
    // Whoever was sent there before may still be reading his request.
    await this.#waits.wait(this.#file.config.edge.deadlineMs)
    const at = wiring.served.findIndex(({ deployment }) => deployment.id === program.id)
    if (at >= 0) wiring.served.splice(at, 1)
    await wiring.runtime.retire(program.id)
    wiring.lanes.delete(program.id)
  }

  /** Waits until a version is needed no more. False if it is back before, or nobody is there to wait. */
  async #hasLeft(live: LiveModel, version: string, departure: Departure): Promise<boolean> {
    const about = { model: live.name, version }
    for (let isTold = false; !this.#waits.areOver; isTold = true) {
      if (departure.isCalledOff) {
        this.#tools.wiring.log.info(about, 'it is there again, as it was')
        return false
      }
      const need = await this.#letGo(live, version)
      if (need === undefined) return true
      const why = `its folder is gone, and ${need} needs it: it stays until that names another`
      departure.stay(why)
      if (!isTold) this.#tools.wiring.log.warn(about, why)
      await this.#waits.wait(waitMs)
    }
    return false
  }

  /** Sends nobody to a version any more; or says which setting needs it, and then it stays, whatever the store says. */
  async #letGo(live: LiveModel, version: string): Promise<string | undefined> {
    const { name } = live
    const stored = storedOf(live.versions)
    stored.delete(version)
    const intent = this.#intentOf(name, stored, this.#file)
    if ('misfits' in intent) return ['models', name, ...intent.misfits[0]!.path].join('.')
    const substitute = fallbacksOf(this.#file.config, name).find((each) => each.version === version)
    if (substitute) return substitute.key
    if (stored.size > 0) {
      await this.#change(live, () => live.remove(version, intent))
      void this.#shade(live)
    } else {
      this.models.delete(name)
      this.#readdress()
      await Promise.all([live.close(), this.#shadows.want({ name, contract: live.contract, bundles: [] })])
    }
    return undefined
  }

  /** What is wrong with another HTTPRoute of a model; if nothing is, it is in force. */
  #reroute(name: string, route: SplitIntent): readonly string[] {
    const model = this.models.get(name)
    if (!model) return []
    const intent = intentOf(this.#file.config.models[name], route, storedOf(model.versions))
    if ('misfits' in intent) return intent.misfits.map(({ message }) => message)
    void model.want(intent)
    void this.#shade(model)
    return []
  }

  #intentOf(name: string, stored: Stored, { config }: ConfigFile) {
    return intentOf(config.models[name], this.#tools.httpRoutes.of(name), stored)
  }

  #tell(mistakes: readonly Mistake[]): void {
    for (const { file, line, message } of mistakes) this.#tools.wiring.log.error({ file, line }, message)
  }

  /** A defect in what one model brings along must not keep others away. */
  #inTurn(task: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(task).catch((defect: unknown) => this.#defect(defect))
    return this.#turn
  }

  #defect(err: unknown): void {
    this.#tools.wiring.log.error({ err }, 'a defect: please report it')
  }

  #lookLater(): void {
    const { refreshS } = this.#file.config.store
    if (refreshS === 0) return
    this.#cancelLook = this.#tools.wiring.clock.after(1_000 * refreshS, () => {
      void this.#look()
    })
  }

  async #look(): Promise<void> {
    await this.refresh().catch((defect: unknown) => this.#defect(defect))
    if (!this.#waits.areOver) this.#lookLater()
  }

  /** Every address leads somewhere that is there. */
  #readdress(): void {
    this.#routes = routesOf(this.#file.config, this.models)
    this.router.lead(this.#routes)
  }
}

/** How often it is looked whether a version that is gone from the store is needed no more. */
const waitMs = 1_000
