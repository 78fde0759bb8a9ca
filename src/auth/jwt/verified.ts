/** Callers whose tokens are proved, by the hash of the token. Whatever can change since is looked at each time. */
import { LRUCache } from 'lru-cache'
import type { Caller } from '../../core/caller.ts'
import type { Clock } from '../../core/clock.ts'
import type { Accepted } from './claims.ts'
import type { Fault } from './faults.ts'
import type { Issuer } from './issuer.ts'
import type { Key } from './keys.ts'
import type { Revocations } from './revocations.ts'

export interface Proof {
  readonly accepted: Accepted
  readonly issuer: Issuer
  /** Undefined for what a proxy vouches for. */
  readonly key: Key | undefined
  /** When it expires by the monotonic clock, as far as the other clock was right when the token was looked at. */
  readonly until: number
}

interface Entry extends Proof {
  /** Why it is refused, if it has been revoked since. */
  readonly revocation: (() => Fault | undefined) | undefined
}

export class Verified {
  readonly #clock: Clock
  readonly #revocations: Revocations | undefined
  readonly #entries: LRUCache<string, Entry>

  constructor(max: number, clock: Clock, revocations: Revocations | undefined) {
    this.#clock = clock
    this.#revocations = revocations
    this.#entries = new LRUCache({ max })
  }

  /**
   * The caller, if that still holds, or why not. Undefined if there is no proof, or if its key is not in force. One that has
   * expired stays, so that a step back of the clock does not bring it to life.
   */
  find(hash: string): Caller | Fault | undefined {
    const entry = this.#entries.get(hash)
    if (!entry) return undefined
    const { accepted, issuer, key, until, revocation } = entry
    const epoch = this.#clock.epoch()
    if (epoch >= accepted.untilMs || this.#clock.now() >= until) return 'expired'
    if (epoch < accepted.fromMs) return 'early'
    if (key && !issuer.keys.current?.has(key)) return undefined
    return revocation?.() ?? accepted.caller
  }

  add(hash: string, proof: Proof): void {
    const { accepted, issuer, key, until } = proof
    this.#entries.set(hash, { accepted, issuer, key, until, revocation: this.#revocations?.watch(issuer, accepted) })
  }
}
