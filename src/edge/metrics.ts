/** The listener for the neighbours in a cluster: probes and scrapes. It tells how things are and lets nobody change them. */
import { refuse, type Refusal } from '../core/refusal.ts'
import { isRead, json, nothingElse, onlyTakes, SideServer, type Shown } from './side-server.ts'

export interface Health {
  metrics(): Promise<string>
  /** Why requests cannot be served at the moment, if that is so. */
  refused(): Refusal | undefined
}

export const metricsPaths = {
  '/metrics': 'metrics, as Prometheus reads them',
  '/livez': 'whether the process answers',
  '/readyz': 'whether requests can be served: 200, or 503 and why not',
}

export function createMetricsServer(health: Health, isDraining: () => boolean): SideServer {
  return new SideServer(async ({ method, path }): Promise<Shown | Refusal> => {
    if (!isRead(method)) return onlyTakes('GET, HEAD')
    if (path === '/metrics') {
      return { status: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body: await health.metrics() }
    }
    if (path === '/livez') return json({ live: true })
    if (path !== '/readyz') return nothingElse(metricsPaths)
    if (isDraining()) return refuse('draining', 'the gateway is shutting down')
    return health.refused() ?? json({ ready: true })
  })
}
