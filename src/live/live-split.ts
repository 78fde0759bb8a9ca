/** The split that is in force: what is wanted, what was set by hand over it, and how far the experiment has got. */
import type { Intent, Trial } from './intent.ts'
import type { RolloutState } from '../experiments/rollout.ts'
import type { Snapshot } from '../routing/snapshot.ts'
import { Split } from '../routing/split.ts'
import type { SplitOptions } from '../routing/split-options.ts'

/** By arm. */
export type Weights = Readonly<Record<string, number>>

export interface LiveSplit {
  readonly split: Split
  /** As they are, by arm; they need not add up to anything. */
  readonly weights: Weights
  readonly shares: ReadonlyMap<string, number>
}

interface Wanted {
  readonly name: string
  readonly generation: number
  /** Set by hand. */
  readonly weights: Weights | undefined
  readonly state: RolloutState | undefined
}

/** Undefined if the model has no split. */
export function liveSplit(intent: Intent, { name, generation, weights, state }: Wanted): LiveSplit | undefined {
  const { split: wanted, trial } = intent
  if (!wanted) return undefined
  const all = { ...weightsOf(wanted), ...weights }
  const live = trial && state ? divided(all, trial, liveShare(intent, weights, state)) : all
  const arms = Object.entries(wanted.arms).map(([id, { version }]) => [id, { version, weight: live[id]! }] as const)
  const options: SplitOptions = { ...wanted, arms: Object.fromEntries(arms) }
  const rolledBack = new Set(trial && state?.phase === 'rolled-back' ? [trial.treatment] : [])
  const split = new Split({ options, salt: wanted.salt ?? name, generation, rolledBack })
  return { split, weights: live, shares: split.shares() }
}

/** Weights of which those of a trial are divided so that the treatment gets its share of what both get. */
export function divided(weights: Weights, { control, treatment }: Trial, share: number): Weights {
  const both = weights[control]! + weights[treatment]!
  return { ...weights, [control]: both * (1 - share), [treatment]: both * share }
}

export function weightsOf({ arms }: Pick<SplitOptions, 'arms'>): Record<string, number> {
  return Object.fromEntries(Object.entries(arms).map(([id, { weight }]) => [id, weight]))
}

/** Of what the control and the treatment get together, the part that the treatment is wanted to get. */
export function wantedShare({ split, trial }: Intent, weights: Weights | undefined): number {
  if (!split || !trial) return 0
  const all = { ...weightsOf(split), ...weights }
  const [control, treatment] = [all[trial.control]!, all[trial.treatment]!]
  return control + treatment > 0 ? treatment / (control + treatment) : 0
}

/** The arm whose failures are made good, and by which version; undefined if there is none on trial. */
export function rescueOf({ split, trial }: Intent, state: RolloutState | undefined): Snapshot<unknown>['rescue'] {
  return trial?.options.kind === 'canary' && trial.options.rescue && state?.phase !== 'promoted'
    ? { arm: trial.treatment, version: split!.arms[trial.control]!.version }
    : undefined
}

function liveShare(intent: Intent, weights: Weights | undefined, { phase, share }: RolloutState): number {
  return phase === 'steady' ? wantedShare(intent, weights) : share
}

const mostPast = 64

/** How a request was drawn, as far as evidence is about it. */
interface Drawn {
  readonly arm: string
  readonly decision: string
  readonly share: number
  readonly generation: number
}

/** Shares of the two arms on trial under the last splits: requests that are still under way were drawn by them. */
export class PastShares {
  readonly #pairs = new Map<number, { readonly control: number; readonly treatment: number }>()

  remember(generation: number, shares: ReadonlyMap<string, number>, { control, treatment }: Arms): void {
    this.#pairs.set(generation, { control: shares.get(control)!, treatment: shares.get(treatment)! })
    for (const old of this.#pairs.keys()) if (this.#pairs.size > mostPast) this.#pairs.delete(old)
  }

  /** Of what was drawn between the two arms: which, and the treatment's part of both; else undefined. */
  of({ arm, decision, share, generation }: Drawn, arms: Arms | undefined) {
    const pair = this.#pairs.get(generation)
    if (!arms || !pair || decision !== 'weight') return undefined
    const isTreatment = arm === arms.treatment
    if (!isTreatment && arm !== arms.control) return undefined
    // Who may not use every version is drawn with other shares, and is no evidence.
    if (Math.abs(share - (isTreatment ? pair.treatment : pair.control)) > 1e-9) return undefined
    return { isTreatment, share: pair.treatment / (pair.control + pair.treatment) }
  }
}

type Arms = Pick<Trial, 'control' | 'treatment'>
