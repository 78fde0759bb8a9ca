/**
 * What becomes of requests whose run failed. The batch is cut in half and both halves run again, so that of n requests
 * the n-1 good ones succeed and the culprit gets its own error. If a worker died, the halves of what it ran run once more;
 * what is lost again is refused, because each try costs a worker. A model with effects beside its answer is never run again
 * for the same request.
 */
import { refuse } from '../core/refusal.ts'
import type { Ran } from '../core/run.ts'
import type { Program } from '../core/signature.ts'
import type { Job } from './job.ts'

/** Jobs to run together. */
export interface Attempt {
  readonly jobs: readonly Job[]
  /** How many more runs the batch that they come from may cost; undefined for that batch itself. */
  readonly budget: { runs: number } | undefined
}

export interface RescueOptions {
  readonly program: Pick<Program, 'repeatable'>

  /** A batch is to be run in addition. */
  readonly onExtraRun: () => void
  /** Told why a request's run failed; the client is not. */
  readonly onFailure: (reason: string, requestId: string) => void
}

const mostLosses = 2
/** Enough for two culprits in any places: each costs two runs for every halving. */
const runsPerHalving = 4

export class Rescue {
  readonly #options: RescueOptions
  /** Attempts that wait for an executor. */
  readonly #attempts: Attempt[] = []

  constructor(options: RescueOptions) {
    this.#options = options
  }

  get empty(): boolean {
    return this.#attempts.length === 0
  }

  next(): Attempt | undefined {
    return this.#attempts.shift()
  }

  /** The run failed: finds out for which of its jobs. Returns those that are to blame, as far as it is known. */
  bisect({ jobs, budget = budgetFor(jobs) }: Attempt, reason: string): readonly Job[] {
    if (jobs.length === 1 || budget.runs < 2 || !this.#options.program.repeatable) {
      const [first] = jobs
      this.#options.onFailure(reason, first!.requestId)
      for (const job of jobs) job.settle(refuse('model_failed', jobs.length === 1 ? failedAlone : failedTogether))
      return jobs
    }
    budget.runs -= 2
    this.#halve(jobs, budget)
    return []
  }

  /**
   * The worker died in the run, or never came back from it. Halves here too: half of the requests are then out of the way
   * of the one that killed it.
   */
  retry({ jobs, budget = budgetFor(jobs) }: Attempt, { reason, mayRepeat }: Extract<Ran, { kind: 'lost' }>): void {
    const isLast = !mayRepeat || !this.#options.program.repeatable
    for (const job of jobs) {
      if (!isLast && ++job.losses < mostLosses) continue
      this.#options.onFailure(reason, job.requestId)
      job.settle(refuse('model_failed', isLast ? lostOnce : lostTwice))
    }
    this.#halve(jobs, budget)
  }

  /** The run was not begun. */
  again(attempt: Attempt): void {
    this.#attempts.push(attempt)
  }

  #halve(jobs: readonly Job[], budget: { runs: number }): void {
    const middle = Math.ceil(jobs.length / 2)
    for (const half of [jobs.slice(0, middle), jobs.slice(middle)]) {
      if (!half.some(({ state }) => state === 'running')) continue
      this.#options.onExtraRun()
      this.#attempts.push({ jobs: half, budget })
    }
  }
}

function budgetFor(jobs: readonly Job[]): { runs: number } {
  return { runs: runsPerHalving * Math.ceil(Math.log2(jobs.length)) }
}

const failedAlone = "the model failed on this input; the gateway's log says why"
const failedTogether = 'the model failed on too many of the requests that shared its run'
const lostTwice = 'the worker died twice while it ran the batch that held this request'
const lostOnce = 'the worker did not come back from the run that held this request'
