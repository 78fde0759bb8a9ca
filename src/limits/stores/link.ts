/** What the limits need of a connection to Redis. */
import type { Redis } from 'ioredis'
import type { Quota } from '../quota.ts'
import { give } from './scripts.ts'

export interface RedisLink {
  /** Before every key, so that others may use the same Redis. */
  readonly prefix: string
  /** Longest time to wait for an answer, in milliseconds. */
  readonly budgetMs: number
  /** False while asking is of no use. */
  readonly isUp: boolean
  /** Asks, and answers within the budget, whatever Redis does. */
  call<T>(command: (client: Redis) => Promise<T>): Promise<{ readonly value: T } | { readonly problem: string }>
}

/** The bucket of a quota for a script: milliseconds for a unit, burst, deepest debt in milliseconds. */
export function bucketOf({ rule: { bucket, cost } }: Quota): [msPerUnit: number, burst: number, debtMs: number] {
  const { msPerUnit, burst } = bucket
  // Only what is settled afterwards can come to more than there was.
  return [msPerUnit, burst, cost === 'computeMs' ? burst * msPerUnit : 0]
}

/** Puts units back, or takes more if they are below 0. If that fails, they come back by and by. */
export function giveBack(link: RedisLink, quota: Quota, units: number): void {
  if (units !== 0 && link.isUp)
    void link.call((client) => give.run(client, [quota.key], [...bucketOf(quota), units], 0))
}

/** What Redis said is left of a bucket, and when. */
interface Noted {
  left: number
  leftAt: number
}

/** Remembers what Redis said is left. */
export function note(noted: Noted, left: number, now: number): void {
  noted.left = left
  noted.leftAt = now
}

/** What is left by now of what Redis said, if nobody else took of it. */
export function leftOf({ rule: { bucket } }: Quota, { left, leftAt }: Noted, now: number): number {
  return Math.min(bucket.burst, left + (now - leftAt) / bucket.msPerUnit)
}
