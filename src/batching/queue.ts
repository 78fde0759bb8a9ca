/** Requests that wait for one lane under one batch key: only they may share a run. */
import { priorities } from '../core/priority.ts'
import type { Accounts } from './accounts.ts'
import type { Curve } from './curve.ts'
import type { Job } from './job.ts'
import { Line } from './line.ts'
import { Ordered } from './ordered.ts'
import type { Waiting } from './policy.ts'

/** Of the rows of more urgent classes, the part that those below may have all the same, so that they never stand still. */
const leastPart = 0.05

export class Queue implements Waiting {
  readonly key: string
  readonly curve: Curve
  lastRunAt = -Infinity
  /** By rank. */
  readonly lines: readonly Line[]
  /** Rows that each class is owed by those above it. */
  readonly #owed = priorities.map(() => 0)
  readonly #byArrival = new Ordered('queuedAt')
  readonly #accounts: Accounts
  #pushedAt = 0

  constructor(key: string, curve: Curve, accounts: Accounts) {
    this.key = key
    this.curve = curve
    this.#accounts = accounts
    this.lines = priorities.map(() => new Line(accounts))
  }

  get rows(): number {
    return this.#byArrival.rows
  }

  /** When the oldest was queued; Infinity if none waits. */
  get oldestAt(): number {
    return this.#byArrival.first?.queuedAt ?? Infinity
  }

  get surplus(): number {
    if (!this.#accounts.sharedAt(this.#pushedAt)) return 0
    return Math.max(...this.lines.map((line) => line.surplus))
  }

  push(job: Job): void {
    job.queueKey = this.key
    this.lines[job.rank]!.add(job)
    this.#byArrival.add(job)
    this.#accounts.add(job.account, job.costMs, job.queuedAt)
    this.#pushedAt = job.queuedAt
  }

  /** Accounts for a job that waits no more. */
  forget(job: Job): void {
    this.lines[job.rank]!.forget(job)
    this.#byArrival.forget(job)
    this.#accounts.remove(job.account, job.costMs)
  }

  get all(): Job[] {
    const all: Job[] = []
    for (const line of this.lines) line.walk((job) => all.push(job) > 0)
    return all
  }

  /** Those that are due before a batch ends which is to be begun at `startAt`, or could not even be in time alone. */
  hopeless(startAt: number, finishAt: number): Job[] {
    const hopeless: Job[] = []
    const slowestAt = Math.max(finishAt, startAt + this.curve.high(this.rows))
    for (const line of this.lines) {
      line.walk((job) => {
        const { deadline, work } = job
        if (deadline < finishAt || deadline < startAt + this.curve.high(work.rows)) hopeless.push(job)
        return deadline < slowestAt
      })
    }
    return hopeless
  }

  /**
   * The next jobs while they fit into `rows`; they leave the queue. At least one, and a request that is larger than any
   * batch, which has `most` rows at most, goes alone when its turn comes, so that none is stuck.
   */
  take(rows: number, most: number): Job[] {
    const taken: Job[] = []
    const byRank = priorities.map(() => 0)
    let room = rows
    const take = (job: Job | undefined): boolean => {
      if (!job) return false
      job.begin()
      this.#accounts.charge(job.account, job.costMs)
      this.forget(job)
      taken.push(job)
      room -= job.work.rows
      byRank[job.rank]! += job.work.rows
      return true
    }
    const next = (line: Line) => (taken.length === 0 ? line.oversize(most) : undefined) ?? line.next(room)
    for (let rank = 1; rank < byRank.length; rank++) if (this.#isOwed(rank)) take(next(this.lines[rank]!))
    for (const line of this.lines) while (take(next(line)));
    if (taken.length === 0) take(this.lines.find((line) => line.rows > 0)?.next(Infinity))
    this.#settleDebts(byRank)
    return taken
  }

  #isOwed(rank: number): boolean {
    const first = this.lines[rank]!.first
    return first !== undefined && this.#owed[rank]! >= first.work.rows
  }

  /** `rows` that were taken, by rank. */
  #settleDebts(rows: readonly number[]): void {
    let above = 0
    for (let rank = 0; rank < rows.length; rank++) {
      const owed = this.#owed[rank]! + leastPart * above - rows[rank]!
      this.#owed[rank] = this.lines[rank]!.rows === 0 ? 0 : Math.max(0, owed)
      above += rows[rank]!
    }
  }
}
