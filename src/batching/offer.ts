/** What lanes offer the arbiter, and what makes one offer better than another. */
import type { Moment, Proposal } from './policy.ts'
import type { Queue } from './queue.ts'
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

type Run = Extract<Proposal, { kind: 'run' }>

/** A batch that a policy proposes, as the arbiter sees it. */
export function offerOf(queue: Queue, { rows, latestAt }: Run, { now }: Moment, paceMs: number): Omit<Offer, 'take'> {
  const { curve, oldestAt, lines } = queue
  const costMs = curve.known ? curve.mean(Math.min(rows, queue.rows)) : undefined
  const waitableMs = Math.min(latestAt - now, patience * paceMs - (now - oldestAt))
  return {
    kind: 'run',
    worth: worthOf(valueOf(lines, rows), costMs ?? paceMs, waitableMs / paceMs),
    costMs,
    idleOnly: queue.rows === lines[shadowRank]!.rows,
  }
}

/** What a row of each class counts, from `interactive` to `shadow`. */
const classValues = [1_000, 30, 1, 1e-3] as const
const shadowRank = classValues.length - 1

/** What the rows of a batch are worth, filled from the most urgent class on. */
function valueOf(lines: Queue['lines'], rows: number): number {
  let value = 0
  let room = rows
  for (const [rank, line] of lines.entries()) {
    value += Math.min(room, line.rows) * classValues[rank]!
    room = Math.max(0, room - line.rows)
  }
  return value
}

/** Nothing waits longer than so many runs before it counts as urgent, whatever its deadline. */
const patience = 20

/**
 * Value per time of the executor, discounted by how many runs it could still wait for: the apparent tardiness cost of
 * Vepsalainen and Morton (1987), which comes close to the best order of jobs with deadlines and weights.
 */
function worthOf(value: number, costMs: number, waitableRuns: number): number {
  return (value / costMs) * Math.exp(-Math.max(0, waitableRuns) / 2)
}

export function isBetter(offer: Offer | Wait, than: Offer | Wait): boolean {
  if (offer.kind === 'wait') return than.kind === 'wait' && offer.until < than.until
  return than.kind === 'wait' || offer.worth > than.worth
}
