/** The closed list of who may keep count. */
import type { Clock } from '../core/clock.ts'
import type { RateRule, RemoteStore, Store } from './quota.ts'
import { ExactStore } from './stores/exact.ts'
import { LeaseStore } from './stores/leases.ts'
import type { RedisLink } from './stores/link.ts'
import { LocalStore } from './stores/local.ts'
import { BucketTable } from './table.ts'

export class Stores {
  readonly table: BucketTable
  readonly local: Store
  readonly #remote: { readonly leases: LeaseStore; readonly exact: ExactStore } | undefined
  readonly #link: RedisLink | undefined

  constructor(maxKeys: number, clock: Clock, link: RedisLink | undefined) {
    this.table = new BucketTable(maxKeys)
    this.local = new LocalStore(this.table, clock)
    this.#link = link
    this.#remote = link && { leases: new LeaseStore(link, clock, maxKeys), exact: new ExactStore(link, clock) }
  }

  /** The one that a rule names. */
  of({ name, store }: RateRule): Store {
    if (store === 'local') return this.local
    if (!this.#remote) throw new Error(`the limit "${name}" is to be kept in Redis, and there is none`)
    return this.#remote[store]
  }

  /** Those that cannot always say at once. */
  get remote(): readonly RemoteStore[] {
    return this.#remote ? [this.#remote.leases, this.#remote.exact] : []
  }

  /** Whether these can be asked. */
  get isUp(): boolean {
    return this.#link?.isUp ?? false
  }

  get leases(): number {
    return this.#remote?.leases.size ?? 0
  }

  close(): void {
    this.#remote?.leases.close()
  }
}
