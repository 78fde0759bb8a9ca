/**
 * What each caller has had of the executors, over all lanes, in predicted milliseconds of compute over its weight. The
 * caller that has had least goes first; whoever comes back from having nothing to do starts where the others are, so that
 * nobody saves up. Charged when work begins, so that what was refused costs nothing. This is the virtual counter of Sheng
 * et al. (OSDI 2024): two callers that always have work are never further apart than a few runs.
 */
export interface Account {
  readonly caller: string
  readonly weight: number
  had: number
  /** Jobs that wait, and their predicted compute. */
  jobs: number
  ms: number
}

/** So far apart, in milliseconds of compute by weight, callers may be because one of them asks for less. */
const mostAskedMs = 50

/** For so long a caller counts as one of several after its last request. */
const sharedMs = 1_000

export class Accounts {
  readonly #weights: Readonly<Record<string, number>>
  /** Of callers with jobs that wait; the others are forgotten, so that strangers cannot fill the memory. */
  readonly #open = new Map<string, Account>()
  /** What the one who was served last had had by then. */
  #level = 0
  #weight = 0
  #latest = ''
  #latestAt = -Infinity
  #sharedUntil = -Infinity

  /** Weights of callers that count for more or less than 1. */
  constructor(weights: Readonly<Record<string, number>>) {
    this.#weights = weights
  }

  /** The account of a caller, which has to be told of the job by `add`. */
  of(caller: string): Account {
    const known = this.#open.get(caller)
    if (known) return known
    const weight = Object.hasOwn(this.#weights, caller) ? this.#weights[caller]! : 1
    return { caller, weight, had: this.#level, jobs: 0, ms: 0 }
  }

  /** Whether more than one caller has asked of late. */
  sharedAt(now: number): boolean {
    return now < this.#sharedUntil
  }

  /** A job of this caller waits. */
  add(account: Account, costMs: number, now: number): void {
    if (account.caller !== this.#latest && now < this.#latestAt + sharedMs) this.#sharedUntil = now + sharedMs
    this.#latest = account.caller
    this.#latestAt = now
    if (account.jobs++ === 0) {
      this.#open.set(account.caller, account)
      this.#weight += account.weight
    }
    account.ms += costMs
  }

  /** It waits no more. */
  remove(account: Account, costMs: number): void {
    account.ms -= costMs
    if (--account.jobs > 0) return
    account.ms = 0
    this.#open.delete(account.caller)
    this.#weight = this.#open.size === 0 ? 0 : this.#weight - account.weight
  }

  /**
   * Whoever has the least of this goes next: what it has had and, up to a limit, what it still asks for. Of two that have
   * had about as much the one goes first that asks for little, which hardly delays the other.
   */
  rankOf({ had, ms, weight }: Account): number {
    return had + Math.min(ms, mostAskedMs) / weight
  }

  /** It runs, and is paid for. */
  charge(account: Account, costMs: number): void {
    this.#level = Math.max(this.#level, account.had)
    account.had += costMs / account.weight
  }

  /**
   * How much of `ms` of waiting work goes before a new job: each of the others gets, while this caller's own jobs are
   * run, no more than its weight's part.
   */
  ahead(caller: string, ms: number, costMs: number): number {
    const account = this.of(caller)
    const others = this.#weight - (account.jobs > 0 ? account.weight : 0)
    return Math.min(ms, account.ms + ((account.ms + costMs) * others) / account.weight)
  }
}
