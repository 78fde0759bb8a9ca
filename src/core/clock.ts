/**
 * The only place that reads the time. Everything that decides by time takes a Clock, so that a test can hold it still.
 */
export interface Clock {
  /** Milliseconds on a monotonic scale whose origin means nothing. */
  now(): number
  /** Milliseconds that this thread had nothing to do, since it began. */
  idle(): number
  /** Milliseconds since 1970, for people and logs only. */
  epoch(): number
  /** Calls back once after `ms` milliseconds; the returned function cancels it. */
  after(ms: number, callback: () => void): () => void
  /** Calls back once, after everything that the current event-loop turn has already received. */
  soon(callback: () => void): void
}

export const systemClock: Clock = {
  now: () => performance.now(),
  idle: () => performance.nodeTiming.idleTime,
  epoch: () => Date.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, Math.max(0, ms))
    return () => {
      clearTimeout(timer)
    }
  },
  soon(callback) {
    setImmediate(callback)
  },
}
