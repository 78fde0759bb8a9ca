/** The machines that are simulated, and what can be said about them without simulating: how much they can do on time. */

export interface Setup {
  readonly name: string
  /** A batch of b rows takes `baseMs + rowMs * b` on average. */
  readonly baseMs: number
  readonly rowMs: number
  /** Spread of that time: the standard deviation of its logarithm. */
  readonly sigma: number
  readonly maxRows: number
  readonly deadlineMs: number
  readonly executors: number
  /** Queues that never share a batch: models. */
  readonly lanes: number
}

const tiny: Setup = {
  name: 'tiny',
  baseMs: 0.12,
  rowMs: 0.03,
  sigma: 0.2,
  maxRows: 64,
  deadlineMs: 10,
  executors: 1,
  lanes: 1,
}

/** ResNet-50 on a GTX 1080 Ti, as profiled for Nexus and Symphony. */
const gpu50: Setup = {
  name: 'gpu50',
  baseMs: 5.072,
  rowMs: 1.053,
  sigma: 0.03,
  maxRows: 32,
  deadlineMs: 50,
  executors: 1,
  lanes: 1,
}

const gpu25: Setup = { ...gpu50, name: 'gpu25', deadlineMs: 25 }
const gpu25x4: Setup = { ...gpu25, name: 'gpu25x4', executors: 4 }

const lanes8: Setup = {
  name: 'lanes8',
  baseMs: 1,
  rowMs: 0.2,
  sigma: 0.1,
  maxRows: 32,
  deadlineMs: 50,
  executors: 1,
  lanes: 8,
}

export const setups: readonly Setup[] = [tiny, gpu50, gpu25, gpu25x4, lanes8]

export function batchMs({ baseMs, rowMs }: Setup, rows: number): number {
  return baseMs + rowMs * rows
}

/**
 * The most requests per ms that can all be on time when arrivals are even: at worst a request waits until every lane has
 * had its turn, and with several executors one comes free every l/N; then it runs. So l(b) * (1 + M/N) has to fit.
 */
export function limitPerMs(setup: Setup): number {
  const { maxRows, deadlineMs, executors, lanes } = setup
  let rows = maxRows
  while (rows > 1 && batchMs(setup, rows) * (1 + lanes / executors) > deadlineMs) rows--
  return (executors * rows) / batchMs(setup, rows)
}

/**
 * The same when more arrives than that and the rest is dropped. The best batch then is of the newest b requests of a lane,
 * which came over b * M/r, and so l(b) + b * M/r has to fit.
 */
export function overloadPerMs(setup: Setup, offeredPerMs: number): number {
  const { baseMs, rowMs, maxRows, deadlineMs, executors, lanes } = setup
  const rows = Math.min(maxRows, (deadlineMs - baseMs) / (rowMs + lanes / offeredPerMs))
  return Math.min(offeredPerMs, (executors * rows) / batchMs(setup, rows))
}
