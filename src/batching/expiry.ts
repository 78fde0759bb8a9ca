/** Gives up jobs at their deadlines, with one timer for all: one for each costs as much as all else that a lane does for it. */
import type { Clock } from '../core/clock.ts'
import type { Job } from './job.ts'

export class Expiry {
  readonly #clock: Clock
  readonly #expire: (job: Job) => void
  /** In no order. A Set that jobs come to and leave so fast would keep them from being collected while they are young. */
  readonly #jobs: Job[] = []
  /** When it is looked next, and how to leave that. */
  #at = Infinity
  #cancel: (() => void) | undefined

  constructor(clock: Clock, expire: (job: Job) => void) {
    this.#clock = clock
    this.#expire = expire
  }

  add(job: Job, now: number): void {
    job.place = this.#jobs.push(job) - 1
    if (job.deadline < this.#at) this.#lookAt(job.deadline, now)
  }

  /** It is settled. Without any there is no timer either, which would keep the process up. */
  delete({ place }: Job): void {
    const last = this.#jobs.pop()!
    if (place < this.#jobs.length) {
      this.#jobs[place] = last
      last.place = place
    }
    if (this.#jobs.length === 0) this.#rest()
  }

  #lookAt(at: number, now: number): void {
    this.#cancel?.()
    this.#at = at
    this.#cancel = this.#clock.after(at - now, () => this.#look())
  }

  #rest(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#at = Infinity
  }

  #look(): void {
    const now = this.#clock.now()
    this.#rest()
    for (const job of this.#jobs.filter(({ deadline }) => deadline <= now)) this.#expire(job)
    if (this.#jobs.length === 0) return
    this.#lookAt(
      this.#jobs.reduce((first, { deadline }) => Math.min(first, deadline), Infinity),
      now,
    )
  }
}
