/** What can be read of each version at a scrape: what waits for it, what runs it, and how long that takes. */
import { Counter, Gauge, type Registry } from 'prom-client'

export interface VersionState {
  readonly model: string
  readonly version: string
  readonly queuedRows: number
  readonly workers: number
  readonly deaths: number
  readonly hungThreads: number
  readonly coldStarts: number
  readonly loadMs: number
  readonly bytes: number
  /** What runs it, as of its last load. */
  readonly provider: string
  readonly device: string
  /** How long its runs take; undefined while too few were seen. */
  readonly fit: { readonly baseMs: number; readonly rowMs: number } | undefined
}

type Read = () => Iterable<VersionState>

const labelNames = ['model', 'version'] as const

const gauges: readonly [name: string, help: string, of: (state: VersionState) => number | undefined][] = [
  ['penstock_queue_rows', 'Rows that wait for a run.', ({ queuedRows }) => queuedRows],
  ['penstock_workers', 'Workers that can be given a batch; 0 while a version is unloaded.', ({ workers }) => workers],
  ['penstock_hung_threads', 'Worker threads that do not come back from a run.', ({ hungThreads }) => hungThreads],
  ['penstock_load_seconds', 'Time of the last load, warm-up included.', ({ loadMs }) => loadMs / 1_000],
  ['penstock_model_bytes', 'Memory of the workers, as far as it is known.', ({ bytes }) => bytes],
  [
    'penstock_run_base_seconds',
    'What a run takes whatever its size, as fitted.',
    ({ fit }) => fit && fit.baseMs / 1_000,
  ],
  ['penstock_run_row_seconds', 'What each row adds to a run, as fitted.', ({ fit }) => fit && fit.rowMs / 1_000],
]

const counters: readonly [name: string, help: string, of: (state: VersionState) => number][] = [
  ['penstock_worker_deaths_total', 'Workers that died, or hung and were given up.', ({ deaths }) => deaths],
  [
    'penstock_cold_starts_total',
    'Loads because a request came for a version that was unloaded.',
    ({ coldStarts }) => coldStarts,
  ],
]

export function registerVersions(read: Read, registers: Registry[]): void {
  const kinds = [
    { Metric: Gauge, all: gauges },
    { Metric: Counter, all: counters },
  ]
  for (const { Metric, all } of kinds) {
    for (const [name, help, of] of all) {
      const metric: Gauge | Counter = new Metric({
        name,
        help,
        labelNames,
        registers,
        collect() {
          metric.reset()
          for (const state of read()) {
            const value = of(state)
            // After a reset to add a value is to set it.
            if (value !== undefined) metric.inc({ model: state.model, version: state.version }, value)
          }
        },
      })
    }
  }
  registerProviders(read, registers)
}

function registerProviders(read: Read, registers: Registry[]): void {
  new Gauge({
    name: 'penstock_provider_info',
    help: 'Always 1: which execution provider runs a version, and on what.',
    labelNames: [...labelNames, 'provider', 'device'],
    registers,
    collect() {
      this.reset()
      for (const { model, version, provider, device } of read()) this.set({ model, version, provider, device }, 1)
    },
  })
}
