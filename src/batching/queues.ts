/** The queues of a lane, one for each batch key, and what is in them together. */
import { priorities } from '../core/priority.ts'
import type { Accounts } from './accounts.ts'
import { Curve } from './curve.ts'
import type { Job } from './job.ts'
import { Queue } from './queue.ts'

/** Keys of which something is remembered while nothing waits under them. Clients choose shapes, so there may be many. */
const mostIdle = 64

export class Queues {
  /** Rows waiting, over all keys. */
  rows = 0
  /** Predicted compute of what waits, by rank. */
  readonly #backlogMs = priorities.map(() => 0)
  readonly #byKey = new Map<string, Queue>()
  readonly #busy = new Set<Queue>()
  readonly #accounts: Accounts
  /** The one that was asked for last: what a request will be like whose body has not been read. */
  latest: Queue | undefined

  constructor(accounts: Accounts) {
    this.#accounts = accounts
  }

  /** Those in which something waits. */
  get busy(): Iterable<Queue> {
    return this.#busy
  }

  /** The queue for a key. `apart` sets some requests apart from the others under it, which take as long as those. */
  of(key: string, apart: string | undefined): Queue {
    const id = apart === undefined ? key : `${key}\0${apart}`
    const known = this.#byKey.get(id)
    if (known) return (this.latest = known)
    const curve = apart === undefined ? new Curve() : this.of(key, undefined).curve
    const queue = new Queue(id, curve, this.#accounts)
    this.#byKey.set(id, queue)
    return (this.latest = queue)
  }

  /** Predicted compute of what waits in the classes down to `rank`. */
  backlogMs(rank: number): number {
    let ms = 0
    for (let i = 0; i <= rank; i++) ms += this.#backlogMs[i]!
    return ms
  }

  push(queue: Queue, job: Job): void {
    queue.push(job)
    this.#busy.add(queue)
    this.rows += job.work.rows
    this.#backlogMs[job.rank]! += job.costMs
  }

  /** Accounts for a job that was settled while it waited. */
  forget(job: Job): void {
    // In which something waits is never dropped.
    const queue = this.#byKey.get(job.queueKey)!
    queue.forget(job)
    this.#left(queue, [job])
  }

  take(queue: Queue, rows: number, most: number): Job[] {
    const taken = queue.take(rows, most)
    this.#left(queue, taken)
    return taken
  }

  #left(queue: Queue, jobs: readonly Job[]): void {
    for (const job of jobs) {
      this.rows -= job.work.rows
      this.#backlogMs[job.rank]! -= job.costMs
    }
    if (queue.rows === 0) this.#rest(queue)
  }

  #rest(queue: Queue): void {
    this.#busy.delete(queue)
    if (this.#busy.size === 0) this.#backlogMs.fill(0)
    if (this.#byKey.size <= mostIdle) return
    // The one that has rested longest goes; this one becomes the last to.
    this.#byKey.delete(queue.key)
    this.#byKey.set(queue.key, queue)
    const oldest = this.#byKey.values().find((each) => each.rows === 0)
    if (oldest) this.#byKey.delete(oldest.key)
  }
}
