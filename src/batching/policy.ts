/**
 * What every batching policy is asked. A policy never acts: the lane owns the queue, the arbiter owns the clock and the
 * executors. So a policy is a pure decision over numbers, and can be tested and simulated without either.
 */
export interface Waiting {
  /** Rows queued under one batch key. */
  readonly rows: number
  /** When the request at the head was queued, on the clock's scale. */
  readonly oldestAt: number
}

export type Proposal =
  /** Run up to `rows` rows now; among lanes that share an executor the larger worth goes first. */
  | { readonly kind: 'run'; readonly rows: number; readonly worth: number }
  /** Ask again at `until`, or when something changes; Infinity leaves it to the change. */
  | { readonly kind: 'wait'; readonly until: number }

export interface Policy {
  /** `freeAt` is when the executor can start: `now` or earlier if it is idle, Infinity if busy for an unknown time. */
  propose(now: number, freeAt: number, waiting: Waiting): Proposal
}
