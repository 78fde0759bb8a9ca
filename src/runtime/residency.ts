/**
 * Which deployments are loaded, when not all can be or need to be: one that nobody has asked for in a while leaves, and if
 * memory is short the one that was asked for longest ago goes first (least recently used). One at a time is loaded, so
 * that the others notice as little as possible.
 */
import type { Clock } from '../core/clock.ts'
import type { Deployment } from './deployment.ts'

/** How often it is looked for idle deployments, and for room while one waits. */
const idleTickMs = 500
const roomTickMs = 20
/** What was loaded stays for so many times its own load time, or there would be nothing but loading. */
const stay = 2

export class Residency {
  readonly #clock: Clock
  readonly #budget: number
  readonly #deployments = new Set<Deployment>()
  readonly #waiting = new Set<Deployment>()
  #isLoading = false
  #cancelTick: (() => void) | undefined
  #isClosed = false

  /** `budget` in bytes. */
  constructor(budget: number, clock: Clock) {
    this.#budget = budget
    this.#clock = clock
    this.#tick()
  }

  /** Memory that deployments take, as far as is known. */
  get bytes(): number {
    let sum = 0
    for (const { bytes } of this.#deployments) sum += bytes
    return sum
  }

  add(deployment: Deployment): void {
    this.#deployments.add(deployment)
  }

  /** It does not come back. */
  remove(deployment: Deployment): void {
    this.#deployments.delete(deployment)
    this.#waiting.delete(deployment)
  }

  /** For a first load: settles when there is room, or when nothing more can leave. */
  async makeRoom(bytes: number): Promise<void> {
    while (this.bytes + bytes > this.#budget) {
      const victim = this.#victim(Infinity)
      if (!victim) return
      await victim.unload()
    }
  }

  /** It is loaded when its turn has come and there is room. */
  want(deployment: Deployment): void {
    this.#waiting.add(deployment)
    void this.#loadNext()
  }

  close(): void {
    this.#isClosed = true
    this.#cancelTick?.()
  }

  async #loadNext(): Promise<void> {
    const [next] = this.#waiting
    if (!next || this.#isLoading || this.#isClosed) return
    this.#isLoading = true
    const hasRoom = await this.#roomFor(next)
    this.#waiting.delete(next)
    if (hasRoom) await next.load()
    else next.forgo()
    this.#isLoading = false
    void this.#loadNext()
  }

  /** Waits until there is room; false if nobody asks for it any more before there is. */
  async #roomFor(next: Deployment): Promise<boolean> {
    while (this.bytes + next.wantedBytes > this.#budget) {
      const victim = this.#victim(this.#clock.now())
      if (victim) await victim.unload()
      else {
        await new Promise<void>((resolve) => void this.#clock.after(roomTickMs, resolve))
        if (!next.isAsked()) return false
      }
      if (this.#isClosed) return false
    }
    return true
  }

  /** Who leaves first: whoever was asked for longest ago, and is not asked for now. */
  #victim(now: number): Deployment | undefined {
    let victim: Deployment | undefined
    for (const each of this.#deployments) {
      if (each.state !== 'loaded' || each.isBusy) continue
      if (now - each.loadedAt < stay * each.loadMs) continue
      if (!victim || each.usedAt < victim.usedAt) victim = each
    }
    return victim
  }

  #tick(): void {
    const now = this.#clock.now()
    for (const each of this.#deployments) {
      if (each.state !== 'loaded' || each.isBusy) continue
      if (now - Math.max(each.usedAt, each.loadedAt) >= each.options.unloadAfterMs) void each.unload()
    }
    // Processes may have grown.
    if (this.bytes > this.#budget) void this.#victim(now)?.unload()
    this.#cancelTick = this.#clock.after(idleTickMs, () => this.#tick())
  }
}
