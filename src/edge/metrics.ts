/** The listener for the neighbours in a cluster: probes and scrapes. It tells how things are and lets nobody change them. */
import { refuse, type Refusal } from '../core/refusal.ts'
import { json, SideServer, type Shown } from './side-server.ts'

export interface Health {
  metrics(): Promise<string>
  /** Why requests cannot be served at the moment, if that is so. */
  refused(): Refusal | undefined
}

export function createMetricsServer(health: Health, isDraining: () => boolean): SideServer {
  return new SideServer(async (path): Promise<Shown | Refusal> => {
    if (path === '/metrics') {
      return { status: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body: await health.metrics() }
    }
    if (path === '/livez') return json({ live: true })
    if (path !== '/readyz') return refuse('not_found', 'there are /metrics, /livez and /readyz')
    const refusal = isDraining() ? refuse('draining', 'the gateway is shutting down') : health.refused()
    return refusal ? json({ ready: false, error: refusal.message }, refusal.status) : json({ ready: true })
  })
}
