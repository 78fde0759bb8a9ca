/** A request in a lane, from `run` to its answer. */
import { rankOf, type Priority } from '../core/priority.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Work } from '../core/run.ts'
import type { Tensor } from '../core/tensor.ts'
import type { Account } from './accounts.ts'

/** The request behind a piece of work, as far as a lane cares. */
export interface Claim {
  readonly requestId: string
  readonly caller: string
  readonly deadline: number
  readonly priority: Priority
  readonly gone: boolean
  /** One callback at a time. */
  onGone(callback: () => void): void
  /** Told when it is in a batch, and what that took, its share in milliseconds, whether or not anybody still waits. */
  begin?(): void
  ran?(computeMs: number): void
}

export interface Done {
  readonly outputs: readonly Tensor[]
  /** Rows in the run that held this request. */
  readonly batchRows: number
  readonly queueMs: number
  readonly computeMs: number
}

/** What is known of a job when it is queued. */
export interface JobFacts {
  readonly account: Account
  readonly queuedAt: number
  /** Predicted share of a run. */
  readonly costMs: number
}

/** Settled once; whatever comes later is ignored. */
export class Job {
  readonly work: Work
  readonly requestId: string
  readonly deadline: number
  /** Index into `priorities`. */
  readonly rank: number
  readonly account: Account
  readonly queuedAt: number
  /** Predicted share of a run, as of when it was queued. */
  readonly costMs: number
  state: 'waiting' | 'running' | 'settled' = 'waiting'
  /** The key of the queue where it waits, or waited last. */
  queueKey = ''
  /** Where it is among those whose deadline is watched. */
  place = -1
  /** How many runs were lost with their worker. */
  losses = 0
  readonly #claim: Claim
  readonly #resolve: (outcome: Done | Refusal) => void
  #watch: { delete(job: Job): void } | undefined

  constructor(
    work: Work,
    claim: Claim,
    { account, queuedAt, costMs }: JobFacts,
    resolve: (outcome: Done | Refusal) => void,
  ) {
    const { requestId, deadline, priority } = claim
    this.work = work
    this.#claim = claim
    this.requestId = requestId
    this.deadline = deadline
    this.rank = rankOf(priority)
    this.account = account
    this.queuedAt = queuedAt
    this.costMs = costMs
    this.#resolve = resolve
  }

  /** `watch` is told when it is settled. */
  watchedBy(watch: { delete(job: Job): void }): void {
    this.#watch = watch
  }

  /** Calls back at most once, when nobody waits for it any more. */
  onGone(callback: () => void): void {
    this.#claim.onGone(callback)
  }

  begin(): void {
    this.state = 'running'
    this.#claim.begin?.()
  }

  ran(computeMs: number): void {
    this.#claim.ran?.(computeMs)
  }

  settle(outcome: Done | Refusal): void {
    if (this.state === 'settled') return
    this.state = 'settled'
    this.#watch?.delete(this)
    this.#resolve(outcome)
  }
}
