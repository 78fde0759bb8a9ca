/** What has been taken already, so that feedback which is sent again counts once. */
import { hash } from 'node:crypto'
import type { Clock } from '../../core/clock.ts'

export interface LedgerOptions {
  readonly clock: Clock
  /** For how long at least a key is remembered, in milliseconds: the longest time to join, and what clocks may differ. */
  readonly windowMs: number
  /** Keys that are remembered at most, at 16 to 32 bytes each. */
  readonly most: number
}

/**
 * Keys of the last `windowMs`, in two generations of flat memory: one is filled, the other is the one before it. When the
 * newer one is full or as old as the window, the older one is forgotten and its memory is used again. So a key is remembered
 * for `windowMs` at least, unless more than half of `most` come in that time: then the oldest are forgotten sooner, and
 * what is sent again after that counts twice. What is older than the window need not be remembered, because feedback for
 * it is refused by time. A key is kept as 64 bits of its SHA-256: with a million of them a new one is taken for a known
 * one once in 10^13 times. It lives as long as the process, and knows nothing of other gateways.
 */
export class Ledger {
  readonly #clock: Clock
  readonly #windowMs: number
  readonly #mostEach: number
  #newer: KeySet
  #older: KeySet
  #since: number
  #forgotten = 0

  constructor({ clock, windowMs, most }: LedgerOptions) {
    this.#clock = clock
    this.#windowMs = windowMs
    this.#mostEach = Math.max(1, Math.floor(most / 2))
    this.#newer = new KeySet(this.#mostEach)
    this.#older = new KeySet(this.#mostEach)
    this.#since = clock.now()
  }

  /** Keys that were forgotten because there was no room, not because it was time. */
  get forgotten(): number {
    return this.#forgotten
  }

  /** Memory of both generations. */
  get bytes(): number {
    return this.#newer.bytes + this.#older.bytes
  }

  /** Remembers the key; false if it was seen before. */
  take(key: string): boolean {
    this.#age()
    const digest = hash('sha256', key, 'buffer')
    const low = digest.readInt32LE(0)
    // Where both are 0 there is nothing.
    const high = digest.readInt32LE(4) || 1
    if (this.#newer.has(low, high) || this.#older.has(low, high)) return false
    if (this.#newer.size >= this.#mostEach) {
      this.#forgotten += this.#older.size
      this.#turn()
    }
    if (this.#newer.add(low, high)) this.#forgotten++
    return true
  }

  #age(): void {
    const age = this.#clock.now() - this.#since
    if (age >= this.#windowMs) this.#turn()
    if (age >= 2 * this.#windowMs) this.#turn()
  }

  #turn(): void {
    const spare = this.#older
    spare.clear()
    this.#older = this.#newer
    this.#newer = spare
    this.#since = this.#clock.now()
  }
}

/** Places for a key: with twice as many places as keys, few of them find all taken. */
const ways = 16

/** Fingerprints in sets of `ways` places, two words each, so that nobody can make a look long by choosing keys. */
class KeySet {
  readonly #marks: Int32Array
  readonly #lastSet: number
  size = 0
  /** Which place to use again when a set is full. */
  #next = 0

  constructor(most: number) {
    const sets = 2 ** Math.ceil(Math.log2(Math.max(1, (2 * most) / ways)))
    this.#lastSet = sets - 1
    this.#marks = new Int32Array(2 * ways * sets)
  }

  get bytes(): number {
    return this.#marks.byteLength
  }

  has(low: number, high: number): boolean {
    return this.#find(low, low, high) >= 0
  }

  /** True if another one had to go for it. */
  add(low: number, high: number): boolean {
    const free = this.#find(low, 0, 0)
    const isFull = free < 0
    const at = isFull ? this.#firstOf(low) + 2 * this.#next : free
    if (isFull) this.#next = (this.#next + 1) % ways
    else this.size++
    this.#marks[at] = low
    this.#marks[at + 1] = high
    return isFull
  }

  clear(): void {
    if (this.size > 0) this.#marks.fill(0)
    this.size = 0
  }

  /** Where in the set of `of` the two words are; below 0 if nowhere. */
  #find(of: number, low: number, high: number): number {
    const marks = this.#marks
    const first = this.#firstOf(of)
    for (let at = first; at < first + 2 * ways; at += 2) if (marks[at] === low && marks[at + 1] === high) return at
    return -1
  }

  #firstOf(low: number): number {
    return (low & this.#lastSet) * 2 * ways
  }
}
