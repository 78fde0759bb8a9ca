/** Counts in this process alone. */
import type { Clock } from '../../core/clock.ts'
import { fullAfter, unitsLeft, waitMs } from '../../core/gcra.ts'
import type { Quota, Store } from '../quota.ts'
import type { BucketTable } from '../table.ts'

export class LocalStore implements Store {
  readonly #table: BucketTable
  readonly #clock: Clock

  constructor(table: BucketTable, clock: Clock) {
    this.#table = table
    this.#clock = clock
  }

  waitMs({ rule: { bucket }, low, high }: Quota, units: number, now: number): number {
    return waitMs(bucket, this.#table.fullAt(low, high), now, units)
  }

  take({ rule: { bucket }, low, high }: Quota, units: number, now: number): void {
    this.#table.set(low, high, fullAfter(bucket, this.#table.fullAt(low, high), now, units), now)
  }

  give(quota: Quota, units: number): void {
    // What is below "now" is full: there is no more to put back.
    this.take(quota, -units, this.#clock.now())
  }

  left({ rule: { bucket }, low, high }: Quota, now: number): number {
    return unitsLeft(bucket, this.#table.fullAt(low, high), now)
  }
}
