/** What a request asks of a lane beside its work: for whom, until when, and how urgently. */
import type { Call, InferRequest } from './call.ts'
import { lesser, type Priority } from './priority.ts'

/** What a route promises and asks for. */
export interface Terms {
  /** Milliseconds from arrival to answer; Infinity leaves it to the client and the edge. */
  readonly deadlineMs: number
  readonly priority: Priority
}

export class Claim {
  readonly requestId: string
  /** Between whom lanes are fair. */
  readonly caller: string
  /** On the clock's monotonic scale, milliseconds. */
  deadline: number
  priority: Priority
  /** One for all that are early. */
  #progress: { hasBegun: boolean; onRan?: (computeMs: number) => void } = { hasBegun: false }
  readonly #call: Call
  readonly #terms: Terms

  /** The deadline is the tightest there is: the client's, the route's or the edge's. */
  constructor(call: Call, caller: string, terms: Terms) {
    this.#call = call
    this.#terms = terms
    this.requestId = call.requestId
    this.caller = caller
    this.deadline = Math.min(call.deadline, call.arrivedAt + terms.deadlineMs)
    this.priority = call.priority === undefined ? terms.priority : lesser(call.priority, terms.priority)
  }

  get gone(): boolean {
    return this.#call.gone
  }

  onGone(callback: () => void): void {
    this.#call.onGone(callback)
  }

  /** Whether it was in a batch that was run, or is. */
  get hasBegun(): boolean {
    return this.#progress.hasBegun
  }

  begin(): void {
    this.#progress.hasBegun = true
  }

  /** Told what it took of a worker, its share of the run in milliseconds, which may be long after it was answered. */
  ran(computeMs: number): void {
    this.#progress.onRan?.(computeMs)
  }

  onRan(callback: (computeMs: number) => void): void {
    this.#progress.onRan = callback
  }

  /** The same claim, due so much sooner: what is left may serve for something else. */
  early(ms: number = 0): Claim {
    if (ms === 0) return this
    const early = new Claim(this.#call, this.caller, this.#terms)
    early.deadline = this.deadline - ms
    early.priority = this.priority
    early.#progress = this.#progress
    return early
  }

  /** Takes in what the body asks for: a client may hurry, and it may step back, but not push ahead of its route. */
  tighten({ timeoutMs, priority }: Pick<InferRequest, 'timeoutMs' | 'priority'>): void {
    if (timeoutMs !== undefined) this.deadline = Math.min(this.deadline, this.#call.arrivedAt + timeoutMs)
    if (priority !== undefined) this.priority = lesser(priority, this.priority)
  }
}
