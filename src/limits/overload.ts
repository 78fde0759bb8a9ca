/**
 * Whether the event loop is so late that nobody would be served well, and who is refused then: those who can wait first.
 * Lanes refuse by what waits for workers; this is for when the gateway's own thread is what everything waits for.
 */
import * as z from 'zod'
import type { Clock } from '../core/clock.ts'
import type { Priority } from '../core/priority.ts'

const lagMs = z.int().min(1).max(60_000)

export const overloadOptions = z
  .strictObject({
    bulkMs: lagMs.default(250).describe('Lag of the event loop from which `bulk` and `shadow` are refused.'),
    standardMs: lagMs.default(500).describe('Lag from which `standard` is refused too.'),
    interactiveMs: lagMs.default(1_000).describe('Lag from which everything is refused.'),
  })
  .refine(({ bulkMs, standardMs, interactiveMs }) => bulkMs <= standardMs && standardMs <= interactiveMs, {
    error: 'expected bulkMs <= standardMs <= interactiveMs: who can wait is refused first',
  })

export type OverloadOptions = z.output<typeof overloadOptions>

/** Of a new observation; so a single stall of the greatest lag there can be refuses nobody but `bulk`. */
const weight = 0.2
/** Once a class is refused, the lag must fall to so much of its threshold until it is let in again. */
const recovery = 0.5

/** Decides from the lags it is told. */
export class Overload {
  readonly #thresholds: Readonly<Record<Priority, number>>
  readonly #sheds: Record<Priority, boolean> = { interactive: false, standard: false, bulk: false, shadow: false }
  #lagMs = 0

  constructor({ bulkMs, standardMs, interactiveMs }: OverloadOptions) {
    this.#thresholds = { interactive: interactiveMs, standard: standardMs, bulk: bulkMs, shadow: bulkMs }
  }

  /** How late the event loop was, in milliseconds. */
  observe(lateMs: number): void {
    // One night of a laptop's sleep counts for no more than an overload.
    const late = Math.min(Math.max(0, lateMs), 2 * this.#thresholds.interactive)
    this.#lagMs += weight * (late - this.#lagMs)
    for (const [priority, threshold] of Object.entries(this.#thresholds) as [Priority, number][]) {
      this.#sheds[priority] = this.#lagMs >= threshold * (this.#sheds[priority] ? recovery : 1)
    }
  }

  sheds(priority: Priority): boolean {
    return this.#sheds[priority]
  }
}

const everyMs = 20
/** Without requests nobody needs to know. */
const restsAfterMs = 1_000

/** Tells how late the event loop is, as long as somebody asks. */
export class LagMeter {
  readonly #clock: Clock
  readonly #observe: (lateMs: number) => void
  #cancel: (() => void) | undefined
  #usesLeft = 0

  constructor(clock: Clock, observe: (lateMs: number) => void) {
    this.#clock = clock
    this.#observe = observe
  }

  /** Somebody wants to know: measures for a while. */
  use(): void {
    this.#usesLeft = restsAfterMs / everyMs
    if (!this.#cancel) this.#tick()
  }

  close(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  #tick(): void {
    const dueAt = this.#clock.now() + everyMs
    this.#cancel = this.#clock.after(everyMs, () => {
      this.#cancel = undefined
      this.#observe(this.#clock.now() - dueAt)
      if (this.#usesLeft-- > 0) this.#tick()
    })
  }
}
