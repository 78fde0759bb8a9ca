/**
 * Warm-up: batches of every size class, before a worker is given requests. The first runs of a session are slow, and with
 * them it becomes known how long runs take.
 */
import type { Clock } from '../core/clock.ts'
import type { Run, Work } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import { sampleRows, spreads, trialSizes, evenSize } from './sample-rows.ts'

export interface WarmUpOptions {
  readonly program: Program
  /** How long it may go on, milliseconds; the run under way then is waited for. */
  readonly budgetMs: number
  readonly clock: Clock
  /** Told how long runs take; undefined if that is known already, and then each size is run once. */
  readonly learn: ((key: string, rows: number, computeMs: number) => void) | undefined
}

/** What is learnt from: the first run of a size pays for what is made once, and a few more are enough. */
const learntRuns = 3
/** The part of the budget after which one run of each size has to do. */
const thriftyPart = 0.1

/** Says whether anything could be run; without a budget nothing is tried. */
export async function warmUp({ program, budgetMs, clock, learn }: WarmUpOptions, run: Run): Promise<boolean> {
  if (budgetMs === 0) return false
  const row = await findRow(program, run)
  if (!row) return false
  // What is made once, for a GPU it may be seconds, is not counted.
  const startedAt = clock.now()
  for (const rows of sizeClasses(program)) {
    // One row many times over: to make up many would hold the event loop.
    const works = Array.from({ length: rows }, () => row)
    if (clock.now() >= startedAt + budgetMs) break
    await run(program, works)
    for (let i = 0; i < (learn ? learntRuns : 0); i++) {
      const ran = await run(program, works)
      if (ran.kind === 'done') learn?.(row.key, rows, ran.computeMs)
      if (clock.now() >= startedAt + thriftyPart * budgetMs) break
    }
  }
  return true
}

/** Powers of two, and the most there may be. */
export function sizeClasses({ batched, runRows }: Pick<Program, 'batched' | 'runRows'>): number[] {
  if (!batched) return [1]
  const classes: number[] = []
  for (let rows = 1; rows < runRows; rows *= 2) classes.push(rows)
  return [...classes, runRows]
}

/** A row that the model takes; undefined if none could be made up. */
async function findRow(program: Program, run: Run): Promise<Work | undefined> {
  for (const size of trialSizes) {
    for (const spread of spreads) {
      const [row] = sampleRows(program, 1, { sizeOf: evenSize(program, size), spread, seed: 0 })
      if ((await run(program, [row!])).kind === 'done') return row
    }
  }
  return undefined
}
