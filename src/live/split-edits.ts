/** Looking at splits and changing them by hand: what would follow from a change is shown before it is made, if asked. */
import type { Caller } from '../core/caller.ts'
import { refuse, Refusal } from '../core/refusal.ts'
import { secondsToDetect } from '../experiments/forecast.ts'
import type { ByHand, RolloutState } from '../experiments/rollout.ts'
import type { LiveModel } from './model.ts'
import { divided, weightsOf, type Weights } from './live-split.ts'
import { splitMistake } from '../routing/split-options.ts'
import type { Audit } from '../telemetry/audit.ts'

export interface SplitEdit {
  /** By arm, or by version where one arm has it. Those that are not named stay. */
  readonly weights?: Readonly<Record<string, number>> | undefined
  /** Takes back what was set by hand. */
  readonly reset?: boolean | undefined
  readonly action?: ByHand | undefined
  readonly dryRun?: boolean | undefined
}

/** What regressions a plan speaks of, where nothing is known of the control yet. */
const usualFailureRate = 0.01
const usualRate = 100
const regressions = [3, 10]

export function viewOf(model: LiveModel) {
  const { live, intent, experiment } = model
  const { generation, version } = model.current
  const arms = Object.entries(intent.split?.arms ?? {}).map(([arm, each]) => {
    const weight = live!.weights[arm]!
    return { arm, version: each.version, weight, share: live!.shares.get(arm)!, configured: each.weight }
  })
  return {
    model: model.name,
    generation,
    version,
    aliases: intent.aliases,
    versions: [...model.versions.keys()],
    arms,
    rules: intent.split?.rules ?? [],
    shadows: intent.split?.shadows ?? [],
    setByHand: model.overlay ?? null,
    experiment: experiment ? experiment.state : null,
    history: model.history,
  }
}

export type SplitView = ReturnType<typeof viewOf>

/** What a change would come to. */
export interface Plan {
  readonly arms: readonly { readonly arm: string; readonly from: number; readonly to: number }[]
  /** The part of all units that would go to another arm. */
  readonly moves: number
  /** How long it would take to see that the treatment fails so many times as often as the control, in seconds. */
  readonly detects: readonly { readonly times: number; readonly seconds: number | null }[]
  readonly words: string
}

interface Wish {
  readonly edit: SplitEdit
  /** What the client has seen; undefined if it does not say. */
  readonly generation: string | undefined
  readonly who: Caller
}

/** Makes a change, or says what it would come to. */
export async function editSplit(
  model: LiveModel,
  { edit, generation, who }: Wish,
  audit: Audit,
): Promise<{ readonly plan: Plan; readonly split: SplitView } | Refusal> {
  if (!model.intent.split) return refuse('conflict', 'this model has no split: give it one in the configuration')
  const before = viewOf(model)
  if (!edit.dryRun) {
    const stale = staleness(generation, before.generation)
    if (stale) return stale
  }
  const change = changeOf(model, edit)
  if (change instanceof Refusal) return change
  const plan = planOf(model, change)
  if (edit.dryRun) return { plan, split: before }
  const after = { ...edit, weights: change.weights }
  const unwritten = await audit.record({ who, what: `split.${model.name}`, before: before.arms, after })
  if (unwritten) return unwritten
  // While that was written, somebody else may have been faster.
  const late = staleness(generation, model.current.generation)
  const problem = late ? undefined : await make(model, change, who)
  if (!late && problem === undefined) return { plan, split: viewOf(model) }
  const failed = late ?? refuse('not_changed', `nothing is changed, because it could not be remembered: ${problem}`)
  await audit.record({ who, what: `split.${model.name}.refused`, before: after, after: failed.message })
  return failed
}

function staleness(seen: string | undefined, now: number): Refusal | undefined {
  if (seen === undefined) return refuse('unconditional', 'send `if-match` with the generation that you have seen')
  return seen === `"${now}"` || seen === String(now)
    ? undefined
    : refuse('stale', `the split is at generation ${now}: look at it again, and then change it`)
}

interface Change {
  /** All of them, as they will be wanted; undefined for those of the configuration. */
  readonly weights: Weights | undefined
  readonly isWeighed: boolean
  readonly action: ByHand | undefined
  /** Of the experiment, once it is made; undefined where there is none. */
  readonly state: RolloutState | undefined
  /** The treatment's part of both arms then. */
  readonly share: number | undefined
}

function changeOf(model: LiveModel, { weights = {}, reset = false, action }: SplitEdit): Change | Refusal {
  const isWeighed = Object.keys(weights).length > 0
  const wishes = Number(isWeighed) + Number(reset) + Number(action !== undefined)
  if (wishes === 0) return refuse('invalid', 'expected `weights`, `reset` or `action`')
  if (wishes > 1) return refuse('invalid', 'expected one of `weights`, `reset` and `action`: one change at a time')
  if (action) return actionOf(model, action)
  if (reset && !model.overlay) return refuse('conflict', 'no weights were set by hand: there is nothing to take back')
  const wanted = reset ? undefined : weighed(model, weights)
  return typeof wanted === 'string' ? refuse('invalid', wanted) : weightsChange(model, wanted)
}

function actionOf({ experiment }: LiveModel, action: ByHand): Change | Refusal {
  const state = experiment?.act(action) ?? 'there is no experiment on this model'
  return typeof state === 'string'
    ? refuse('conflict', state)
    : { weights: undefined, isWeighed: false, action, state, share: state.share }
}

/** Whoever sets weights of arms on trial takes the trial into his hands. */
function weightsChange({ experiment, intent, live }: LiveModel, weights: Weights | undefined): Change | Refusal {
  const change = { weights, isWeighed: true, action: undefined }
  const { split, trial } = intent
  if (!trial || !experiment) return { ...change, state: undefined, share: undefined }
  const all: Weights = { ...weightsOf(split!), ...weights }
  const both = all[trial.control]! + all[trial.treatment]!
  if (both === 0) return refuse('invalid', `${trial.control} and ${trial.treatment} need some weight together`)
  const share = all[trial.treatment]! / both
  const isOfTrial = [trial.control, trial.treatment].some((arm) => all[arm] !== live!.weights[arm])
  if (!isOfTrial) return { ...change, state: undefined, share }
  const state = experiment.hold(share)
  return typeof state === 'string' ? refuse('conflict', state) : { ...change, state, share }
}

/** All weights, or what is wrong with those that are named. */
function weighed(model: LiveModel, named: Readonly<Record<string, number>>): Weights | string {
  const split = model.intent.split!
  const weights = { ...model.live!.weights }
  for (const [name, weight] of Object.entries(named)) {
    const withVersion = Object.keys(split.arms).filter((arm) => split.arms[arm]!.version === name)
    const arm = Object.hasOwn(split.arms, name) ? name : withVersion.length === 1 ? withVersion[0]! : undefined
    if (arm === undefined)
      return `there is no arm ${name}, nor one with that version: the arms are ${Object.keys(split.arms).join(', ')}`
    weights[arm] = weight
  }
  const arms = Object.entries(split.arms).map(([arm, each]) => [arm, { ...each, weight: weights[arm]! }])
  return splitMistake({ ...split, arms: Object.fromEntries(arms) }) ?? weights
}

function make(
  model: LiveModel,
  { weights, isWeighed, action, state }: Change,
  who: Caller,
): Promise<string | undefined> {
  return isWeighed ? model.reweigh(weights, state, who) : model.lead(state!, action!, who)
}

function planOf(model: LiveModel, { weights, isWeighed, share }: Change): Plan {
  const { intent, live } = model
  const { trial } = intent
  const all: Weights = isWeighed ? { ...weightsOf(intent.split!), ...weights } : live!.weights
  const after = trial && share !== undefined ? divided(all, trial, share) : all
  const sum = Object.values(after).reduce((total, weight) => total + weight, 0)
  const arms = Object.keys(after).map((arm) => ({ arm, from: live!.shares.get(arm)!, to: after[arm]! / sum }))
  const moves = arms.reduce((total, { from, to }) => total + Math.max(0, to - from), 0)
  const detects = trial ? detectionsOf(model, arms.find(({ arm }) => arm === trial.treatment)!.to) : []
  return { arms, moves, detects, words: wordsOf(arms, moves, detects) }
}

function detectionsOf({ experiment, intent }: LiveModel, share: number): Plan['detects'] {
  const { figures } = experiment!
  const { control } = figures.units
  const requestsPerS = experiment!.unitsPerS || usualRate
  const controlRate = control > 1_000 ? Math.max(figures.failed.control / control, 0.001) : usualFailureRate
  const { alpha, tolerate } = intent.trial!.options.failures
  return regressions.map((times) => {
    const treatmentRate = Math.min(1, times * controlRate)
    const seconds = secondsToDetect({ requestsPerS, share, controlRate, treatmentRate, alpha, tolerate })
    return { times, seconds: Number.isFinite(seconds) ? Math.ceil(seconds) : null }
  })
}

function wordsOf(arms: Plan['arms'], moves: number, detects: Plan['detects']): string {
  const percent = (part: number) => `${Number((100 * part).toFixed(2))} %`
  const shares = arms.map(({ arm, from, to }) => `${arm} ${percent(from)} -> ${percent(to)}`).join(', ')
  const seen = detects.flatMap(({ times, seconds }) => {
    return seconds === null ? [] : [`${times} times the failures in about ${seconds} s`]
  })
  const watched = seen.length > 0 ? ` A regression would be seen: ${seen.join(', ')}.` : ''
  return `${shares}; ${percent(moves)} of all units change their arm.${watched}`
}

/** For who asks how an experiment stands. */
export function experimentOf(model: LiveModel) {
  const { experiment } = model
  if (!experiment) return refuse('not_found', 'there is no experiment on this model: give it one in the configuration')
  return { model: model.name, generation: model.current.generation, ...experiment.report() }
}
