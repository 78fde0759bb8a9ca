/**
 * The arbiter brings lanes and executors together. It decides at most once in a turn of the event loop, after all that
 * the turn received is queued, so that requests which arrive together run together.
 */
import type { Clock } from '../core/clock.ts'
import type { Executor, Lane, RunOffer } from './lane.ts'

export class Arbiter {
  readonly #clock: Clock
  readonly #executors: readonly Executor[]
  /** Lanes with something to run. */
  readonly #lanes = new Set<Lane>()
  #decisionDue = false
  #askAgainAt = Infinity
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

  /** Forgets when to ask again, so that nothing keeps the process alive. */
  close(): void {
    this.#cancelTimer?.()
  }

  #decide(): void {
    this.#cancelTimer?.()
    this.#askAgainAt = Infinity
    // Every idle executor gets a batch before any gets one to stage behind what it runs.
    for (const executor of this.#executors) if (executor.idle) this.#feed(executor)
    for (const executor of this.#executors) while (this.#feed(executor));
    if (this.#askAgainAt === Infinity) return
    this.#cancelTimer = this.#clock.after(Math.max(0, this.#askAgainAt - this.#clock.now()), () => this.poke())
  }

  /** Gives an executor the worthiest batch there is; says whether there was one. */
  #feed(executor: Executor): boolean {
    if (!executor.free) return false
    const now = this.#clock.now()
    const freeAt = executor.idle ? now : Infinity
    let best: { lane: Lane; offer: RunOffer } | undefined
    for (const lane of this.#lanes) {
      const offer = lane.offer(now, freeAt)
      if (offer.kind === 'wait') this.#askAgainAt = Math.min(this.#askAgainAt, offer.until)
      else if (!best || offer.worth > best.offer.worth) best = { lane, offer }
    }
    if (!best) return false
    void best.lane.dispatch(best.offer.take(), executor)
    if (best.lane.empty) this.#lanes.delete(best.lane)
    return true
  }
}
