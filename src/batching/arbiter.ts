/**
 * The arbiter brings lanes and executors together. It decides at most once in a turn of the event loop, after all that
 * the turn received is queued, so that requests which arrive together run together.
 */
import type { Clock } from '../core/clock.ts'
import type { Executor, Lane, Offer } from './lane.ts'

export class Arbiter {
  readonly #clock: Clock
  readonly #executors: readonly Executor[]
  /** Lanes with something to run. */
  readonly #lanes = new Set<Lane>()
  #decisionDue = false
  #cancelTimer: (() => void) | undefined

  constructor(executors: readonly Executor[], clock: Clock) {
    this.#executors = executors
    this.#clock = clock
  }

  /** Something changed: a lane has work, or an executor is free. */
  poke(lane?: Lane): void {
    if (lane) this.#lanes.add(lane)
    if (this.#decisionDue) return
    this.#decisionDue = true
    this.#clock.soon(() => {
      this.#decisionDue = false
      this.#decide()
    })
  }

  #decide(): void {
    this.#cancelTimer?.()
    let until = Infinity
    for (const executor of this.#executors) {
      while (executor.free) {
        const [lane, offer] = this.#best(executor)
        if (!lane || offer.kind === 'wait') {
          if (offer.kind === 'wait') until = Math.min(until, offer.until)
          break
        }
        void lane.dispatch(offer.take(), executor)
        if (lane.empty) this.#lanes.delete(lane)
      }
    }
    const wait = until - this.#clock.now()
    this.#cancelTimer = until === Infinity ? undefined : this.#clock.after(Math.max(0, wait), () => this.poke())
  }

  /** The lane with the worthiest offer; if none would run, the soonest time to ask again. */
  #best(executor: Executor): [lane: Lane | undefined, offer: Offer] {
    const now = this.#clock.now()
    const freeAt = executor.idle ? now : Infinity
    let lane: Lane | undefined
    let best: Offer = { kind: 'wait', until: Infinity }
    for (const each of this.#lanes) {
      const offer = each.offer(now, freeAt)
      if (offer.kind === 'wait') {
        if (best.kind === 'wait' && offer.until < best.until) best = offer
      } else if (best.kind === 'wait' || offer.worth > best.worth) {
        best = offer
        lane = each
      }
    }
    return [lane, best]
  }
}
