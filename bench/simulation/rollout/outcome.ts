/** What became of one simulated rollout. */
export interface Outcome {
  /** Seconds from the regression, or from the start, to the rollback: below 0 if it came before, infinite if never. */
  readonly afterS: number
  /** Requests, or runs, that the treatment had got by then. */
  readonly exposed?: number
  /** Whether it was said that the arms do not get the units that they should. */
  readonly isFrozen?: boolean
}

export function outcomeAt(rolledBackMs: number | undefined): Outcome {
  return { afterS: rolledBackMs === undefined ? Infinity : rolledBackMs / 1_000 }
}
