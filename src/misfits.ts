/** What a configuration says that does not fit the models which are there. */
import type { ConfigFile } from './config.ts'
import type { Locate, Mistake } from './core/document.ts'
import { intentOf, type Misfit } from './live/intent.ts'
import type { SplitIntent } from './mesh/http-route.ts'
import type { Model } from './models/fleet.ts'
import type { Bundle } from './models/store.ts'
import { constantFallback } from './routing/constant.ts'
import type { FallbackOptions } from './routing/fallback.ts'

/** Settings for what is not in the store are a mistake: a typing error would otherwise pass for the default. */
export function strangers({ config, locate }: ConfigFile, bundles: readonly Bundle[]): Mistake[] {
  const store = Map.groupBy(bundles, ({ model }) => model)
  const lost = config.routes.flatMap(({ name, model }, i) => {
    const mistakes: Mistake[] = []
    if (store.has(name)) {
      const message = `routes[${i}].name: "${name}" is the name of that model's own route: take another`
      mistakes.push({ ...locate(['routes', i, 'name']), message })
    }
    if (!store.has(model)) {
      const message = `routes[${i}].model: no such model in the store, which has ${[...store.keys()].join(', ')}`
      mistakes.push({ ...locate(['routes', i, 'model']), message })
    }
    return mistakes
  })
  return [...lost, ...unknownModels({ config, locate }, store.keys())]
}

/** Settings of models that are not in the store; but of those that may be gone from it. */
export function unknownModels(
  { config, locate }: ConfigFile,
  there: Iterable<string>,
  gone: readonly string[] = [],
): Mistake[] {
  const names = [...there]
  const known = new Set([...names, ...gone])
  return Object.keys(config.models).flatMap((name) => {
    if (known.has(name)) return []
    const message = `models.${name}: no such model in the store, which has ${names.join(', ')}`
    return [{ ...locate(['models', name]), message }]
  })
}

/** Versions, splits and experiments that do not go with what is in the store. */
export function badIntents(
  { config, locate }: ConfigFile,
  bundles: readonly Bundle[],
  routeOf: (model: string) => SplitIntent | undefined,
): Mistake[] {
  const store = Map.groupBy(bundles, ({ model }) => model)
  return [...store].flatMap(([name, own]) => {
    const stored = new Map(own.map((bundle) => [bundle.version, bundle]))
    const intent = intentOf(config.models[name], routeOf(name), stored)
    return 'misfits' in intent ? mistakesOf(name, intent.misfits, locate) : []
  })
}

/** What does not fit, where it stands in the configuration. */
export function mistakesOf(name: string, misfits: readonly Misfit[], locate: Locate): Mistake[] {
  return misfits.map(({ path, message }) => {
    const whole = ['models', name, ...path]
    return { ...locate(whole), message: `${whole.join('.')}: ${message}` }
  })
}

/** Fallbacks that could never answer. */
export function badFallbacks(
  { config, locate }: ConfigFile,
  models: ReadonlyMap<string, Model>,
  usualOf: (model: Model) => string,
): Mistake[] {
  const places = [
    ...config.routes.map(({ model, ...service }, i) => ({ path: ['routes', i, 'fallback'], model, service })),
    ...Object.entries(config.models).map(([model, service]) => ({
      path: ['models', model, 'fallback'],
      model,
      service,
    })),
  ]
  return places.flatMap(({ path, model: name, service }) => {
    const model = models.get(name)
    const deadlineMs = Math.min(config.edge.deadlineMs, service.sla.deadlineMs ?? Infinity)
    const problem = model && fallbackProblem(service.fallback, model, { usual: usualOf(model), deadlineMs })
    if (!problem) return []
    const [list, key, ...rest] = path
    const where = list === 'routes' ? `routes[${key}]` : `models.${key}`
    return [{ ...locate(path), message: `${[where, ...rest].join('.')}: ${problem}` }]
  })
}

function fallbackProblem(
  fallback: FallbackOptions,
  model: Model,
  { usual, deadlineMs }: { readonly usual: string; readonly deadlineMs: number },
): string | undefined {
  if (fallback.kind === 'constant') {
    const built = constantFallback(model.contract, fallback.outputs)
    return typeof built === 'string' ? built : undefined
  }
  if (fallback.kind === 'refuse') return undefined
  if (fallback.keepMs >= deadlineMs)
    return `keepMs is ${fallback.keepMs} and leaves version ${usual} none of the ${deadlineMs} ms of the deadline`
  if (fallback.version === usual) return `version ${usual} is the one that answers anyway: name another`
  const versions = [...model.versions.keys()]
  return versions.includes(fallback.version) ? undefined : noVersion(fallback.version, versions)
}

function noVersion(version: string, versions: readonly string[]): string {
  return `there is no version ${version}; the store has ${versions.join(', ')}`
}
