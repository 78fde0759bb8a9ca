/**
 * How much is read. When requests come faster than the event loop gets round, to refuse them does not help: a refusal costs
 * half of what a small request does. So connections that have just had their answer are then not read from for a while;
 * what their clients send waits in the kernel, where it costs nothing, and those that are read are answered in time.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import type { EdgeCounts } from '../../telemetry/edge-counts.ts'

/** Whatever the requests cost, so many are read in a turn. */
const leastInTurn = 16
/** How fast the cost of a request follows what turns say. */
const step = 0.2
/** With so much of the time to spare, connections are read again: in each turn a part of what it may hold. */
const refill = { idleShare: 0.1, part: 0.1 }
/** How often to look when nothing comes, and how long a connection may be left alone. */
const lookMs = 20
const longestMs = 1_000

interface Handle {
  readStop(): void
  readStart(): void
}

export class Intake {
  readonly #maxTurnMs: number
  readonly #clock: Clock
  /** Connections that are not read from, and since when; the longest first. */
  readonly #parked = new Map<Socket, number>()
  #begun = 0
  #turnEnd: number
  #idleMs: number
  /** How long a turn of the event loop takes of late: so long a request may have waited before it was read. */
  turnMs = 0
  #requestMs = 0
  #idleShare = 1
  /** How many connections are still to be parked. */
  #surplus = 0
  #isWatching = false
  #isClosed = false

  /** `maxTurnMs` is how long the requests of one turn of the event loop may take. */
  constructor(maxTurnMs: number, clock: Clock, counts: EdgeCounts) {
    this.#maxTurnMs = maxTurnMs
    this.#clock = clock
    counts.parked = () => this.#parked.size
    this.#turnEnd = clock.now()
    this.#idleMs = clock.idle()
  }

  /** A request was read. */
  begun(): void {
    if (this.#begun++ > 0) return
    this.#clock.soon(() => this.#endTurn())
  }

  /** A connection has nothing in flight any more, and may be left alone for a while. */
  answered(socket: Socket): void {
    if (this.#isClosed || this.#surplus <= 0) return
    const handle = handleOf(socket)
    if (!handle || socket.destroyed) return
    this.#surplus--
    handle.readStop()
    this.#parked.set(socket, this.#clock.now())
    this.#watch()
  }

  /** A connection is closed. */
  closed(socket: Socket): void {
    this.#parked.delete(socket)
  }

  /** Reads from all again, and parks no more. */
  close(): void {
    this.#isClosed = true
    this.#unpark(Infinity)
  }

  #endTurn(): void {
    const count = this.#begun
    const now = this.#clock.now()
    const idleMs = this.#clock.idle()
    // From the end of one turn to that of the next, but for what was spent waiting: answers are a part of the cost.
    const turnMs = now - this.#turnEnd
    const busyMs = Math.max(0, turnMs - (idleMs - this.#idleMs))
    this.#turnEnd = now
    this.#idleMs = idleMs
    this.#begun = 0
    // A turn that was longer by far was something else, such as the loading of models, and will not come again.
    this.turnMs += step * (Math.min(busyMs, this.#maxTurnMs) - this.turnMs)
    this.#requestMs += step * (busyMs / count - this.#requestMs)
    this.#idleShare += step * (1 - busyMs / turnMs - this.#idleShare)
    const allowed = Math.max(leastInTurn, this.#maxTurnMs / this.#requestMs)
    this.#surplus = Math.max(0, Math.ceil(count - allowed))
    if (this.#idleShare > refill.idleShare) this.#unpark(refill.part * allowed)
    else this.#unparkOld(now)
  }

  #unpark(count: number): void {
    for (const socket of this.#parked.keys()) {
      if (count-- <= 0) break
      this.#read(socket)
    }
  }

  #unparkOld(now: number): void {
    for (const [socket, since] of this.#parked) {
      if (now - since < longestMs) break
      this.#read(socket)
    }
  }

  #read(socket: Socket): void {
    this.#parked.delete(socket)
    if (!socket.destroyed) handleOf(socket)?.readStart()
  }

  /** When none of those that are read sends anything, nothing else would bring the others back. */
  #watch(): void {
    if (this.#isWatching) return
    this.#isWatching = true
    this.#clock.after(lookMs, () => {
      this.#isWatching = false
      if (this.#begun === 0) this.#unpark(leastInTurn)
      this.#unparkOld(this.#clock.now())
      if (this.#parked.size > 0) this.#watch()
    })
  }
}

/**
 * What reads for a socket. `pause` would not do: Node's parser takes the bytes before the stream sees them. The handle is
 * Node's own affair, so where it is another one day, nothing is parked.
 */
function handleOf(socket: Socket): Handle | undefined {
  const { _handle: handle } = socket as unknown as { readonly _handle?: Partial<Handle> | null }
  return handle?.readStop && handle.readStart ? (handle as Handle) : undefined
}
