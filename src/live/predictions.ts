/** What predictions are called and what is told of them later: keys, tokens and feedback, put together. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Access } from '../auth/access.ts'
import type { Config } from '../config.ts'
import type { Caller } from '../core/caller.ts'
import type { Clock } from '../core/clock.ts'
import type { Mistake } from '../core/document.ts'
import { Feedback } from '../experiments/feedback/feedback.ts'
import { Ledger } from '../experiments/feedback/ledger.ts'
import { longestJoinS, longestSkewS } from '../experiments/feedback/options.ts'
import { noUnit, PredictionTokens } from '../experiments/feedback/token.ts'
import type { LiveModel } from './model.ts'
import type { Choice } from '../routing/split.ts'
import type { States } from '../state/states.ts'

export interface Predictions {
  readonly feedback: Feedback
  /** Settles when predictions under a configuration are named by the key that all gateways have, if it can be had. */
  readonly prepare: (config: Config) => Promise<void>
  /** What a prediction is called; undefined if nobody wants to be told of it. */
  readonly nameOf: (model: LiveModel, choice: Choice, caller: Caller) => string | undefined
}

export interface PredictionTools {
  readonly clock: Clock
  readonly states: States
  readonly access: Pick<Access, 'sees'>
  readonly models: ReadonlyMap<string, LiveModel>
}

const leastKeyBytes = 32
const keyName = 'feedback-key'
/** After a failure to read or write the common key, when to try again. */
const againMs = 5_000
/**
 * What was told is remembered, so that it counts once, for as many entries as this; and for as long as any experiment may
 * take feedback, also one that is configured later, because it is the number that bounds the memory.
 */
const mostTold = 1_000_000
const toldMs = 1_000 * (longestJoinS + 2 * longestSkewS)

export async function openPredictions(
  config: Config,
  { clock, states, access, models }: PredictionTools,
): Promise<Predictions | { readonly mistakes: Mistake[] }> {
  const given = await readKeys(config.feedback.keyFiles)
  if ('mistakes' in given) return given
  const isGiven = given.length > 0
  const tokens = new PredictionTokens(isGiven ? given : [randomBytes(leastKeyBytes)])
  const common = isGiven ? undefined : new CommonKey(states, clock, (key) => tokens.prefer(key))
  const prepare: Predictions['prepare'] = async (wanted) => {
    // Where nobody may tell anything, nothing has to be remembered.
    if (isWanted(wanted)) await common?.want()
  }
  await prepare(config)
  const feedback = new Feedback({
    tokens,
    ledger: new Ledger({ clock, windowMs: toldMs, most: mostTold }),
    clock,
    metricsOf: (model) => models.get(model)?.experiment?.metrics,
    mayTell: (caller, { model, version }) => access.sees(caller, model, version, 'infer'),
  })
  const nameOf: Predictions['nameOf'] = (model, choice, caller) => {
    const { metrics } = model.experiment ?? {}
    if (!metrics || metrics.names.length === 0) return undefined
    void common?.want()
    const { arm, version, generation, unitKind } = choice
    const share = model.shareOf(choice)
    metrics.predicted({ arm, share })
    const unit = unitKind === 'request' ? noUnit : tokens.hash(choice.unit)
    const facts = { model: model.name, version, arm, share, generation, tenant: caller.tenant, unit }
    return tokens.sign({ ...facts, epochMs: Math.floor(clock.epoch()), nonce: randomBytes(8).toString('hex') })
  }
  return { feedback, prepare, nameOf }
}

function isWanted({ models }: Config): boolean {
  return Object.values(models).some(({ experiment }) => {
    return experiment !== undefined && Object.keys(experiment.feedback.metrics).length > 0
  })
}

async function readKeys(files: readonly string[]): Promise<Buffer[] | { readonly mistakes: Mistake[] }> {
  const keys: Buffer[] = []
  for (const file of files) {
    const key = await readFile(file).catch((error: NodeJS.ErrnoException) => error)
    if (!Buffer.isBuffer(key)) return { mistakes: [{ file, message: `cannot be read (${key.code})` }] }
    if (key.length < leastKeyBytes)
      return { mistakes: [{ file, message: `holds ${key.length} bytes: a key needs ${leastKeyBytes} or more` }] }
    keys.push(key)
  }
  return keys
}

/** The key of all gateways that share their state: made by the first that needs it. */
class CommonKey {
  readonly #states: States
  readonly #clock: Clock
  readonly #found: (key: Buffer) => void
  #isKnown = false
  #looking: Promise<void> | undefined
  #nextLookAt = -Infinity

  constructor(states: States, clock: Clock, found: (key: Buffer) => void) {
    this.#states = states
    this.#clock = clock
    this.#found = found
  }

  /** Looks for it, if it is not known yet, and makes it if there is none; where that cannot be, it is tried again later. */
  want(): Promise<void> | undefined {
    if (this.#isKnown || this.#clock.now() < this.#nextLookAt) return undefined
    this.#looking ??= this.#look()
    return this.#looking
  }

  async #look(): Promise<void> {
    const key = await this.#open()
    this.#isKnown = key !== undefined
    if (key) this.#found(key)
    this.#nextLookAt = this.#clock.now() + againMs
    this.#looking = undefined
  }

  async #open(): Promise<Buffer | undefined> {
    for (let tries = 0; tries < 3; tries++) {
      const kept = await this.#states.read(keyName)
      if (kept && 'problem' in kept) return undefined
      const known = typeof kept?.value === 'string' ? Buffer.from(kept.value, 'base64') : Buffer.alloc(0)
      if (known.length >= leastKeyBytes) return known
      const key = randomBytes(leastKeyBytes)
      const written = await this.#states.write(keyName, key.toString('base64'), kept?.revision ?? 0)
      if (written !== 'stale') return 'problem' in written ? undefined : key
    }
    return undefined
  }
}
