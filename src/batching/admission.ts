/**
 * Who is let into a lane: whoever can be answered by its deadline, as far as can be told, and for whom there is room.
 * Asked from a request's head, so that what cannot be served costs next to nothing; and again when its rows are known.
 */
import { priorities, rankOf } from '../core/priority.ts'
import { Refusal } from '../core/refusal.ts'
import type { Accounts } from './accounts.ts'
import { hasChance, probeMs } from './foresight.ts'
import type { Claim, Job } from './job.ts'
import type { Moment, Policy } from './policy.ts'
import type { Queue } from './queue.ts'
import type { Queues } from './queues.ts'
import { Rate } from './rate.ts'

/** A rate is taken over the time that a request has, within limits. */
const memoryMs = { least: 1, most: 2_000 }
/** How fast the usual number of rows follows what comes. */
const usualStep = 0.05

export interface AdmissionOptions {
  readonly queues: Queues
  readonly accounts: Accounts
  readonly policy: Policy
  readonly maxQueueRows: number
}

/** A request at the door. */
export interface Applicant {
  readonly claim: Claim
  readonly queue: Queue
  readonly rows: number
}

export class Admission {
  readonly #options: AdmissionOptions
  /** Executors' time that is asked of the lane, milliseconds a millisecond; what is refused included. */
  readonly #demand = new Rate()
  #usualRows = 1

  constructor(options: AdmissionOptions) {
    this.#options = options
  }

  /** How many executors it would take to serve all that comes. */
  demandAt(now: number): number {
    return this.#demand.at(now)
  }

  /** A request of which only the head is known; undefined while nothing has ever come. */
  stranger(claim: Claim): Applicant | undefined {
    const queue = this.#options.queues.latest
    return queue && { claim, queue, rows: this.#usualRows }
  }

  /** Counts a request, whether or not it is let in. */
  count({ claim, queue, rows }: Applicant, now: number): void {
    const budgetMs = Math.min(Math.max(claim.deadline - now, memoryMs.least), memoryMs.most)
    queue.lines[rankOf(claim.priority)]!.came(now, rows, budgetMs)
    this.#demand.add(now, this.costMs(queue, rows, budgetMs), budgetMs)
    this.#usualRows += usualStep * (rows - this.#usualRows)
  }

  /** Predicted compute of some rows, as a part of a batch whose size leaves time to wait for the one before. */
  costMs({ curve }: Queue, rows: number, budgetMs: number): number {
    if (!curve.known) return rows
    const batch = Math.max(1, curve.largest(budgetMs / 2, this.#options.policy.maxRows))
    return (rows * curve.mean(batch)) / batch
  }

  /** Why a request cannot be answered in time; undefined if it can. */
  late({ claim, queue, rows }: Applicant, moment: Moment): Refusal | undefined {
    const { queues, accounts, policy } = this.#options
    const { caller, deadline, priority } = claim
    const { now } = moment
    const perRowMs = this.costMs(queue, 1, deadline - now)
    const rank = rankOf(priority)
    const backlogMs = queues.backlogMs(rank)
    const rowsAhead = accounts.ahead(caller, backlogMs, rows * perRowMs) / perRowMs
    const finishAt = policy.predict(moment, queue, { rows, deadline, rank, rowsAhead })
    if (finishAt <= deadline) return undefined
    if (queues.rows === 0 && (hasChance(moment, queue.curve, { rows, deadline }) || now - queue.lastRunAt >= probeMs))
      return undefined
    return new Refusal('overloaded', 'it would not be answered by its deadline', retryAfterS(finishAt - deadline))
  }

  /** Why there is no room. */
  full(claim: Claim): Refusal | undefined {
    const { queues, maxQueueRows } = this.#options
    if (queues.rows < maxQueueRows || this.victimOf(claim)) return undefined
    const waitMs = queues.backlogMs(priorities.length - 1)
    return new Refusal('overloaded', `${queues.rows} rows are waiting for this model already`, retryAfterS(waitMs))
  }

  /**
   * Whose place a request may have when the queue is full: that of a less urgent one, or of the caller that has most of
   * them (the longest queue's last, McKenney 1990). So one caller's flood does not keep the others out.
   */
  victimOf({ caller, priority }: Claim): { readonly queue: Queue; readonly job: Job } | undefined {
    const { queues, accounts } = this.#options
    const own = rankOf(priority)
    const { jobs } = accounts.of(caller)
    let victim: { queue: Queue; job: Job } | undefined
    for (const queue of queues.busy) {
      for (let rank = priorities.length - 1; rank >= own; rank--) {
        const job = queue.lines[rank]!.excess
        if (!job || (rank === own && job.account.jobs <= jobs + 1)) continue
        if (!victim || isRatherOut(job, victim.job)) victim = { queue, job }
      }
    }
    return victim
  }
}

/** The less urgent goes first, and of equal ones that of the caller with more. */
function isRatherOut(job: Job, than: Job): boolean {
  return job.rank === than.rank ? job.account.jobs > than.account.jobs : job.rank > than.rank
}

/** For the header: whole seconds, within reason. */
export function retryAfterS(ms: number): number {
  return Math.min(60, Math.max(1, Math.ceil(ms / 1_000)))
}
