/** Units of a shared bucket that this gateway has drawn and may spend. Pure: what to draw, and when. */
import type { LeaseTerms } from '../quota.ts'

/** So long must a gateway that found nothing wait until it asks again, as a part of `ms`: all ask for what has come together. */
const pause = 0.1
/** Without use for so many times `ms` a lease is given back. */
const idleTimes = 5

export class Lease {
  readonly #terms: LeaseTerms
  units = 0
  /** What those need who wait for a draw. */
  awaited = 0
  /** The one that is under way. */
  draw: Promise<boolean> | undefined
  /** It was given back, and must be looked up again. */
  isOver = false
  #usedAt = 0
  /** How many to hold: it follows how fast they go. */
  #size = 1
  #drawnAt = -Infinity
  #emptyUntil = -Infinity
  /** What could not be had. */
  #missed = 0

  /** What Redis said is left beside what is held here, and when. */
  left: number
  leftAt: number

  /** `burst` is what is left as long as nothing is known. */
  constructor(terms: LeaseTerms, burst: number, now: number) {
    this.#terms = terms
    this.left = burst
    this.leftAt = now
    this.#usedAt = now
  }

  /** Milliseconds until it is of use to ask for so many; 0 if it is now. */
  pauseMs(units: number, now: number): number {
    return units - this.units >= this.#missed ? Math.max(0, this.#emptyUntil - now) : 0
  }

  take(units: number, now: number): void {
    this.units -= units
    this.#usedAt = now
  }

  /** Whether it is time to draw ahead. */
  isLow(now: number): boolean {
    return this.units < this.#size / 2 && this.units <= this.#size - 1 && !this.draw && now >= this.#emptyUntil
  }

  /** How many to draw now. */
  wanted(now: number): number {
    const sinceMs = now - this.#drawnAt
    this.#drawnAt = now
    if (sinceMs < this.#terms.ms / 2) this.#size = Math.min(this.#terms.most, 2 * this.#size)
    else if (sinceMs > 2 * this.#terms.ms) this.#size = Math.max(1, this.#size / 2)
    return Math.max(Math.floor(this.#size - this.units), Math.ceil(this.awaited - this.units))
  }

  /** Of so many that were wanted, so many were drawn; the least of use can be drawn again after `waitMs`. */
  drew(units: number, { wanted, least, waitMs }: Asked, now: number): void {
    this.units += units
    if (units >= wanted) return
    this.#emptyUntil = now + Math.max(waitMs, pause * this.#terms.ms)
    this.#missed = units > 0 ? 0 : least
  }

  /** What goes back: what is above the most that one may hold, or everything in the end. */
  get surplus(): number {
    if (this.awaited > 0) return 0
    return this.isOver ? this.units : Math.max(0, this.units - this.#terms.most)
  }

  isIdle(now: number): boolean {
    return !this.draw && this.awaited === 0 && now - this.#usedAt > idleTimes * this.#terms.ms
  }
}

interface Asked {
  readonly wanted: number
  readonly least: number
  readonly waitMs: number
}
