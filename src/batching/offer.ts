/** What lanes offer the arbiter, and what makes one offer better than another. */
import type { Attempt } from './rescue.ts'

/** A batch that could run now. */
export interface Offer {
  readonly kind: 'run'
  /** Among lanes that share an executor the larger one goes first. */
  readonly worth: number
  /** Expected time of the run; undefined if nobody knows. */
  readonly costMs: number | undefined
  /** Whether it has no one waiting for it, and runs only on what would stand idle. */
  readonly idleOnly: boolean
  readonly take: () => Attempt
}

export interface Wait {
  readonly kind: 'wait'
  readonly until: number
}

export interface Worth {
  /** Rows, each worth as much as its class. */
  readonly value: number
  readonly costMs: number
  /** How long it may wait before something in it is late. */
  readonly slackMs: number
  /** How long its oldest has waited. */
  readonly ageMs: number
  /** Expected time of the runs lately, whoever's they were. */
  readonly paceMs: number
}

/** What a row of each class counts, from `interactive` to `shadow`. */
export const classValues = [1_000, 30, 1, 1e-3] as const

/** Nothing waits longer than so many runs before it counts as urgent, whatever its deadline. */
const patience = 20

/**
 * Value per time of the executor, discounted by how long it could still wait: the apparent tardiness cost of Vepsalainen
 * and Morton (1987), which comes close to the best order of jobs with deadlines and weights.
 */
export function worthOf({ value, costMs, slackMs, ageMs, paceMs }: Worth): number {
  const waitable = Math.max(0, Math.min(slackMs, patience * paceMs - ageMs))
  return (value / costMs) * Math.exp(-waitable / (2 * paceMs))
}
