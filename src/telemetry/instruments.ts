/**
 * The instruments: what is counted, by model version. Recording touches plain numbers only; Prometheus text is made when
 * somebody scrapes, because its client costs about a microsecond for each observation.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry, type Metric } from 'prom-client'
import type { Clock } from '../core/clock.ts'
import { EdgeCounts, registerEdge } from './edge-counts.ts'
import { Histogram, latencyBoundsMs, rowBounds } from './histogram.ts'
import type { Journal, JournalListener, Outcome } from './journal.ts'

/** The phases of a request: in the lane's queue, in the run, and from arrival to the last byte. */
const allPhases = ['queue', 'compute', 'total'] as const
export type Phase = (typeof allPhases)[number]

/** What is counted of requests: those of one version that came by one route. */
export class RequestCounts {
  readonly outcomes = new Map<Outcome, number>()
  readonly phases: Readonly<Record<Phase, Histogram>> = {
    queue: new Histogram(latencyBoundsMs),
    compute: new Histogram(latencyBoundsMs),
    total: new Histogram(latencyBoundsMs),
  }
  /** Time spent on requests that were not answered, milliseconds. */
  failedMs = 0

  add({ outcomes, phases, failedMs }: RequestCounts): void {
    for (const [outcome, count] of outcomes) this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + count)
    for (const phase of allPhases) this.phases[phase].add(phases[phase])
    this.failedMs += failedMs
  }
}

export class VersionCounts {
  readonly model: string
  readonly version: string
  readonly byRoute = new Map<string, RequestCounts>()
  readonly batchRows = new Histogram(rowBounds)
  /** Runs and their compute time by number of rows. */
  readonly batches = new Map<number, { runs: number; computeMs: number }>()
  rows = 0
  lastInferenceEpochMs = 0

  constructor(model: string, version: string) {
    this.model = model
    this.version = version
  }

  by(route: string): RequestCounts {
    const known = this.byRoute.get(route)
    if (known) return known
    const counts = new RequestCounts()
    this.byRoute.set(route, counts)
    return counts
  }

  /** Over all routes. */
  get requests(): RequestCounts {
    const sum = new RequestCounts()
    for (const counts of this.byRoute.values()) sum.add(counts)
    return sum
  }
}

/** What the metrics need to know of the rest of the gateway at a scrape. */
export interface Gauges {
  readonly queues: () => Iterable<{ model: string; version: string; rows: number }>
  readonly executors: () => Iterable<{ alive: boolean; deaths: number }>
}

/** Sizes of batches that are told apart. Clients choose their rows; beyond this many, powers of two stand for them. */
const mostSizes = 512

export class Instruments {
  readonly edge = new EdgeCounts()
  readonly #clock: Clock
  readonly #counts: VersionCounts[] = []
  readonly #byModel = new Map<string, Map<string, VersionCounts>>()
  readonly #registry = new Registry()

  constructor(clock: Clock, gauges: Gauges) {
    this.#clock = clock
    this.#register(gauges)
  }

  readonly listener: JournalListener = {
    settled: (journal) => this.#settled(journal),
    closed: (journal) => this.#closed(journal),
  }

  of(model: string, version: string): VersionCounts {
    // Asked twice in the life of each request: two look-ups are cheaper than to put a key together.
    const known = this.#byModel.get(model)?.get(version)
    if (known) return known
    const counts = new VersionCounts(model, version)
    this.#byModel.set(model, (this.#byModel.get(model) ?? new Map<string, VersionCounts>()).set(version, counts))
    this.#counts.push(counts)
    return counts
  }

  /** A run that ended well. */
  ran(counts: VersionCounts, rows: number, computeMs: number): void {
    counts.batchRows.record(rows)
    counts.rows += rows
    counts.lastInferenceEpochMs = this.#clock.epoch()
    const size = counts.batches.size < mostSizes || counts.batches.has(rows) ? rows : 2 ** Math.ceil(Math.log2(rows))
    const batch = counts.batches.get(size)
    if (!batch) counts.batches.set(size, { runs: 1, computeMs })
    else {
      batch.runs++
      batch.computeMs += computeMs
    }
  }

  /** Name and meaning of every metric of Penstock's own. */
  get described(): { readonly name: string; readonly help: string }[] {
    const own = this.#registry.getMetricsAsArray().filter(({ name }) => name.startsWith('penstock_'))
    return own.map(({ name, help }) => ({ name, help }))
  }

  metrics(): Promise<string> {
    return this.#registry.metrics()
  }

  #settled({ route, model, version, outcome, batchRows, queueMs, computeMs }: Journal): void {
    const counts = this.of(model, version).by(route)
    counts.outcomes.set(outcome!, (counts.outcomes.get(outcome!) ?? 0) + 1)
    if (batchRows === 0) return
    counts.phases.queue.record(queueMs)
    counts.phases.compute.record(computeMs)
  }

  #closed({ route, model, version, outcome, totalMs }: Journal): void {
    const counts = this.of(model, version).by(route)
    counts.phases.total.record(totalMs)
    if (outcome !== 'ok') counts.failedMs += totalMs
  }

  #register({ queues, executors }: Gauges): void {
    const registers = [this.#registry]
    const counts = this.#counts
    collectDefaultMetrics({ register: this.#registry })
    new Counter({
      name: 'penstock_requests_total',
      help: 'Inference requests by outcome: ok, or the code of the refusal.',
      labelNames: ['route', 'model', 'version', 'code'],
      registers,
      collect() {
        this.reset()
        for (const { model, version, byRoute } of counts) {
          for (const [route, { outcomes }] of byRoute) {
            for (const [code, count] of outcomes) this.inc({ route, model, version, code }, count)
          }
        }
      },
    })
    new Gauge({
      name: 'penstock_queue_rows',
      help: 'Rows that wait for a run.',
      labelNames: ['model', 'version'],
      registers,
      collect() {
        for (const { model, version, rows } of queues()) this.set({ model, version }, rows)
      },
    })
    new Gauge({
      name: 'penstock_executors_alive',
      help: 'Workers that can take a batch.',
      registers,
      collect() {
        this.set([...executors()].filter(({ alive }) => alive).length)
      },
    })
    new Counter({
      name: 'penstock_executor_deaths_total',
      help: 'Workers that died and were replaced.',
      registers,
      collect() {
        this.reset()
        for (const { deaths } of executors()) this.inc(deaths)
      },
    })
    this.#registerHistograms()
    registerEdge(this.edge, registers)
  }

  #registerHistograms(): void {
    this.#histogram('penstock_request_seconds', 'Time of inference requests by phase.', 1_000, () =>
      this.#counts.flatMap(({ model, version, byRoute }) =>
        [...byRoute].flatMap(([route, { phases }]) =>
          allPhases.map((phase) => ({ labels: { route, model, version, phase }, histogram: phases[phase] })),
        ),
      ),
    )
    this.#histogram('penstock_batch_rows', 'Rows in a run.', 1, () =>
      this.#counts.map(({ model, version, batchRows }) => ({
        labels: { model, version },
        histogram: batchRows,
      })),
    )
  }

  /** A histogram whose buckets are read when it is scraped. `unit` is how many of ours make one of Prometheus's. */
  #histogram(name: string, help: string, unit: number, read: () => Labelled[]): void {
    const get = () =>
      Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values: read().flatMap(expand) })
    const expand = ({ labels, histogram: { bounds, counts, count, sum } }: Labelled) => {
      let below = 0
      const buckets = [...bounds, Infinity].map((bound, i) => {
        const le = bound === Infinity ? '+Inf' : bound / unit
        return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: (below += counts[i]!) }
      })
      const total = { metricName: `${name}_sum`, labels, value: sum / unit }
      return [...buckets, total, { metricName: `${name}_count`, labels, value: count }]
    }
    this.#registry.registerMetric({ name, help, get } as unknown as Metric)
  }
}

interface Labelled {
  readonly labels: Record<string, string>
  readonly histogram: Histogram
}
