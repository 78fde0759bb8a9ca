/**
 * The fleet while the gateway runs: what is new in the store is loaded, tried and announced, one version at a time, and
 * what has gone from it is announced as gone. What is served already is never disturbed by what is wrong with the rest.
 */
import type { Mistake } from '../core/document.ts'
import type { Signature } from '../core/signature.ts'
import { signatureOf } from './contract.ts'
import { isBad, loadVersion, type Model, type Runner, type Version } from './fleet.ts'
import { compareVersions, type Bundle, type Scanned, type StoreMistake } from './store.ts'

export type VersionState = 'loading' | 'ready' | 'draining' | 'retired' | 'failed'

export interface LiveEvents {
  /** A version may be given requests; `model` has it among its versions. */
  onReady(model: Model, version: Version): void
  /** A bundle is not served, or not as it is now; the ones that are served are as before. */
  onFailed(bundle: Bundle, message: string): void
  /**
   * A version's folder is gone; `model` is what is left, without it. Give it no more requests, and settle once those that
   * it has are answered and nothing of it is left; or once the departure is called off, and then leave it as it is.
   */
  onGone(model: Model, version: Version, departure: Departure): Promise<void>
  /** What versions of a model must conform to that still answers, though nothing of it is in the store any more. */
  contractOf(model: string): Signature | undefined
}

/** Of a version whose folder is gone. */
export interface Departure {
  /** Its folder is there again, as it was, in time: it stays. */
  readonly isCalledOff: boolean
  /** It gets no more requests, and what comes back under its name is loaded like any other. */
  leave(): void
  /** It is needed, and stays until it is not: why, for whoever asks how it stands. */
  stay(why: string): void
}

/** A version by its names, and how it stands. */
export interface VersionStatus {
  readonly model: string
  readonly version: string
  /** Of what is served; of what was tried, where nothing is. */
  readonly digest: string
  readonly state: VersionState
  /** Why it failed, or what is wrong with its folder now. */
  readonly problem: string | undefined
}

/** What one look at the store came to. */
export interface Refreshed {
  readonly ready: readonly VersionStatus[]
  /** What was told by `onFailed`. */
  readonly failed: readonly VersionStatus[]
  readonly gone: readonly VersionStatus[]
  /** What the look itself found wrong and the one before had not. */
  readonly mistakes: readonly Mistake[]
}

type Scan = () => Promise<Pick<Scanned, 'bundles' | 'mistakes'>>

/** How many of those that are retired are still told of. */
const keptRetired = 64

/** What changes in the store while the gateway runs. */
export class LiveFleet {
  readonly #models: Map<string, Model>
  readonly #runner: Runner
  readonly #events: LiveEvents
  /** By `keyOf`. */
  readonly #states = new Map<string, VersionStatus>()
  /** Those that are draining and could still come back. */
  readonly #leaving = new Map<string, { readonly version: Version; isCalledOff: boolean }>()
  /** Mistakes of the last look, as text. */
  #told: ReadonlySet<string> = new Set()
  #running: Promise<Refreshed> | undefined
  #next: Promise<Refreshed> | undefined
  #isClosed = false

  /** `models` as `loadFleet` gives them; they are copied. */
  constructor(models: ReadonlyMap<string, Model>, runner: Runner, events: LiveEvents) {
    this.#models = new Map(models)
    this.#runner = runner
    this.#events = events
    for (const { versions } of models.values()) for (const { bundle } of versions.values()) this.#set(bundle, 'ready')
  }

  /** What is served now. */
  get models(): ReadonlyMap<string, Model> {
    return this.#models
  }

  /** The bundle of a version that is served, or that was until its folder went and is still needed. */
  bundleOf(model: string, version: string): Bundle | undefined {
    const served = this.#models.get(model)?.versions.get(version)
    return (served ?? this.#leaving.get(keyOf(model, version))?.version)?.bundle
  }

  /** Every version that is or was lately in the store and is not told of as a mistake of it. */
  get states(): readonly VersionStatus[] {
    return [...this.#states.values()]
  }

  /**
   * Looks at the store and does what follows from it. New versions and models are loaded, warmed up and held against their
   * golden cases; a version is immutable, so one whose content has changed is told of and stays what it was; what failed is
   * tried again when its digest is another. While a look is under way all further calls share one that comes after it.
   */
  refresh(scan: Scan): Promise<Refreshed> {
    if (!this.#running) {
      this.#running = this.#look(scan).finally(() => (this.#running = undefined))
      return this.#running
    }
    const again = () => {
      this.#next = undefined
      return this.refresh(scan)
    }
    this.#next ??= this.#running.then(again, again)
    return this.#next
  }

  /** Announces nothing more. What is being loaded is given up with the runtime. */
  close(): void {
    this.#isClosed = true
  }

  async #look(scan: Scan): Promise<Refreshed> {
    const { bundles, mistakes } = await scan()
    const ready: VersionStatus[] = []
    const failed: VersionStatus[] = []
    const bad = new Set(mistakes.map(({ model, version }) => keyOf(model ?? '', version ?? '')))
    // New ones before any goes: a model whose one version gives way to the next is never without.
    for (const bundle of bundles) {
      if (this.#isClosed) break
      if (bad.has(keyOf(bundle.model, bundle.version))) continue
      const state = await this.#see(bundle)
      if (state?.state === 'ready' && state.problem === undefined) ready.push(state)
      else if (state) failed.push(state)
    }
    return {
      ready,
      failed,
      gone: this.#isClosed ? [] : this.#missing(bundles, mistakes),
      mistakes: this.#tell(mistakes),
    }
  }

  /** Returns what has become of a bundle, if anything has. */
  async #see(bundle: Bundle): Promise<VersionStatus | undefined> {
    const before = this.#states.get(keyOf(bundle.model, bundle.version))
    if (before?.state === 'ready') return this.#compare(bundle, before)
    if (before?.state === 'draining') return this.#callOff(bundle)
    if (before?.state === 'failed' && before.digest === bundle.digest) return undefined
    return this.#load(bundle)
  }

  #compare(bundle: Bundle, before: VersionStatus): VersionStatus | undefined {
    const served = this.#models.get(bundle.model)!.versions.get(bundle.version)!
    if (served.bundle.digest === bundle.digest) {
      if (before.problem !== undefined) this.#set(served.bundle, 'ready')
      return undefined
    }
    const problem = `its files have become others (${bundle.digest}): a version is immutable, give the new one a new name`
    return before.problem === problem ? undefined : this.#fail(bundle, served.bundle, problem)
  }

  /** A folder that is there again as it was has never been gone. Any other is seen to when the old one is retired. */
  #callOff(bundle: Bundle): VersionStatus | undefined {
    const leaving = this.#leaving.get(keyOf(bundle.model, bundle.version))
    const contract = this.#models.get(bundle.model)?.contract ?? this.#events.contractOf(bundle.model)
    if (leaving?.version.bundle.digest !== bundle.digest || !contract) return undefined
    leaving.isCalledOff = true
    this.#leaving.delete(keyOf(bundle.model, bundle.version))
    this.#serve(bundle.model, contract, leaving.version)
    return this.#set(bundle, 'ready')
  }

  async #load(bundle: Bundle): Promise<VersionStatus | undefined> {
    this.#set(bundle, 'loading')
    const contract = this.#models.get(bundle.model)?.contract ?? this.#events.contractOf(bundle.model)
    const loaded = await loadVersion(bundle, contract, this.#runner)
    if (this.#isClosed) return undefined
    if (isBad(loaded)) return this.#fail(bundle, undefined, explain(bundle, loaded))
    const state = this.#set(bundle, 'ready')
    this.#events.onReady(this.#serve(bundle.model, contract ?? signatureOf(loaded.program), loaded), loaded)
    return state
  }

  /** The model with a version more. */
  #serve(name: string, contract: Signature, version: Version): Model {
    const versions = [...(this.#models.get(name)?.versions ?? []), [version.bundle.version, version] as const]
    const model = { name, contract, versions: new Map(versions.toSorted(([a], [b]) => compareVersions(a, b))) }
    this.#models.set(name, model)
    return model
  }

  #fail(bundle: Bundle, served: Bundle | undefined, problem: string): VersionStatus {
    const state = served ? this.#set(served, 'ready', problem) : this.#set(bundle, 'failed', problem)
    this.#events.onFailed(bundle, problem)
    return state
  }

  /** Announces what is no longer there. What cannot be read may be there: nothing goes because of a mistake. */
  #missing(bundles: readonly Bundle[], mistakes: readonly StoreMistake[]): VersionStatus[] {
    if (mistakes.some(({ model }) => model === undefined)) return []
    const there = new Set([...bundles, ...mistakes].map(({ model, version }) => keyOf(model!, version ?? '')))
    const gone: VersionStatus[] = []
    for (const [key, { model, version, state }] of this.#states) {
      if (there.has(key) || there.has(keyOf(model, ''))) continue
      if (state === 'failed') this.#states.delete(key)
      if (state === 'ready') gone.push(this.#drain(model, version))
    }
    return gone
  }

  #drain(name: string, version: string): VersionStatus {
    const { contract, versions } = this.#models.get(name)!
    const own = versions.get(version)!
    const model = { name, contract, versions: new Map([...versions].filter(([each]) => each !== version)) }
    if (model.versions.size > 0) this.#models.set(name, model)
    else this.#models.delete(name)
    const state = this.#set(own.bundle, 'draining')
    const key = keyOf(name, version)
    const leaving = { version: own, isCalledOff: false }
    this.#leaving.set(key, leaving)
    const departure: Departure = {
      get isCalledOff() {
        return leaving.isCalledOff
      },
      leave: () => void this.#leaving.delete(key),
      stay: (why) => void this.#set(own.bundle, 'draining', why),
    }
    void this.#seeOff(model, own, departure)
    return state
  }

  async #seeOff(model: Model, version: Version, departure: Departure): Promise<void> {
    await this.#events.onGone(model, version, departure)
    if (!departure.isCalledOff) this.#retire(version.bundle)
  }

  #retire(bundle: Bundle): void {
    this.#leaving.delete(keyOf(bundle.model, bundle.version))
    // The latest stand last.
    this.#states.delete(keyOf(bundle.model, bundle.version))
    this.#set(bundle, 'retired')
    const retired = [...this.#states].filter(([, { state }]) => state === 'retired')
    for (const [key] of retired.slice(0, -keptRetired)) this.#states.delete(key)
  }

  #set({ model, version, digest }: Bundle, state: VersionState, problem?: string): VersionStatus {
    const status = { model, version, digest, state, problem }
    this.#states.set(keyOf(model, version), status)
    return status
  }

  #tell(mistakes: readonly Mistake[]): Mistake[] {
    const textOf = ({ file, line, message }: Mistake) => `${file}\n${line}\n${message}`
    const before = this.#told
    this.#told = new Set(mistakes.map(textOf))
    return mistakes.filter((mistake) => !before.has(textOf(mistake)))
  }
}

/** Names hold no slash. */
function keyOf(model: string, version: string): string {
  return `${model}/${version}`
}

/** Golden cases are files beside the graph, which the bundle names. */
function explain({ file: graph }: Bundle, mistakes: readonly Mistake[]): string {
  return mistakes.map(({ file, message }) => (file === graph ? message : `${file}: ${message}`)).join('; ')
}
