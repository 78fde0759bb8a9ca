import type { Priority } from '../core/priority.ts'
import type { OnError } from './quota.ts'

/** What the limits count, and what can be asked of them. */
export interface LimitCounts {
  /** A rule has refused a request. */
  refuse(rule: string): void
  /** Redis could not be asked, and this held instead. */
  miss(rule: string, instead: OnError): void
  /** Requests refused because the gateway is overloaded. */
  readonly shed: Record<Priority, number>
  keys: () => number
  replaced: () => number
  leases: () => number
}
