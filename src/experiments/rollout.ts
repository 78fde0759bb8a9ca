/**
 * How far a treatment has got: the phases of a rollout and what leads from one to the next. Pure: it is given what is known
 * and the time, and says what comes next.
 *
 *     shadow -> ramping -> promoted            steady: guarded, at the weight that the configuration gives
 *        any of these -> rolled-back           paused, frozen: stays where it is, until somebody says otherwise
 */
import type { Action, CanaryStep, ExperimentOptions } from './options.ts'

export const phases = ['shadow', 'ramping', 'steady', 'paused', 'frozen', 'promoted', 'rolled-back'] as const
export type Phase = (typeof phases)[number]

export interface RolloutState {
  readonly phase: Phase
  /** Index into the steps. */
  readonly step: number
  /** Of what the control and the treatment get together, the treatment's part. */
  readonly share: number
  /** When the phase or the step began, milliseconds since 1970. */
  readonly sinceMs: number
  /** What led here, in words. */
  readonly why: string
  /** How often somebody has let it begin anew, without the evidence before. */
  readonly round: number
}

/** A guard that sounds. */
export interface Alarm {
  readonly guard: string
  readonly action: Action
  readonly words: string
}

/** What is known at a moment. */
export interface Facts {
  readonly alarms: readonly Alarm[]
  /** Whether the arms do not get what they should. */
  readonly isMismatched: boolean
  /** Units of the treatment in this step. */
  readonly units: number
  /** Whether it is proved for a step that the treatment is not so much worse. */
  readonly isProved: (step: CanaryStep) => boolean
  /** Whether the shadow agrees, with enough pairs. */
  readonly isShadowGood: boolean
}

interface Now {
  readonly nowMs: number
  /** What the configuration gives the treatment. */
  readonly share: number
}

export function begin(options: ExperimentOptions, { nowMs, share }: Now, round: number = 0): RolloutState {
  const start = { step: 0, sinceMs: nowMs, round }
  if (options.kind === 'ab') return { ...start, phase: 'steady', share, why: 'the test began' }
  if (options.afterShadow) return { ...start, phase: 'shadow', share: 0, why: 'its answers are compared first' }
  return enter(options.steps, 0, { nowMs, share, round })
}

/** The state that follows; undefined while it stays. */
export function advance(
  state: RolloutState,
  options: ExperimentOptions,
  facts: Facts,
  { nowMs, share }: Now,
): RolloutState | undefined {
  if (state.phase === 'promoted' || state.phase === 'rolled-back') return undefined
  const bad = facts.alarms.find(({ action }) => action === 'rollback')
  if (bad) return rolledBack(state, bad.words, nowMs)
  if (state.phase === 'paused' || state.phase === 'frozen') return undefined
  if (facts.isMismatched) {
    const why = 'the arms do not get the units that they should, so nothing can be concluded'
    return { ...state, phase: 'frozen', sinceMs: nowMs, why }
  }
  const odd = facts.alarms.find(({ action }) => action === 'pause')
  if (odd) return { ...state, phase: 'paused', sinceMs: nowMs, why: odd.words }
  if (options.kind === 'ab') return undefined
  const now = { nowMs, share, round: state.round }
  if (state.phase === 'shadow') return facts.isShadowGood ? enter(options.steps, 0, now) : undefined
  if (state.phase !== 'ramping' || missing(state, options.steps, facts, nowMs).length > 0) return undefined
  return enter(options.steps, state.step + 1, now)
}

/** What a step still waits for, in words. */
export function missing(
  { step, sinceMs }: RolloutState,
  steps: readonly CanaryStep[],
  { units, isProved }: Pick<Facts, 'units' | 'isProved'>,
  nowMs: number,
): string[] {
  const current = steps[step]
  if (!current) return []
  const leftS = Math.ceil(current.holdS - (nowMs - sinceMs) / 1_000)
  return [
    ...(leftS > 0 ? [`${leftS} s more`] : []),
    ...(units < current.minRequests ? [`${current.minRequests - units} units more`] : []),
    ...(isProved(current) ? [] : [`proof that it does not fail ${belowOf(current)} times as often as the control`]),
  ]
}

/** The multiple of the control's failure rate that a step asks to be ruled out. */
export function belowOf({ share, below }: CanaryStep): number | 'off' {
  if (below !== undefined) return below
  if (share <= 0.01) return 3
  if (share <= 0.05) return 2
  return share <= 0.25 ? 1.5 : 1.25
}

export const actions = ['pause', 'resume', 'promote', 'rollback', 'release'] as const
export type ByHand = (typeof actions)[number]

/** What becomes of it when somebody says so; or why that cannot be. */
export function act(
  state: RolloutState,
  options: ExperimentOptions,
  action: ByHand,
  { nowMs, share }: Now,
): RolloutState | string {
  const { phase, round } = state
  const now = { nowMs, share, round }
  const steps = options.kind === 'canary' ? options.steps : []
  if (phase === 'rolled-back' && action !== 'release')
    return `it was rolled back (${state.why}): \`release\` begins it anew, and so do other versions or another experiment`
  if (action === 'rollback') return rolledBack(state, 'somebody said so', nowMs)
  if (action === 'promote') return enter(steps, Infinity, now)
  if (action === 'pause') {
    return phase === 'promoted' || phase === 'paused'
      ? `it is ${phase} already`
      : { ...state, phase: 'paused', sinceMs: nowMs, why: 'somebody said so' }
  }
  if (action === 'release')
    return phase === 'rolled-back' ? begin(options, now, round + 1) : `it is ${phase}, and not rolled back`
  if (phase !== 'paused' && phase !== 'frozen') return `it is ${phase}, and not paused`
  // What was wrong with the arms is all in the evidence, and would freeze it again.
  const next = { ...now, round: phase === 'frozen' ? round + 1 : round }
  return options.kind === 'canary' && state.share === 0 && options.afterShadow
    ? begin(options, now, next.round)
    : enter(steps, state.step, next)
}

/** What becomes of it when somebody sets the treatment's share; or why that cannot be. */
export function hold(state: RolloutState, share: number, nowMs: number): RolloutState | string {
  if (state.phase === 'rolled-back' && share > 0)
    return `it was rolled back (${state.why}): \`release\` begins it anew, and so do other versions or another experiment`
  // Where the configuration gives the weight, so does who changes it.
  if (state.phase === 'steady' || state.phase === 'rolled-back') return state
  return { ...state, phase: 'paused', share, sinceMs: nowMs, why: 'its weight was set by hand' }
}

function enter(
  steps: readonly CanaryStep[],
  step: number,
  { nowMs: sinceMs, share, round }: Now & { readonly round: number },
): RolloutState {
  const next = steps[step]
  if (next && next.share < 1)
    return { phase: 'ramping', step, share: next.share, sinceMs, why: `step ${step + 1} of ${steps.length}`, round }
  if (step === 0 && !next) return { phase: 'steady', step, share, sinceMs, why: 'it keeps its weight', round }
  const last = Math.max(0, steps.length - 1)
  const why = step === Infinity ? 'somebody said so' : 'it went well'
  return { phase: 'promoted', step: last, share: 1, sinceMs, why, round }
}

function rolledBack(state: RolloutState, why: string, sinceMs: number): RolloutState {
  return { ...state, phase: 'rolled-back', share: 0, sinceMs, why }
}
