/**
 * What happened to one request: opened at arrival, settled when the outcome is known, closed on the last byte, each
 * exactly once on every path. Whoever needs to know what happened listens here.
 */
import type { Clock } from '../core/clock.ts'
import type { FallbackKind } from '../core/call.ts'
import { isRefusal, type Refusal, type RefusalCode } from '../core/refusal.ts'

/** `fallback`: answered, but not by the version that was asked. */
export type Outcome = 'ok' | 'fallback' | RefusalCode

export interface JournalListener {
  /** The outcome is known; the answer may still be on its way. */
  readonly settled?: (journal: Journal) => void
  /** The last byte is written, or the connection gone. */
  readonly closed?: (journal: Journal) => void
}

/** What a request was assigned to, and by which draw. */
export interface Assigned {
  readonly arm: string
  readonly decision: string
  readonly share: number
  readonly generation: number
  readonly unit: string
  readonly unitKind: string
}

interface Ran {
  readonly batchRows: number
  readonly queueMs: number
  readonly computeMs: number
}

export class Journal {
  readonly arrivedAt: number
  /** Empty until the request is routed, so that no name a client made up becomes a label. */
  route = ''
  model = ''
  version = ''
  /** How the model's split assigned it, if it has one. */
  choice: Assigned | undefined
  rows = 0
  batchRows = 0
  queueMs = 0
  computeMs = 0
  totalMs = 0
  outcome: Outcome | undefined
  /** What answered in the version's place, and why that could not. */
  instead: { readonly kind: FallbackKind; readonly code: RefusalCode } | undefined
  readonly #clock: Clock
  readonly #listeners: readonly JournalListener[]
  #closed = false

  constructor(clock: Clock, listeners: readonly JournalListener[]) {
    this.#clock = clock
    this.#listeners = listeners
    this.arrivedAt = clock.now()
  }

  routed(route: string, model: string): void {
    this.route = route
    this.model = model
  }

  chose({
    target,
    choice,
  }: {
    readonly target: { readonly version: string }
    readonly choice: Assigned | undefined
  }): void {
    this.version = target.version
    this.choice = choice
  }

  ran(done: Ran | Refusal): void {
    if (isRefusal(done)) return
    this.batchRows = done.batchRows
    this.queueMs = done.queueMs
    this.computeMs = done.computeMs
  }

  fell(kind: FallbackKind, code: RefusalCode): void {
    this.instead = { kind, code }
  }

  settle(outcome: Outcome): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    for (const { settled } of this.#listeners) settled?.(this)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.settle('abandoned')
    this.totalMs = this.#clock.now() - this.arrivedAt
    for (const { closed } of this.#listeners) closed?.(this)
  }
}
