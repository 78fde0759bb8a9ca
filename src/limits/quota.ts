/** A limit as it holds for one combination of values, such as one tenant on one route. */
import type { Bucket } from '../core/gcra.ts'
import type { Dimension } from './options.ts'
import type { Lease } from './stores/lease.ts'

export type Cost = 'request' | 'row' | 'computeMs'
export type OnError = 'allow' | 'refuse' | 'local'

/** What may be asked for in a time. */
export interface RateRule {
  readonly name: string
  readonly by: readonly Dimension[]
  readonly cost: Cost
  readonly bucket: Bucket
  readonly store: 'local' | 'leases' | 'exact'
  readonly onError: OnError
  readonly lease: LeaseTerms
  /** For people: `100 requests per minute`. */
  readonly shown: string
  /** Its item of the RateLimit-Policy field. */
  readonly policy: string
}

export interface LeaseTerms {
  /** Most units that one gateway holds. */
  readonly most: number
  /** The time in which so many come back. */
  readonly ms: number
}

export interface Quota {
  readonly rule: RateRule
  /** Two words that tell it from all others in this process, and that nobody outside can foresee. */
  readonly low: number
  readonly high: number
  /** Its name in Redis; the same for every gateway. Empty if it is not kept there. */
  readonly key: string
  /** What is drawn ahead of it, if it was looked up before. */
  lease: Lease | undefined
  /** What Redis said of it last: units left, and when. */
  left: number
  leftAt: number
}

/** So many units of a quota, and who keeps count of them: nobody if that is undefined. */
export interface Demand {
  readonly quota: Quota
  readonly units: number
  readonly store: Store | undefined
}

/** Who keeps count. */
export interface Store {
  /** Milliseconds until so many units can be taken, 0 if they can be now; undefined if that must be asked. */
  waitMs(quota: Quota, units: number, now: number): number | undefined
  /** Takes units that are there, as `waitMs` has said. */
  take(quota: Quota, units: number, now: number): void
  /** Puts units back; below 0 it takes more, into debt. */
  give(quota: Quota, units: number): void
  /** Units that are left, as far as is known. */
  left(quota: Quota, now: number): number
}

/** One that cannot always say at once. */
export interface RemoteStore extends Store {
  /** Takes what is asked for. What was taken must be given back if something else stands in the way of the request. */
  ask(demands: readonly Demand[]): Promise<readonly Asked[]>
}

/** What became of a demand: `waitMs` is 0 if it does not stand in the way, undefined if nobody could be asked. */
export interface Asked {
  readonly demand: Demand
  readonly isTaken: boolean
  readonly waitMs: number | undefined
}
