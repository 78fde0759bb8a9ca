/** The jobs of one priority class under one key: by deadline for what can still be done, by caller for whose turn it is. */
import type { Account, Accounts } from './accounts.ts'
import type { Job } from './job.ts'
import { Ordered } from './ordered.ts'
import type { WaitingLine } from './policy.ts'
import { Rate } from './rate.ts'

export class Line implements WaitingLine {
  readonly #arrivals = new Rate()
  readonly #all = new Ordered('deadline')
  readonly #byCaller = new Map<Account, Ordered>()
  readonly #accounts: Accounts

  constructor(accounts: Accounts) {
    this.#accounts = accounts
  }

  get rows(): number {
    return this.#all.rows
  }

  /** Rows that come in a millisecond, those that are refused included. */
  rateAt(now: number): number {
    return this.#arrivals.at(now)
  }

  /** The same, as much as there is most of the time. */
  leastRateAt(now: number): number {
    return this.#arrivals.leastAt(now)
  }

  /** Counts rows that came, whether or not they are let in. `budgetMs` is how long they are remembered. */
  came(now: number, rows: number, budgetMs: number): void {
    this.#arrivals.add(now, rows, budgetMs)
  }

  /** The most urgent job. */
  get first(): Job | undefined {
    return this.#all.first
  }

  /** Visits the jobs, the most urgent first, until told to stop by `false`. */
  walk(visit: (job: Job) => boolean): void {
    this.#all.walk(visit)
  }

  add(job: Job): void {
    this.#all.add(job)
    const own = this.#byCaller.get(job.account)
    if (own) own.add(job)
    else this.#byCaller.set(job.account, inOrder(job))
  }

  /** Accounts for a job that waits no more. */
  forget(job: Job): void {
    this.#all.forget(job)
    const own = this.#byCaller.get(job.account)!
    own.forget(job)
    if (own.size === 0) this.#byCaller.delete(job.account)
  }

  /** The job whose turn it is: the most urgent one of the caller that has had least, if it has at most `maxRows`. */
  next(maxRows: number): Job | undefined {
    let least = Infinity
    let job: Job | undefined
    for (const [account, own] of this.#byCaller) {
      const rank = this.#accounts.rankOf(account)
      if (rank >= least) continue
      const first = own.first!
      // A job that does not fit keeps its turn for the next batch; others may use the room.
      if (first.work.rows > maxRows) continue
      least = rank
      job = first
    }
    return job
  }

  /** Rows of the caller that has most. */
  get surplus(): number {
    let most = 0
    for (const own of this.#byCaller.values()) if (own.rows > most) most = own.rows
    return most
  }

  /** The job whose turn it is, if it is larger than any batch. */
  oversize(most: number): Job | undefined {
    const job = this.next(Infinity)
    return job && job.work.rows > most ? job : undefined
  }

  /** The least urgent job of the caller that has the most of them. */
  get excess(): Job | undefined {
    let most: Ordered | undefined
    for (const own of this.#byCaller.values()) if (!most || own.size > most.size) most = own
    return most?.last
  }
}

function inOrder(job: Job): Ordered {
  const jobs = new Ordered('deadline')
  jobs.add(job)
  return jobs
}
