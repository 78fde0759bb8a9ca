/**
 * Which model and which version. A route is what a client addresses: a host and a path. Each model has one of its own at
 * `/v2/models/NAME` on any host; the configuration may add others. The version is the one that the client names, or else
 * the one that the configuration names, or else the newest.
 */
import type { Call } from '../core/call.ts'
import type { Terms } from '../core/claim.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import type { Fallback } from './fallback.ts'

export interface Route<Target> {
  readonly name: string
  /** A host name, or `*.` and what its end must be; undefined for any host. */
  readonly host: string | undefined
  readonly path: string
  readonly model: string
  /** The version of requests that name none. */
  readonly version: string
  readonly targets: ReadonlyMap<string, Target>
  readonly terms: Terms
  /** What answers when that version cannot in time. */
  readonly fallback: Fallback | undefined
}

type Addressed = Pick<Call, 'host' | 'path'>

export class Router<Target> {
  /** Routes by path, those with the narrowest host first. */
  readonly #byPath: ReadonlyMap<string, readonly Route<Target>[]>

  constructor(routes: readonly Route<Target>[]) {
    const byPath = Map.groupBy(routes, ({ path }) => path)
    for (const [path, own] of byPath)
      byPath.set(
        path,
        own.toSorted((a, b) => narrowness(b.host) - narrowness(a.host)),
      )
    this.#byPath = byPath
  }

  route({ host, path }: Addressed): Route<Target> | Refusal {
    const routes = this.#byPath.get(path)
    return routes?.find((route) => takes(route.host, host)) ?? noSuchModel(path)
  }

  choose(route: Route<Target>, { version }: Pick<Call, 'version'>): Target | Refusal {
    return route.targets.get(version ?? route.version) ?? noSuchVersion()
  }

  /** What may answer in the place of the chosen version. Whoever names a version wants that one or none. */
  fallback(route: Route<Target>, { version }: Pick<Call, 'version'>): Fallback | undefined {
    return version === undefined ? route.fallback : undefined
  }
}

/** Whether requests to `host` are for a route's host pattern. A wildcard stands for one label or more (RFC 9110, 4.2.3). */
function takes(pattern: string | undefined, host: string): boolean {
  if (pattern === undefined) return true
  return pattern.startsWith('*.')
    ? host.length > pattern.length - 1 && host.endsWith(pattern.slice(1))
    : host === pattern
}

/** An exact name before any wildcard, and the longer of two wildcards first. */
function narrowness(pattern: string | undefined): number {
  if (pattern === undefined) return 0
  return pattern.startsWith('*.') ? pattern.length : 1_000
}

/** Also for what a caller may not see, which must not read differently. */
export function noSuchModel(path: string): Refusal {
  const message = path.startsWith('/v2/models/')
    ? 'no such model; GET /v2/models lists those that are served'
    : 'no such path; models are under /v2/models'
  return refuse('not_found', message)
}

/** Likewise. */
export function noSuchVersion(): Refusal {
  return refuse('not_found', 'no such version of this model; GET /v2/models/NAME lists those that are served')
}
