/** Limits and what they need, for tests: a clock that stands still, callers, and settings with their defaults. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Caller } from '../../src/core/caller.ts'
import { systemClock, type Clock } from '../../src/core/clock.ts'
import type { Priority } from '../../src/core/priority.ts'
import { isRefusal, type Refusal } from '../../src/core/refusal.ts'
import { Limits } from '../../src/limits/limits.ts'
import { limitsOptions } from '../../src/limits/options.ts'
import type { Permit } from '../../src/limits/permit.ts'
import { redisOptions } from '../../src/redis/options.ts'
import { Redis } from '../../src/redis/redis.ts'
import { LimitCounts } from '../../src/telemetry/limit-counts.ts'
import { until } from './client.ts'
import type { RedisServer } from './redis.ts'

/** Moves when it is told to. */
export class StillClock implements Clock {
  #now = 1_000
  #timers: { readonly at: number; readonly callback: () => void }[] = []
  now = () => this.#now
  epoch = () => this.#now
  idle = () => 0
  soon = (callback: () => void) => void this.after(0, callback)
  after = (ms: number, callback: () => void) => {
    const timer = { at: this.#now + ms, callback }
    this.#timers.push(timer)
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer))
  }

  get timers(): number {
    return this.#timers.length
  }

  /** Lets time pass, from one timer to the next. */
  pass(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const at = Math.min(...this.#timers.map((timer) => timer.at))
      if (at > end) break
      this.#now = Math.max(this.#now, at)
      this.stall(0)
    }
    this.#now = end
  }

  /** Lets time pass in which nothing runs: timers that are due fire late. */
  stall(ms: number): void {
    this.#now += ms
    const due = this.#timers.filter(({ at }) => at <= this.#now)
    this.#timers = this.#timers.filter(({ at }) => at > this.#now)
    for (const { callback } of due) callback()
  }
}

export function callerOf(name: string, tenant = ''): Caller {
  return { name, method: 'jwt', tenant, subject: name, scopes: [], claims: {}, spiffe: undefined, profile: undefined }
}

/** Somebody who asks for something; always the same caller object for a name. */
export function askerOf(name: string, tenant = '') {
  const caller = callerOf(name, tenant)
  return (priority: Priority = 'standard', model = 'digits') => ({ caller, route: model, model, priority })
}

/** Of one rule or several, with a name if they have none. */
export function limitsWith(
  rules: readonly object[],
  tools: Partial<ConstructorParameters<typeof Limits>[1]> = {},
  others: object = {},
) {
  const named = rules.map((rule, i) => ({ name: `limit-${i}`, by: [], ...rule }))
  const counts = new LimitCounts()
  const clock = tools.clock ?? new StillClock()
  return { limits: new Limits(limitsOptions.parse({ rules: named, ...others }), { clock, counts, ...tools }), counts }
}

/** A connection, once it is there. */
export async function connect(t: TestContext, { url }: Pick<RedisServer, 'url'>, options: object = {}): Promise<Redis> {
  const tools = { clock: systemClock, onChange: () => {} }
  const redis = await Redis.open(redisOptions.parse({ url, budgetMs: 1_000, ...options }), tools)
  assert.ok(redis instanceof Redis)
  t.after(() => redis.close())
  await until('it is connected', () => Promise.resolve(redis.isUp))
  return redis
}

/** One gateway's limits on a connection of its own, closed with the test. */
export async function gatewayOn(t: TestContext, server: RedisServer, rule: object, options: object = {}) {
  const redis = await connect(t, server, options)
  const made = limitsWith([{ rate: 1, store: 'redis', ...rule }], { clock: systemClock, redis })
  t.after(() => made.limits.close())
  return { ...made, redis }
}

export function permitOf(outcome: Permit | Refusal | undefined | Promise<unknown>): Permit {
  assert.ok(outcome && !(outcome instanceof Promise) && !isRefusal(outcome), `refused: ${JSON.stringify(outcome)}`)
  return outcome
}

export function refusalOf(outcome: unknown): Refusal {
  assert.ok(isRefusal(outcome), 'it was let in')
  return outcome
}

/** Something that was let in: when, in milliseconds, and how many units it took. */
export interface Spent {
  readonly at: number
  readonly units: number
}

/** The burst that a bucket must have had: the most units, in any time, beyond what comes back in that time. */
export function burstOf(spent: readonly Spent[], unitsPerMs: number): number {
  let [before, least, most] = [0, Infinity, 0]
  for (const { at, units } of spent) {
    least = Math.min(least, before - unitsPerMs * at)
    before += units
    most = Math.max(most, before - unitsPerMs * at - least)
  }
  return most
}
