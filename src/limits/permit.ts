/** What a request holds under the limits, from its head until its answer is known. */
import type { Clock } from '../core/clock.ts'
import { isRefusal, type Refusal } from '../core/refusal.ts'
import type { Binding } from './bindings.ts'
import type { Caps } from './caps.ts'
import type { Standing } from './fields.ts'
import type { Demand } from './quota.ts'
import type { Taking } from './taking.ts'

/** Milliseconds that a run is predicted to take; undefined if nobody knows. Asked only where a bucket counts compute. */
export type Predict = () => number | undefined

export interface Permit {
  /**
   * Takes rows, and the compute that a run of them is predicted to take, from the buckets that count these: from all or
   * none. A request that is refused here still counts as one.
   */
  charge(rows: number, predict: Predict): undefined | Refusal | Promise<undefined | Refusal>
  /** Gives the places back. */
  leave(): void
  /** Sets buckets of compute right, once, to what the request took of a worker in milliseconds. */
  settle(computeMs: number): void
  /** Both, for a request of which nothing is under way any more. */
  release(computeMs?: number): void
  /** Where the tightest limit stands: names and values of header fields, in turn. */
  fields(): readonly string[]
}

const nothing: readonly string[] = []

/** For a request that no limit holds for. */
export const noPermit: Permit = {
  charge: () => undefined,
  leave: () => {},
  settle: () => {},
  release: () => {},
  fields: () => nothing,
}

export class HeldPermit implements Permit {
  readonly #binding: Binding
  readonly #caps: Caps
  readonly #taking: Taking
  readonly #clock: Clock
  #charged: readonly Demand[] = []
  #hasLeft = false
  #isSettled = false

  constructor(binding: Binding, caps: Caps, taking: Taking, clock: Clock) {
    this.#binding = binding
    this.#caps = caps
    this.#taking = taking
    this.#clock = clock
  }

  charge(rows: number, predict: Predict): undefined | Refusal | Promise<undefined | Refusal> {
    const { later } = this.#binding
    if (later.length === 0) return undefined
    const demands = later.map((quota) => {
      return this.#taking.demand(quota, quota.rule.cost === 'row' ? rows : (predict() ?? 0))
    })
    const taken = this.#taking.take(demands, this.#binding, this.#clock.now())
    return taken instanceof Promise ? taken.then((outcome) => this.#keep(outcome)) : this.#keep(taken)
  }

  leave(): void {
    if (this.#hasLeft) return
    this.#hasLeft = true
    this.#caps.leave(this.#binding.caps)
  }

  settle(computeMs: number): void {
    if (this.#isSettled) return
    this.#isSettled = true
    this.#settle(computeMs)
  }

  release(computeMs = 0): void {
    this.leave()
    this.settle(computeMs)
  }

  fields(): readonly string[] {
    return this.#binding.fields.of(this.#tightest())
  }

  #keep(taken: readonly Demand[] | Refusal): Refusal | undefined {
    if (isRefusal(taken)) return taken
    this.#charged = taken
    // It was given up while Redis was asked.
    if (this.#isSettled) this.#settle(0)
    return undefined
  }

  /** Sets the buckets of compute right. */
  #settle(computeMs: number): void {
    for (const demand of this.#charged) {
      if (demand.quota.rule.cost === 'computeMs') this.#taking.give(demand, demand.units - computeMs)
    }
    this.#charged = []
  }

  /** The limit of which the least part is left. */
  #tightest(): Standing {
    const now = this.#clock.now()
    const { quotas, caps } = this.#binding
    let tightest: Standing = { name: '', left: 0, waitMs: undefined }
    let least = Infinity
    for (const quota of quotas) {
      const { name, bucket } = quota.rule
      const left = this.#taking.left(quota, now)
      if (left / bucket.burst >= least) continue
      least = left / bucket.burst
      tightest = { name, left, waitMs: (bucket.burst - left) * bucket.msPerUnit }
    }
    for (const { rule, key } of caps) {
      const left = this.#caps.left(rule, key)
      if (left / rule.most >= least) continue
      least = left / rule.most
      tightest = { name: rule.name, left, waitMs: undefined }
    }
    return tightest
  }
}
