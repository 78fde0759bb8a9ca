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
    const reply = await this.#link.call(async (client) => {
      const answer = await takeAll.run(client, keys, numbers)
      if (answer.length !== 2 * keys.length) throw new TypeError('an answer of another length')
      return answer
    })
    if ('problem' in reply) return demands.map((demand) => ({ demand, isTaken: false, waitMs: undefined }))
    const now = this.#clock.now()
    const isTaken = demands.every((_, i) => reply.value[2 * i] === 0)
    return demands.map((demand, i) => {
      const { quota } = demand
      const left = reply.value[2 * i + 1]!
      note(quota, left, now)
      quota.emptyUntil = now + (1 - left) * quota.rule.bucket.msPerUnit
      return { demand, isTaken, waitMs: reply.value[2 * i] }
    })
  }

  give(quota: Quota, units: number): void {
    giveBack(this.#link, quota, units)
    quota.emptyUntil = -Infinity
  }

  left(quota: Quota, now: number): number {
    return leftOf(quota, now)
  }
}
