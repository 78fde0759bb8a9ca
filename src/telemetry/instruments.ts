/**
 * The instruments: what is counted, by model version. Recording touches plain numbers only; Prometheus text is made when
 * somebody scrapes, because its client costs about a microsecond for each observation.
 */
import { collectDefaultMetrics, Counter, Registry, type Metric } from 'prom-client'
import type { Clock } from '../core/clock.ts'
import { AuthCounts, registerAuth } from './auth-counts.ts'
import { EdgeCounts, registerEdge } from './edge-counts.ts'
import { Histogram, latencyBoundsMs, rowBounds } from './histogram.ts'
import type { Journal, JournalListener, Outcome } from './journal.ts'
import { LimitCounts, registerLimits } from './limit-counts.ts'
import { registerSplits, type SplitReading } from './split-gauges.ts'
import { registerVersions, type VersionState } from './version-gauges.ts'

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
  /** Answers in the place of the version's own, by what answered and why. */
  readonly fallbacks = new Map<string, number>()

  add({ outcomes, phases, failedMs, fallbacks }: RequestCounts): void {
    for (const [outcome, count] of outcomes) increase(this.outcomes, outcome, count)
    for (const [fallback, count] of fallbacks) increase(this.fallbacks, fallback, count)
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
  /** Runs in addition, because one failed or its worker died. */
  extraRuns = 0
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

/** What was counted last, and where. */
interface LastCounted {
  readonly model: string
  readonly version: string
  readonly route: string
  readonly counts: RequestCounts
}

/** Sizes of batches that are told apart. Clients choose their rows; beyond this many, powers of two stand for them. */
const mostSizes = 512

export class Instruments {
  readonly edge = new EdgeCounts()
  readonly auth = new AuthCounts()
  readonly limits = new LimitCounts()
  readonly #clock: Clock
  readonly #counts: VersionCounts[] = []
  readonly #byModel = new Map<string, Map<string, VersionCounts>>()
  readonly #registry = new Registry()
  #last: LastCounted | undefined

  /** They are asked at each scrape. */
  constructor(clock: Clock, versions: () => Iterable<VersionState>, splits: SplitReading) {
    this.#clock = clock
    this.#register(versions)
    registerSplits(splits, [this.#registry])
  }

  readonly listener: JournalListener = {
    settled: (journal) => this.#settled(journal),
    closed: (journal) => this.#closed(journal),
  }

  of(model: string, version: string): VersionCounts {
    // Two look-ups are cheaper than to put a key together.
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

  #settled({ route, model, version, outcome, instead, batchRows, queueMs, computeMs }: Journal): void {
    const counts = this.#requestsOf(model, version, route)
    increase(counts.outcomes, outcome!, 1)
    if (instead) increase(counts.fallbacks, `${instead.kind} ${instead.code}`, 1)
    if (batchRows === 0) return
    counts.phases.queue.record(queueMs)
    counts.phases.compute.record(computeMs)
  }

  #closed({ route, model, version, outcome, totalMs }: Journal): void {
    const counts = this.#requestsOf(model, version, route)
    counts.phases.total.record(totalMs)
    if (outcome !== 'ok') counts.failedMs += totalMs
  }

  /** Asked twice in the life of each request, mostly for the same. */
  #requestsOf(model: string, version: string, route: string): RequestCounts {
    const last = this.#last
    if (last?.model === model && last.version === version && last.route === route) return last.counts
    const counts = this.of(model, version).by(route)
    this.#last = { model, version, route, counts }
    return counts
  }

  #register(versions: () => Iterable<VersionState>): void {
    const registers = [this.#registry]
    collectDefaultMetrics({ register: this.#registry })
    registerVersions(versions, registers)
    this.#registerCounters()
    this.#registerHistograms()
    registerEdge(this.edge, registers)
    registerAuth(this.auth, registers)
    registerLimits(this.limits, registers)
  }

  #registerCounters(): void {
    const byRoute = (read: (counts: RequestCounts) => Counted[]): Counted[] =>
      this.#counts.flatMap(({ model, version, byRoute: routes }) =>
        [...routes].flatMap(([route, counts]) =>
          read(counts).map(({ labels, value }) => ({ labels: { route, model, version, ...labels }, value })),
        ),
      )
    this.#counter(
      'penstock_requests_total',
      'Inference requests by outcome: ok, fallback, or the code of the refusal.',
      ['route', 'model', 'version', 'code'],
      () => byRoute(({ outcomes }) => [...outcomes].map(([code, value]) => ({ labels: { code }, value }))),
    )
    this.#counter(
      'penstock_fallbacks_total',
      'Answers in the place of the version that was asked, by what answered and by the refusal that it stands for.',
      ['route', 'model', 'version', 'fallback', 'code'],
      () =>
        byRoute(({ fallbacks }) =>
          [...fallbacks].map(([key, value]) => {
            const [fallback = '', code = ''] = key.split(' ')
            return { labels: { fallback, code }, value }
          }),
        ),
    )
    this.#counter(
      'penstock_extra_runs_total',
      'Runs in addition, because one failed and its requests were tried in halves, or its worker died.',
      ['model', 'version'],
      () => this.#counts.map(({ model, version, extraRuns }) => ({ labels: { model, version }, value: extraRuns })),
    )
  }

  /** A counter whose values are read when it is scraped. */
  #counter(name: string, help: string, labelNames: readonly string[], read: () => Counted[]): void {
    new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
      collect() {
        this.reset()
        for (const { labels, value } of read()) this.inc(labels, value)
      },
    })
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

function increase<Key>(counts: Map<Key, number>, key: Key, by: number): void {
  counts.set(key, (counts.get(key) ?? 0) + by)
}

interface Counted {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

interface Labelled {
  readonly labels: Record<string, string>
  readonly histogram: Histogram
}
