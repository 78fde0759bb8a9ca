/**
 * Versions that run as shadows, loaded a second time into workers of their own: a run cannot be taken back, and one that
 * takes long or never ends must not stand before somebody who waits for an answer.
 */
import type { Config } from '../config.ts'
import type { Signature } from '../core/signature.ts'
import { isBad, loadVersion, type Runner } from '../models/fleet.ts'
import type { Bundle } from '../models/store.ts'
import { serveVersion, type Served, type Wiring } from './served.ts'

export interface Wanted {
  readonly name: string
  readonly contract: Signature
  /** Of the versions that its split names as shadows. */
  readonly bundles: readonly Bundle[]
}

export class ShadowVersions {
  readonly #config: Config
  readonly #wiring: Wiring
  readonly #runner: Runner
  /** By model and version. */
  readonly #shadows = new Map<string, Served>()
  /** Of each model, what is wanted of it last: one thing is done after the other. */
  readonly #turns = new Map<string, Promise<void>>()

  /** `runner` puts what it deploys into the pool of shadows. */
  constructor(config: Config, wiring: Wiring, runner: Runner) {
    this.#config = config
    this.#wiring = wiring
    this.#runner = runner
  }

  /** Undefined for what is no shadow, and for one that is not loaded yet. */
  of(model: string, version: string): Served | undefined {
    return this.#shadows.get(keyOf(model, version))
  }

  /** Loads what is wanted and not there, and lets go what is not wanted any more. */
  want(wanted: Wanted): Promise<void> {
    const turn = (this.#turns.get(wanted.name) ?? Promise.resolve()).then(() => this.#settle(wanted))
    this.#turns.set(wanted.name, turn)
    return turn
  }

  async #settle(wanted: Wanted): Promise<void> {
    const keys = new Set(wanted.bundles.map(({ model, version }) => keyOf(model, version)))
    for (const [key, served] of this.#shadows)
      if (served.model === wanted.name && !keys.has(key)) await this.#retire(key, served)
    for (const bundle of wanted.bundles)
      if (!this.#shadows.has(keyOf(bundle.model, bundle.version))) await this.#load(bundle, wanted.contract)
  }

  async #load(bundle: Bundle, contract: Signature): Promise<void> {
    const { model, version, manifest } = bundle
    const { log } = this.#wiring
    if (manifest.sideEffects) {
      log.error({ model, version }, 'it has side effects, so it cannot be a shadow: nobody asked for them')
      return
    }
    const loaded = await loadVersion(bundle, contract, this.#runner)
    if (isBad(loaded)) for (const { file, message } of loaded) log.error({ file }, `no shadow: ${message}`)
    else {
      const served = serveVersion(loaded, { contract, config: this.#config, isShadow: true }, this.#wiring)
      this.#shadows.set(keyOf(model, version), served)
    }
  }

  async #retire(key: string, { deployment }: Served): Promise<void> {
    this.#shadows.delete(key)
    await this.#wiring.runtime.retire(deployment.id)
    this.#wiring.lanes.delete(deployment.id)
  }
}

function keyOf(model: string, version: string): string {
  return `${model}/${version}`
}
