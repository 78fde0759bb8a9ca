/**
 * How much a caller may ask for. All limits that fit a request hold, and a refusal takes nothing of any of them. What is
 * counted here is decided at once; only what must be asked of Redis takes time, and no more than its budget.
 */
import type { Clock } from '../core/clock.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { Bindings, type Asking, type Binding } from './bindings.ts'
import { Caps } from './caps.ts'
import type { LimitCounts } from './counts.ts'
import { crowded } from './fields.ts'
import type { LimitsOptions } from './options.ts'
import { LagMeter, Overload } from './overload.ts'
import { HeldPermit, noPermit, type Permit } from './permit.ts'
import { Stores } from './stores.ts'
import type { RedisLink } from './stores/link.ts'
import { Taking } from './taking.ts'

export interface LimitTools {
  readonly clock: Clock
  /** Where rules with `store: redis` count; there must be one if there are any. */
  readonly redis?: RedisLink | undefined
  readonly counts: LimitCounts
}

export class Limits {
  readonly #clock: Clock
  readonly #counts: LimitCounts
  readonly #overload: Overload
  readonly #lag: LagMeter
  readonly #caps = new Caps()
  readonly #stores: Stores
  readonly #bindings: Bindings
  readonly #taking: Taking

  constructor(options: LimitsOptions, { clock, redis, counts }: LimitTools) {
    this.#clock = clock
    this.#counts = counts
    this.#overload = new Overload(options.overload)
    this.#lag = new LagMeter(clock, (lateMs) => this.#overload.observe(lateMs))
    this.#stores = new Stores(options.maxKeys, clock, redis)
    this.#bindings = new Bindings(options.rules, redis?.prefix ?? '', (rule) => this.#stores.of(rule))
    this.#taking = new Taking(this.#stores, clock, counts)
    counts.keys = () => this.#stores.table.used
    counts.replaced = () => this.#stores.table.replaced
    counts.leases = () => this.#stores.leases
  }

  /**
   * From the head of a request: takes one of each bucket of requests, holds a place under each cap, and looks whether other
   * buckets have anything left. All or nothing. At once, unless something must be asked of Redis.
   */
  admit(asking: Asking): Permit | Refusal | Promise<Permit | Refusal> {
    this.#lag.use()
    if (this.#overload.sheds(asking.priority)) {
      this.#counts.shed[asking.priority]++
      return refuse('overloaded', 'the gateway has more to do than it can: try again later')
    }
    if (this.#bindings.isEmpty) return noPermit
    const binding = this.#bindings.of(asking)
    const { caps, requests, later, quotas } = binding
    if (caps.length === 0 && quotas.length === 0) return noPermit
    const now = this.#clock.now()
    const refusal = this.#crowded(binding) ?? (later.length > 0 ? this.#taking.look(later, binding, now) : undefined)
    if (refusal) return refusal
    this.#caps.enter(caps)
    const taken = requests.length === 0 ? requests : this.#taking.take(requests, binding, now)
    return taken instanceof Promise
      ? taken.then((outcome) => this.#permit(binding, outcome))
      : this.#permit(binding, taken)
  }

  /** Gives back to Redis what was drawn ahead. Close the connection to Redis afterwards. */
  close(): void {
    this.#lag.close()
    this.#stores.close()
  }

  #crowded({ caps, policies }: Binding): Refusal | undefined {
    const full = caps.length > 0 ? this.#caps.full(caps) : undefined
    if (!full) return undefined
    this.#counts.refuse(full.rule.name)
    return crowded(full.rule, policies)
  }

  #permit(binding: Binding, taken: object | Refusal): Permit | Refusal {
    if (!isRefusal(taken)) return new HeldPermit(binding, this.#caps, this.#taking, this.#clock)
    this.#caps.leave(binding.caps)
    return taken
  }
}
