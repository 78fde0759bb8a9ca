/**
 * Counts in Redis, but ahead: a gateway draws units of a bucket and spends them on its own. A unit is spent only after it
 * was drawn, so all gateways together spend no more than the bucket gives and what each of them holds.
 */
import type { Clock } from '../../core/clock.ts'
import type { Asked, Demand, Quota, RemoteStore } from '../quota.ts'
import { Lease } from './lease.ts'
import { bucketOf, giveBack, leftOf, note, type RedisLink } from './link.ts'
import { draw } from './scripts.ts'

const sweepMs = 500
/** Leases that one sweep looks at: a pause for nobody. */
const sweepMost = 10_000

interface Held {
  readonly quota: Quota
  readonly lease: Lease
}

export class LeaseStore implements RemoteStore {
  readonly #link: RedisLink
  readonly #clock: Clock
  readonly #max: number
  /** By key; that which was drawn or looked at longest ago first. */
  readonly #held = new Map<string, Held>()
  #cancelSweep: (() => void) | undefined
  #isClosed = false

  constructor(link: RedisLink, clock: Clock, max: number) {
    this.#link = link
    this.#clock = clock
    this.#max = max
  }

  /** Leases that are held. */
  get size(): number {
    return this.#held.size
  }

  waitMs(quota: Quota, units: number, now: number): number | undefined {
    const lease = this.#leaseOf(quota, now)
    if (lease.units >= units) return 0
    const pauseMs = lease.pauseMs(units, now)
    return pauseMs > 0 ? pauseMs : undefined
  }

  take(quota: Quota, units: number, now: number): void {
    const lease = this.#leaseOf(quota, now)
    lease.take(units, now)
    if (lease.isLow(now) && this.#link.isUp) void this.#draw(quota, lease, 1)
  }

  give(quota: Quota, units: number): void {
    const lease = this.#leaseOf(quota, this.#clock.now())
    lease.units += units
    this.#trim(quota, lease)
  }

  left(quota: Quota, now: number): number {
    const lease = this.#leaseOf(quota, now)
    return Math.min(quota.rule.bucket.burst, leftOf(quota, lease, now) + Math.max(0, lease.units))
  }

  /** Each by itself: in what the others find there is no telling beforehand. */
  ask(demands: readonly Demand[]): Promise<readonly Asked[]> {
    return Promise.all(
      demands.map(async (demand) => {
        const waitMs = await this.#acquire(demand.quota, demand.units)
        return { demand, isTaken: waitMs === 0, waitMs }
      }),
    )
  }

  /** Gives everything back. */
  close(): void {
    this.#isClosed = true
    this.#cancelSweep?.()
    for (const held of this.#held.values()) this.#end(held)
  }

  /** Waits for a draw, or for the next one if that was under way already. */
  async #acquire(quota: Quota, units: number): Promise<number | undefined> {
    const lease = this.#leaseOf(quota, this.#clock.now())
    const inTime = timeLimit(this.#clock, this.#link.budgetMs)
    lease.awaited += units
    try {
      for (let tries = 0; tries < 2; tries++) {
        if (!(await inTime.of(lease.draw ?? this.#draw(quota, lease, units - lease.units)))) return undefined
        const now = this.#clock.now()
        if (lease.units >= units) {
          lease.take(units, now)
          return 0
        }
        const pauseMs = lease.pauseMs(units, now)
        if (pauseMs > 0) return pauseMs
      }
      return units * quota.rule.bucket.msPerUnit
    } finally {
      inTime.end()
      lease.awaited -= units
      this.#trim(quota, lease)
    }
  }

  /** False if Redis could not be asked. */
  #draw(quota: Quota, lease: Lease, least: number): Promise<boolean> {
    const wanted = lease.wanted(this.#clock.now())
    const drawing = async () => {
      const numbers = [...bucketOf(quota), wanted, least]
      const reply = await this.#link.call((client) => draw.run(client, [quota.key], numbers, 3))
      lease.draw = undefined
      if ('problem' in reply) return false
      const [drawn, waitMs, left] = reply.value as [number, number, number]
      const now = this.#clock.now()
      note(lease, left, now)
      lease.drew(drawn, { wanted, least, waitMs }, now)
      this.#trim(quota, lease)
      return true
    }
    return (lease.draw = drawing())
  }

  #trim(quota: Quota, lease: Lease): void {
    const { surplus } = lease
    lease.units -= surplus
    giveBack(this.#link, quota, surplus)
  }

  #leaseOf(quota: Quota, now: number): Lease {
    if (quota.lease && !quota.lease.isOver) return quota.lease
    const held = this.#held.get(quota.key) ?? this.#open(quota, now)
    return (quota.lease = held.lease)
  }

  #open(quota: Quota, now: number): Held {
    const held = { quota, lease: new Lease(quota.rule.lease, quota.rule.bucket.burst, now) }
    this.#held.set(quota.key, held)
    if (this.#held.size > this.#max) this.#end(this.#held.values().next().value!)
    if (!this.#isClosed) this.#cancelSweep ??= this.#clock.after(sweepMs, () => this.#sweep())
    return held
  }

  #end(held: Held): void {
    held.lease.isOver = true
    this.#held.delete(held.quota.key)
    this.#trim(held.quota, held.lease)
  }

  #sweep(): void {
    const now = this.#clock.now()
    for (const held of this.#held.values().take(Math.min(sweepMost, this.#held.size))) {
      if (held.lease.isIdle(now)) this.#end(held)
      else {
        this.#held.delete(held.quota.key)
        this.#held.set(held.quota.key, held)
      }
    }
    this.#cancelSweep = this.#held.size > 0 ? this.#clock.after(sweepMs, () => this.#sweep()) : undefined
  }
}

/** Waits for several things in turn, but no longer than so many milliseconds in all. */
function timeLimit(clock: Clock, ms: number) {
  const { promise, resolve } = Promise.withResolvers<false>()
  const cancel = clock.after(ms, () => resolve(false))
  return { of: (awaited: Promise<boolean>) => Promise.race([awaited, promise]), end: cancel }
}
