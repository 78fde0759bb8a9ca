/** Counts in Redis, request by request: one round trip for all that a request takes. */
import type { Clock } from '../../core/clock.ts'
import type { Asked, Demand, Quota, RemoteStore } from '../quota.ts'
import { bucketOf, giveBack, leftOf, note, type RedisLink } from './link.ts'
import { takeAll } from './scripts.ts'

export class ExactStore implements RemoteStore {
  readonly #link: RedisLink
  readonly #clock: Clock

  constructor(link: RedisLink, clock: Clock) {
    this.#link = link
    this.#clock = clock
  }

  waitMs(): undefined {
    return undefined
  }

  take(): void {
    throw new Error('it must be asked for')
  }

  /** All or nothing. */
  async ask(demands: readonly Demand[]): Promise<readonly Asked[]> {
    const keys = demands.map(({ quota }) => quota.key)
    const numbers = demands.flatMap(({ quota, units }) => [...bucketOf(quota), units])
    const reply = await this.#link.call((client) => takeAll.run(client, keys, numbers, keys.length + 1))
    if ('problem' in reply) return demands.map((demand) => ({ demand, isTaken: false, waitMs: undefined }))
    const [isAllowed, ...found] = reply.value
    const now = this.#clock.now()
    return demands.map((demand, i) => {
      const waitMs = isAllowed === 1 ? 0 : found[i]!
      const { quota, units } = demand
      if (isAllowed === 1) note(quota, found[i]!, now)
      else if (waitMs > 0) note(quota, units - waitMs / quota.rule.bucket.msPerUnit, now)
      return { demand, isTaken: isAllowed === 1, waitMs }
    })
  }

  give(quota: Quota, units: number): void {
    giveBack(this.#link, quota, units)
    note(quota, quota.left + units, quota.leftAt)
  }

  left(quota: Quota, now: number): number {
    return leftOf(quota, quota, now)
  }
}
