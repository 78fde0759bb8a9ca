/** Requests that wait for one lane under one batch key, oldest first. */
import type { Refusal } from '../core/refusal.ts'
import type { Work } from '../core/run.ts'
import type { Tensor } from '../core/tensor.ts'

export interface Done {
  readonly outputs: readonly Tensor[]
  /** Rows in the run that held this request. */
  readonly batchRows: number
  readonly queueMs: number
  readonly computeMs: number
}

/** Whose job it is, and since when it waits on the clock's scale. */
interface Ticket {
  readonly requestId: string
  readonly queuedAt: number
}

/** A request in a lane, from `run` to its answer. Settled once; whatever comes later is ignored. */
export class Job {
  readonly work: Work
  readonly requestId: string
  readonly queuedAt: number
  state: 'waiting' | 'running' | 'settled' = 'waiting'
  /** How many runs were lost with their worker. */
  losses = 0
  readonly #resolve: (outcome: Done | Refusal) => void
  #cancelTimer: (() => void) | undefined

  constructor(work: Work, ticket: Ticket, resolve: (outcome: Done | Refusal) => void) {
    this.work = work
    this.requestId = ticket.requestId
    this.queuedAt = ticket.queuedAt
    this.#resolve = resolve
  }

  timedBy(cancelTimer: () => void): void {
    this.#cancelTimer = cancelTimer
  }

  settle(outcome: Done | Refusal): void {
    if (this.state === 'settled') return
    this.state = 'settled'
    this.#cancelTimer?.()
    this.#resolve(outcome)
  }
}

export class Queue {
  readonly key: string
  rows = 0
  #jobs: Job[] = []
  #head = 0
  /** How many of `#jobs` still wait. */
  #waiting = 0

  constructor(key: string) {
    this.key = key
  }

  /** The oldest job that still waits. */
  get oldest(): Job | undefined {
    while (this.#jobs[this.#head]?.state === 'settled') this.#head++
    return this.#jobs[this.#head]
  }

  push(job: Job): void {
    this.#jobs.push(job)
    this.#waiting++
    this.rows += job.work.rows
  }

  /** Accounts for a job that was settled while it waited; its place is skipped when the head reaches it. */
  forget(job: Job): void {
    this.rows -= job.work.rows
    this.#waiting--
    this.#sweep()
  }

  /** Takes jobs from the head while they fit into `maxRows`; at least one, so that a large request is not stuck. */
  take(maxRows: number): Job[] {
    const taken: Job[] = []
    let rows = 0
    for (let job = this.oldest; job; job = this.oldest) {
      if (taken.length > 0 && rows + job.work.rows > maxRows) break
      job.state = 'running'
      taken.push(job)
      rows += job.work.rows
      this.#head++
    }
    this.rows -= rows
    this.#waiting -= taken.length
    this.#sweep()
    return taken
  }

  /**
   * Drops those that wait no more, once they are the larger part: to shift an array for every job is linear in the queue,
   * and clients that come and go must not pile up behind one that waits.
   */
  #sweep(): void {
    const left = this.#jobs.length - this.#waiting
    if (left < 64 || left * 2 < this.#jobs.length) return
    this.#jobs = this.#jobs.filter(({ state }) => state === 'waiting')
    this.#head = 0
  }
}
