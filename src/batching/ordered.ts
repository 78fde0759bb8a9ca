/** Jobs in an order, by deadline or by arrival; equal ones as they came. Whoever waits no more is skipped. */
import type { Job } from './job.ts'

export class Ordered {
  readonly #by: 'deadline' | 'queuedAt'
  #jobs: Job[] = []
  #head = 0
  #waiting = 0
  /** Rows of those that wait. */
  rows = 0

  constructor(by: 'deadline' | 'queuedAt') {
    this.#by = by
  }

  get size(): number {
    return this.#waiting
  }

  /** The first that still waits. */
  get first(): Job | undefined {
    while (this.#head < this.#jobs.length && this.#jobs[this.#head]!.state !== 'waiting') this.#head++
    return this.#jobs[this.#head]
  }

  /** The last that still waits. */
  get last(): Job | undefined {
    return this.#jobs.findLast(({ state }) => state === 'waiting')
  }

  add(job: Job): void {
    const jobs = this.#jobs
    this.#waiting++
    this.rows += job.work.rows
    const by = this.#by
    // They mostly come in order, so the place is near the end.
    let at = jobs.length
    while (at > this.#head && jobs[at - 1]![by] > job[by]) at--
    if (at === jobs.length) jobs.push(job)
    else jobs.splice(at, 0, job)
  }

  /**
   * Accounts for a job that waits no more; its place is skipped. The gaps are closed once they are the larger part: to
   * shift an array for every job is linear in the queue, and clients that come and go must not pile up behind one that
   * waits.
   */
  forget(job: Job): void {
    this.#waiting--
    this.rows -= job.work.rows
    const gaps = this.#jobs.length - this.#waiting
    if (this.#waiting === 0) this.#jobs = []
    else if (gaps < 64 || gaps * 2 < this.#jobs.length) return
    else this.#jobs = this.#jobs.filter(({ state }) => state === 'waiting')
    this.#head = 0
  }

  /** Visits those that wait, in their order, until told to stop by `false`. */
  walk(visit: (job: Job) => boolean): void {
    for (let i = this.#head; i < this.#jobs.length; i++) {
      const job = this.#jobs[i]!
      if (job.state === 'waiting' && !visit(job)) return
    }
  }
}
