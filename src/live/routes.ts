/** What follows from the models that are in service: their addresses, what stands in for a version, what there is of one. */
import type { Config } from '../config.ts'
import type { LiveModel } from './model.ts'
import type { Version } from '../models/fleet.ts'
import { compareVersions } from '../models/store.ts'
import { constantFallback } from '../routing/constant.ts'
import { versionFallback, type Fallback } from '../routing/fallback.ts'
import { pathOf, serviceDefaults, type RouteOptions } from '../routing/options.ts'
import type { Route } from '../routing/router.ts'
import type { Served } from './served.ts'

type Models = ReadonlyMap<string, LiveModel>

/** Each model's own address, and those of the configuration that lead to a model that is there. */
export function routesOf(config: Config, models: Models): Route<Served>[] {
  const own = [...models.values()].map((live) => {
    const { name } = live
    return routeOf({ ...(config.models[name] ?? serviceDefaults), name, match: {}, model: name }, live)
  })
  const others = config.routes.flatMap((route) => {
    const live = models.get(route.model)
    return live ? [routeOf(route, live)] : []
  })
  return [...own, ...others]
}

function routeOf(route: RouteOptions, live: LiveModel): Route<Served> {
  const { name, match, model, sla, priority } = route
  const terms = { deadlineMs: sla.deadlineMs ?? Infinity, priority }
  return { name, host: match.host, path: pathOf(route), model, live, terms, fallback: fallbackOf(route, live) }
}

function fallbackOf({ fallback }: RouteOptions, live: LiveModel): Fallback | undefined {
  if (fallback.kind === 'version') {
    const served = live.versions.get(fallback.version)
    return served && versionFallback(fallback.version, fallback.keepMs, served.lane)
  }
  if (fallback.kind !== 'constant') return undefined
  // What is wrong with one was found before there was a service; but a model may come back with another contract.
  const constant = constantFallback(live.contract, fallback.outputs)
  return typeof constant === 'string' ? undefined : constant
}

/** Versions that stand in for others of a model, and which setting says so. */
export function fallbacksOf({ models, routes }: Config, name: string): { key: string; version: string }[] {
  const all = [
    { key: `models.${name}.fallback`, fallback: models[name]?.fallback },
    ...routes.flatMap(({ model, fallback }, i) => (model === name ? [{ key: `routes[${i}].fallback`, fallback }] : [])),
  ]
  return all.flatMap(({ key, fallback }) => (fallback?.kind === 'version' ? [{ key, version: fallback.version }] : []))
}

/** Digests by version, from the oldest to the newest. */
export function storedOf(
  versions: ReadonlyMap<string, { readonly digest: string }>,
  more: readonly Version[] = [],
): Map<string, { readonly digest: string }> {
  const all = [
    ...[...versions].map(([name, { digest }]) => [name, { digest }] as const),
    ...more.map(({ bundle: { version, digest } }) => [version, { digest }] as const),
  ]
  return new Map(all.toSorted(([a], [b]) => compareVersions(a, b)))
}
