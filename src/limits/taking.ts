/** Takes what a request costs from all its buckets, or from none. */
import type { Clock } from '../core/clock.ts'
import { isRefusal, type Refusal } from '../core/refusal.ts'
import type { Binding } from './bindings.ts'
import type { LimitCounts } from './counts.ts'
import { reached, tooMuch, unchecked } from './fields.ts'
import type { Asked, Demand, Quota } from './quota.ts'
import type { Stores } from './stores.ts'

type Taken = readonly Demand[]

export class Taking {
  readonly #stores: Stores
  readonly #clock: Clock
  readonly #counts: LimitCounts

  constructor(stores: Stores, clock: Clock, counts: LimitCounts) {
    this.#stores = stores
    this.#clock = clock
    this.#counts = counts
  }

  /** What a quota would be asked for. */
  demand(quota: Quota, units: number): Demand {
    return { quota, units, store: this.#stores.of(quota.rule) }
  }

  /** Refuses if one of them is known to have nothing left. Asks nobody. */
  look(quotas: readonly Quota[], binding: Binding, now: number): Refusal | undefined {
    for (const quota of quotas) {
      // One that nobody can be asked about is kept elsewhere meanwhile, and what was known of it does not count.
      if (quota.rule.store !== 'local' && !this.#stores.isUp) continue
      const store = this.#stores.of(quota.rule)
      const waitMs = store.waitMs(quota, 1, now) ?? (1 - store.left(quota, now)) * quota.rule.bucket.msPerUnit
      if (waitMs > 0) return this.#refused(quota, binding, waitMs)
    }
    return undefined
  }

  /** Which units were taken, and from whom. */
  take(demands: readonly Demand[], binding: Binding, now: number): Taken | Refusal | Promise<Taken | Refusal> {
    let asks = false
    let wants = demands
    for (let i = 0; i < demands.length; i++) {
      const demand = demands[i]!
      const { quota, units, store } = demand
      if (units > quota.rule.bucket.burst) return this.#tooMuch(demand, binding, now)
      let waitMs = store!.waitMs(quota, units, now)
      if (waitMs === undefined) {
        if (this.#stores.isUp) {
          asks = true
          continue
        }
        const instead = this.#instead(demand, binding)
        if (isRefusal(instead)) return instead
        wants = wants.with(i, instead)
        waitMs = instead.store ? instead.store.waitMs(quota, units, now)! : 0
      }
      if (waitMs > 0) return this.#refused(quota, binding, waitMs)
    }
    if (asks) return this.#ask(wants, binding)
    for (const { quota, units, store } of wants) store?.take(quota, units, now)
    return wants
  }

  /** Puts units back; below 0 it takes more. */
  give({ quota, store }: Demand, units: number): void {
    if (units !== 0) store?.give(quota, units)
  }

  /** Units left of a quota, as far as is known. */
  left(quota: Quota, now: number): number {
    return this.#stores.of(quota.rule).left(quota, now)
  }

  async #ask(demands: readonly Demand[], binding: Binding): Promise<Taken | Refusal> {
    const now = this.#clock.now()
    const isSure = ({ quota, units, store }: Demand) => !store || store.waitMs(quota, units, now) !== undefined
    const sure = demands.filter(isSure)
    // While others are asked, nobody else may have these.
    for (const { quota, units, store } of sure) store?.take(quota, units, now)
    const asked = this.#stores.remote.flatMap((store) => {
      const own = demands.filter((each) => each.store === store && !sure.includes(each))
      return own.length > 0 ? [store.ask(own)] : []
    })
    const answers = await Promise.all(asked)
    const taken = [...sure]
    const refusal = this.#judge(answers.flat(), taken, binding)
    if (refusal) for (const demand of taken) this.give(demand, demand.units)
    return refusal ?? taken
  }

  /** Adds to `taken` whatever was, and says why the request is refused if it is. */
  #judge(answers: readonly Asked[], taken: Demand[], binding: Binding): Refusal | undefined {
    let refusal: Refusal | undefined
    for (const { demand, isTaken, waitMs } of answers) {
      if (isTaken) taken.push(demand)
      else if (waitMs === undefined) refusal ??= this.#takeInstead(demand, taken, binding)
      else if (waitMs > 0) refusal ??= this.#refused(demand.quota, binding, waitMs)
    }
    return refusal
  }

  #takeInstead(demand: Demand, taken: Demand[], binding: Binding): Refusal | undefined {
    const instead = this.#instead(demand, binding)
    if (isRefusal(instead)) return instead
    const { quota, units, store } = instead
    const now = this.#clock.now()
    const waitMs = store ? store.waitMs(quota, units, now)! : 0
    if (waitMs > 0) return this.#refused(quota, binding, waitMs)
    store?.take(quota, units, now)
    taken.push(instead)
    return undefined
  }

  /** What holds while Redis cannot be asked. */
  #instead({ quota, units }: Demand, { policies }: Binding): Demand | Refusal {
    const { name, onError } = quota.rule
    this.#counts.miss(name, onError)
    if (onError !== 'refuse') return { quota, units, store: onError === 'local' ? this.#stores.local : undefined }
    this.#counts.refuse(name)
    return unchecked(quota.rule, policies)
  }

  #refused(quota: Quota, { policies }: Binding, waitMs: number): Refusal {
    this.#counts.refuse(quota.rule.name)
    return reached(quota.rule, policies, this.left(quota, this.#clock.now()), waitMs)
  }

  #tooMuch({ quota }: Demand, { policies }: Binding, now: number): Refusal {
    this.#counts.refuse(quota.rule.name)
    return tooMuch(quota.rule, policies, this.left(quota, now))
  }
}
