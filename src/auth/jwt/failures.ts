/** Bad tokens must not buy time: each client may fail so often, and what was bad a moment ago is not looked at again. */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../core/clock.ts'
import { fullAfter, waitMs, type Bucket } from '../../core/gcra.ts'
import type { Fault } from './faults.ts'

const maxPeers = 10_000
const maxRecent = 1_000
const recentMs = 5_000

export class Failures {
  readonly #bucket: Bucket
  readonly #clock: Clock
  /** When the bucket of a client is full again. */
  readonly #peers = new LRUCache<string, number>({ max: maxPeers })
  readonly #recent = new LRUCache<string, { readonly fault: Fault; readonly until: number }>({ max: maxRecent })

  constructor(perMinute: number, clock: Clock) {
    this.#bucket = { msPerUnit: 60_000 / perMinute, burst: perMinute }
    this.#clock = clock
  }

  /** Milliseconds until a client may fail again; 0 if it may now. */
  waitMs(peer: string): number {
    const fullAt = this.#peers.get(peer)
    return fullAt === undefined ? 0 : waitMs(this.#bucket, fullAt, this.#clock.now(), 1)
  }

  charge(peer: string): void {
    const fullAt = this.#peers.get(peer) ?? 0
    this.#peers.set(peer, fullAfter(this.#bucket, fullAt, this.#clock.now(), 1))
  }

  /** What was wrong with a token a moment ago. */
  recent(id: string): Fault | undefined {
    const found = this.#recent.get(id)
    return found && this.#clock.now() < found.until ? found.fault : undefined
  }

  remember(id: string, fault: Fault): void {
    this.#recent.set(id, { fault, until: this.#clock.now() + recentMs })
  }
}
