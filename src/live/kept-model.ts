/** What is remembered of a model over a restart, and what gateways that share it agree on. */
import * as z from 'zod'
import type { SavedExperiment } from '../experiments/experiment.ts'
import type { RolloutState } from '../experiments/rollout.ts'
import { readExperiment } from '../experiments/saved-experiment.ts'
import type { Weights } from './live-split.ts'

export interface Note {
  readonly generation: number
  readonly when: string
  readonly who: string
  readonly what: string
}

export interface KeptModel {
  readonly generation: number
  /** Set by hand, over what the configuration wanted then. */
  readonly overlay?: { readonly over: string; readonly weights: Weights } | undefined
  /** By what they are about. */
  readonly trials: Readonly<Record<string, SavedExperiment>>
  /** The last changes, the newest at the end. */
  readonly history: readonly Note[]
}

/** What is said of a change. */
export interface Said {
  readonly who: string
  readonly what: string
  readonly why?: string
}

export const nothingKept: KeptModel = { generation: 0, trials: {}, history: [] }

/** So many experiments and changes are remembered. */
const mostTrials = 8
const mostNotes = 20

const savedOverlay = z.object({ over: z.string(), weights: z.record(z.string(), z.number().min(0)) })
const savedNote = z.object({ generation: z.int(), when: z.string(), who: z.string(), what: z.string() })
const keptModel = z.object({
  generation: z.int().min(0),
  overlay: savedOverlay.optional().catch(undefined),
  trials: z.record(z.string(), z.unknown()).catch({}),
  history: z.array(savedNote).catch([]),
})

/** Whatever was written by another version of the gateway, or by a hand, must not stop this one. */
export function readKept(value: unknown): KeptModel {
  const read = keptModel.safeParse(value)
  if (!read.success) return nothingKept
  const trials = Object.entries(read.data.trials).flatMap(([digest, each]): [string, SavedExperiment][] => {
    const trial = readExperiment(each)
    return trial ? [[digest, trial]] : []
  })
  return { ...read.data, trials: Object.fromEntries(trials) }
}

export function withTrial(kept: KeptModel, digest: string, saved: SavedExperiment): KeptModel {
  const { [digest]: _before, ...others } = kept.trials
  // Of those that are over, what is large is not needed.
  const trials = Object.entries(others).map(
    ([each, { agreement: _a, failedUnits: _f, ...rest }]) => [each, rest] as const,
  )
  return { ...kept, trials: { ...Object.fromEntries(trials.slice(1 - mostTrials)), [digest]: saved } }
}

export function withNote(kept: KeptModel, note: Note): KeptModel {
  return { ...kept, generation: note.generation, history: [...kept.history, note].slice(-mostNotes) }
}

/**
 * Whether the first of two states of one experiment holds: what was rolled back stays so until somebody lets it begin anew,
 * and else it is the later one.
 */
export function isAhead(of: RolloutState, than: RolloutState): boolean {
  if (of.round !== than.round) return of.round > than.round
  if (of.phase === than.phase && of.step === than.step && of.share === than.share) return false
  if (of.phase === 'rolled-back' || than.phase === 'rolled-back') return of.phase === 'rolled-back'
  return of.sinceMs > than.sinceMs
}

/** Weights by hand but for those of the two arms of an experiment. */
export function withoutTrial(
  overlay: KeptModel['overlay'],
  trial: { readonly control: string; readonly treatment: string } | undefined,
): KeptModel['overlay'] {
  if (!overlay || !trial) return overlay
  const weights = Object.entries(overlay.weights).filter(([arm]) => arm !== trial.control && arm !== trial.treatment)
  return weights.length > 0 ? { ...overlay, weights: Object.fromEntries(weights) } : undefined
}
