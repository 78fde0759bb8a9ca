/**
 * A model while requests flow: its versions, the split that is in force, and the experiment on it. It is changed by the
 * configuration, by the store, by hand and by the experiment, and each change is one swap of the snapshot.
 */
import type { Caller } from '../core/caller.ts'
import { refusals, type RefusalCode } from '../core/refusal.ts'
import type { Signature } from '../core/signature.ts'
import { Experiment } from '../experiments/experiment.ts'
import type { Alarm, RolloutState } from '../experiments/rollout.ts'
import { digestOf, type Intent } from './intent.ts'
import {
  isAhead,
  nothingKept,
  readKept,
  withNote,
  withoutTrial,
  withTrial,
  type KeptModel,
  type Said,
} from './kept-model.ts'
import { liveSplit, PastShares, rescueOf, wantedShare, type LiveSplit, type Weights } from './live-split.ts'
import type { Snapshot } from '../routing/snapshot.ts'
import type { Choice } from '../routing/split.ts'
import { listenToRuns } from './runs.ts'
import type { Served } from './served.ts'
import type { LiveTools } from './tools.ts'
import type { Journal } from '../telemetry/journal.ts'

export class LiveModel {
  readonly name: string
  readonly contract: Signature
  readonly #tools: LiveTools
  readonly #versions = new Map<string, Served>()
  #intent: Intent
  #kept: KeptModel = nothingKept
  #revision = 0
  /** Of what is kept under that revision. */
  #keptGeneration = 0
  #live: LiveSplit | undefined
  #experiment: Experiment | undefined
  #saving: Promise<undefined> = Promise.resolve(undefined)
  #stopWatching: () => void = () => {}
  readonly #pairs = new PastShares()
  /** What requests go by that come now. */
  current!: Snapshot<Served>

  constructor(name: string, contract: Signature, intent: Intent, tools: LiveTools) {
    this.name = name
    this.contract = contract
    this.#intent = intent
    this.#tools = tools
  }

  /** Takes in what is remembered of it, and goes by it from now on. `versions` from the oldest to the newest. */
  async open(versions: readonly Served[]): Promise<void> {
    for (const version of versions) this.#versions.set(version.version, version)
    const kept = await this.#tools.states.read(this.#key)
    if (kept && 'problem' in kept) this.#tools.onProblem(this, kept.problem)
    else if (kept) this.#take(kept)
    const { trial, trialDigest } = this.#intent
    const isNew = trial && !this.#kept.trials[trialDigest] && this.#kept.generation > 0
    // What was predicted before belongs to another experiment.
    if (isNew) this.#kept = this.#noted(this.#kept, 'configuration', 'another experiment')
    this.#begin()
    if (trial) this.#persist()
    this.#stopWatching = this.#tools.states.watch(this.#key, (other) => {
      this.#merge(other)
      if (other.value === undefined) this.#persist()
    })
  }

  get version(): string {
    return this.current.version
  }

  get versions(): ReadonlyMap<string, Served> {
    return this.current.targets
  }

  get intent(): Intent {
    return this.#intent
  }

  get live(): LiveSplit | undefined {
    return this.#live
  }

  get experiment(): Experiment | undefined {
    return this.#experiment
  }

  /** Weights that were set by hand and are in force. */
  get overlay(): Weights | undefined {
    const { overlay } = this.#kept
    return overlay?.over === this.#intent.digest ? overlay.weights : undefined
  }

  get history(): KeptModel['history'] {
    return this.#kept.history
  }

  /** Goes by another configuration. */
  async want(intent: Intent): Promise<void> {
    if (digestOf(intent) === digestOf(this.#intent)) return
    await this.#goBy(intent, 'configuration', 'the configuration has changed')
    const state = this.#experiment?.state
    if (state?.phase === 'rolled-back')
      this.#tools.onChange(this, 'still rolled back', `${state.why}: \`release\` begins it anew`)
  }

  /** There is another version. Nobody is sent there before the configuration or a client says so. */
  add(served: Served, intent: Intent): Promise<void> {
    this.#versions.set(served.version, served)
    return this.#goBy(intent, 'the store', `version ${served.version} is there`)
  }

  /** A version is gone: nobody is sent there any more. */
  remove(version: string, intent: Intent): Promise<void> {
    this.#versions.delete(version)
    return this.#goBy(intent, 'the store', `version ${version} is gone`)
  }

  /**
   * Sets weights by hand, or takes back that they were; with `state` that of the experiment follows. Settles once it is
   * remembered. What cannot be is not done, and why is said.
   */
  reweigh(weights: Weights | undefined, state: RolloutState | undefined, who: Caller): Promise<string | undefined> {
    const overlay = weights && { over: this.#intent.digest, weights }
    const what = weights ? `weights ${JSON.stringify(weights)}` : 'weights as in the configuration'
    return this.#changeByHand({ who: who.name, what }, overlay, state)
  }

  /** Leads the experiment into a state by hand; likewise. What was set by hand for its arms is over, but for a pause. */
  lead(state: RolloutState, what: string, who: Caller): Promise<string | undefined> {
    const { overlay } = this.#kept
    const kept = state.phase === 'paused' ? overlay : withoutTrial(overlay, this.#intent.trial)
    return this.#changeByHand({ who: who.name, what }, kept, state)
  }

  /** A request has its outcome. */
  settled({ choice, outcome, instead }: Journal): void {
    const pair = choice && this.#pairs.of(choice, this.#intent.trial)
    if (!choice || !pair || !this.#experiment) return
    const code = instead?.code ?? outcome
    const hasFailed = code !== undefined && code in refusals && refusals[code as RefusalCode].status >= 500
    const unit = choice.unitKind === 'request' ? undefined : choice.unit
    this.#experiment.settled({ ...pair, hasFailed, unit })
  }

  /** The treatment's part of both arms, for a request that was drawn; 0 for others. */
  shareOf(choice: Choice): number {
    return this.#pairs.of(choice, this.#intent.trial)?.share ?? 0
  }

  async close(): Promise<void> {
    this.#stopWatching()
    if (this.#experiment) this.#persist()
    this.#experiment?.close()
    await this.#saving
  }

  get #key(): string {
    return `model-${this.name}`
  }

  #begin(): void {
    this.#experiment?.close()
    this.#experiment = this.#createExperiment()
    listenToRuns(this.#versions.values(), this.#intent, this.#experiment)
    this.#swap()
  }

  #createExperiment(): Experiment | undefined {
    const { trial, trialDigest } = this.#intent
    if (!trial) return undefined
    const share = wantedShare(this.#intent, this.overlay)
    const saved = this.#kept.trials[trialDigest]
    const { round = 0 } = saved?.state ?? {}
    const tools = {
      clock: this.#tools.clock,
      counts: this.#tools.countsOf(`${this.name}-${trialDigest}${round > 0 ? `-${round}` : ''}`),
      onState: (state: RolloutState, before: RolloutState) => this.#moved(state, before),
      onAlert: (alarm: Alarm) => this.#tools.onAlert(this, alarm),
      onProgress: () => this.#persist(),
    }
    return new Experiment({ ...trial, share, since: saved?.since ?? this.#kept.generation }, tools, saved)
  }

  /** The experiment has moved by itself: that holds at once, and is remembered as soon as it can be. */
  #moved(state: RolloutState, before: RolloutState): void {
    this.#rememberTrial()
    this.#tools.onMoved(this, before, state)
    const what = `${state.phase}, share ${state.share}`
    void this.#change({ who: 'the experiment', what, why: state.why }, this.#kept)
  }

  async #goBy(intent: Intent, who: string, what: string): Promise<void> {
    const isSameTrial = intent.trialDigest === this.#intent.trialDigest
    this.#rememberTrial()
    this.#intent = intent
    await this.#change({ who, what }, this.#kept, { isNewTrial: !isSameTrial })
  }

  async #changeByHand(
    said: Said,
    overlay: KeptModel['overlay'],
    state: RolloutState | undefined,
  ): Promise<string | undefined> {
    this.#rememberTrial()
    const before = this.#kept
    const { trialDigest } = this.#intent
    const isNewTrial = state !== undefined && state.round !== this.#experiment?.state.round
    if (state && !isNewTrial) this.#experiment?.adopt(state)
    const trial = isNewTrial ? { since: before.generation + 1, state } : this.#experiment?.saved()
    const trials = trial ? withTrial(before, trialDigest, trial) : before
    const problem = await this.#change(said, { ...trials, overlay }, { isNewTrial, byHand: true })
    if (problem !== undefined) await this.#takeBack({ before, overlay, state }, problem)
    return problem
  }

  /** What was done by hand and is not remembered; but not what somebody or something else has done since. */
  #takeBack({ before, overlay, state }: Made, why: string): Promise<string | undefined> {
    const trial = before.trials[this.#intent.trialDigest]
    const isLed = state !== undefined && trial !== undefined && this.#experiment?.state === state
    const isNewTrial = isLed && trial.state.round !== state.round
    if (isLed && !isNewTrial) this.#experiment?.adopt(trial.state, trial.unitsBefore)
    this.#rememberTrial()
    const own = isNewTrial ? withTrial(this.#kept, this.#intent.trialDigest, trial) : this.#kept
    const kept = own.overlay === overlay ? { ...own, overlay: before.overlay } : own
    return this.#change({ who: 'the gateway', what: 'the last change is taken back', why }, kept, { isNewTrial })
  }

  /**
   * Makes one change: what is remembered, what is in force, and what is said of it. Says why it could not be remembered; if
   * by hand, it is for who asks to take it back.
   */
  #change(
    { who, what, why = '' }: Said,
    kept: KeptModel,
    { isNewTrial = false, byHand = false } = {},
  ): Promise<string | undefined> {
    this.#kept = this.#noted(kept, who, why === '' ? what : `${what}: ${why}`)
    if (isNewTrial) this.#begin()
    else this.#swap()
    this.#tools.onChange(this, what, why)
    return this.#save(byHand)
  }

  #noted(kept: KeptModel, who: string, what: string): KeptModel {
    const when = new Date(this.#tools.clock.epoch()).toISOString()
    return withNote(kept, { generation: this.#kept.generation + 1, when, who, what })
  }

  #swap(): void {
    const { version, aliases, trial } = this.#intent
    const { generation } = this.#kept
    this.#experiment?.want(wantedShare(this.#intent, this.overlay))
    const state = this.#experiment?.state
    const wanted = { name: this.name, generation, weights: this.overlay, state }
    this.#live = liveSplit(this.#intent, wanted)
    const rescue = rescueOf(this.#intent, state)
    const targets = new Map(this.#versions)
    this.current = { generation, version, targets, aliases, split: this.#live?.split, rescue }
    if (trial && this.#live) this.#pairs.remember(generation, this.#live.shares, trial)
  }

  #rememberTrial(): void {
    if (!this.#experiment) return
    this.#kept = withTrial(this.#kept, this.#intent.trialDigest, this.#experiment.saved())
  }

  #persist(): void {
    this.#rememberTrial()
    void this.#save(false)
  }

  /** Writes behind what is being written; says why that was not possible. */
  #save(byHand: boolean): Promise<string | undefined> {
    const saving = this.#saving.then(() => this.#write(byHand))
    this.#saving = saving.then((problem) => {
      if (problem && !byHand) this.#tools.onProblem(this, `what is in force is not remembered: ${problem}`)
      return undefined
    })
    return saving
  }

  async #write(byHand: boolean): Promise<string | undefined> {
    const { states } = this.#tools
    for (let tries = 0; tries < 5; tries++) {
      const { generation } = this.#kept
      const written = await states.write(this.#key, this.#kept, this.#revision)
      if (written === 'stale') {
        const kept = await states.read(this.#key)
        if (kept && 'problem' in kept) return kept.problem
        if (byHand && kept) {
          // Evidence is written down all the time, and that is no change.
          if (readKept(kept.value).generation !== this.#keptGeneration)
            return 'somebody else has changed it at the same time'
          this.#revision = kept.revision
        } else this.#merge(kept ?? { revision: 0, value: undefined })
      } else if ('problem' in written) {
        return written.problem
      } else {
        this.#revision = written.revision
        this.#keptGeneration = generation
        return undefined
      }
    }
    return 'others change it all the time: try again'
  }

  #take({ revision, value }: { readonly revision: number; readonly value: unknown }): void {
    this.#revision = revision
    this.#kept = readKept(value)
    this.#keptGeneration = this.#kept.generation
  }

  /** Somebody else has changed what is remembered: of two ways on, the one that is ahead holds. */
  #merge(other: { readonly revision: number; readonly value: unknown }): void {
    const own = this.#experiment?.state
    const before = this.#kept
    // If nothing is left of it, whoever knows it writes it again.
    if (other.value === undefined) this.#revision = other.revision
    else this.#take(other)
    this.#kept = { ...this.#kept, generation: Math.max(this.#kept.generation, before.generation) }
    const theirs = this.#kept.trials[this.#intent.trialDigest]?.state
    const isTheirs = own !== undefined && theirs !== undefined && isAhead(theirs, own)
    if (isTheirs && theirs.round === own.round) this.#experiment?.adopt(theirs)
    if (!isTheirs) this.#rememberTrial()
    if (isTheirs && theirs.round !== own.round) this.#begin()
    else this.#swap()
    if (isTheirs) this.#tools.onChange(this, `${theirs.phase}, share ${theirs.share}, elsewhere`, theirs.why)
  }
}

/** What was changed by hand, and what was remembered before. */
interface Made {
  readonly before: KeptModel
  readonly overlay: KeptModel['overlay']
  readonly state: RolloutState | undefined
}
