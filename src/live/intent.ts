/** What the configuration wants of a model's versions: names for them, a split between them, an experiment on it. */
import { createHash } from 'node:crypto'
import type { Config } from '../config.ts'
import type { ExperimentOptions } from '../experiments/options.ts'
import type { SplitIntent } from '../mesh/http-route.ts'
import { serviceDefaults } from '../routing/options.ts'
import type { SplitOptions } from '../routing/split-options.ts'
import { defaultPool } from '../runtime/options.ts'

export interface Trial {
  readonly options: ExperimentOptions
  /** Names of the arms. */
  readonly control: string
  readonly treatment: string
}

export interface Intent {
  /** Of requests that name none, where there is no split. */
  readonly version: string
  readonly aliases: Readonly<Record<string, string>>
  /** With versions in the place of aliases. */
  readonly split: SplitOptions | undefined
  readonly trial: Trial | undefined
  /** What an edit by hand is laid over: it falls away when this changes. */
  readonly digest: string
  /** What evidence is about: versions and guards, and not weights. */
  readonly trialDigest: string
}

/** What the store has of a model: versions, from the oldest to the newest, and their digests. */
export type Stored = ReadonlyMap<string, { readonly digest: string }>

type ModelOptions = Config['models'][string]

/** What is wrong with it, and at which key of the model's options. */
export interface Misfit {
  readonly path: readonly (string | number)[]
  readonly message: string
}

/** `route`: a split that comes from elsewhere than the configuration. */
export function intentOf(
  options: Partial<ModelOptions> | undefined,
  route: SplitIntent | undefined,
  stored: Stored,
): Intent | { readonly misfits: readonly Misfit[] } {
  const { aliases = {}, experiment } = options ?? {}
  const written = route ? splitOf(route, options) : options?.split
  const misfits: Misfit[] = []
  const resolve = (name: string, path: Misfit['path']) => {
    // Of an alias it is told where that is.
    if (Object.hasOwn(aliases, name)) return aliases[name]!
    if (!stored.has(name)) misfits.push({ path, message: noVersion(name, aliases, stored) })
    return name
  }
  for (const [alias, version] of Object.entries(aliases)) {
    if (stored.has(alias)) misfits.push({ path: ['aliases', alias], message: 'a version has this name: take another' })
    if (!stored.has(version)) misfits.push({ path: ['aliases', alias], message: noVersion(version, {}, stored) })
  }
  const split = written && resolved(written, (name, path) => resolve(name, route ? ['httpRoute'] : path))
  misfits.push(...(split ? twinShadows(split) : []))
  const named = options?.version === undefined ? undefined : resolve(options.version, ['version'])
  const trial = experiment && split ? trialOf(experiment, split, route !== undefined) : undefined
  if (trial && 'message' in trial) misfits.push(trial)
  if (misfits.length > 0 || (trial && 'message' in trial)) return { misfits }
  const version = split ? split.arms[defaultArm(split)]!.version : (named ?? [...stored.keys()].at(-1)!)
  const versions =
    split &&
    Object.fromEntries(
      Object.entries(split.arms).map(([arm, { version: its }]) => [arm, [its, stored.get(its)!.digest]]),
    )
  return {
    version,
    aliases,
    split,
    trial,
    digest: digestOf({ aliases, split, version }),
    trialDigest: digestOf({ versions, trial, unit: split?.unit, salt: split?.salt }),
  }
}

/** The arm of whoever is drawn for none: as the split has it. */
export function defaultArm({ arms, default: named }: Pick<SplitOptions, 'arms' | 'default'>): string {
  if (named !== undefined) return named
  const sorted = Object.entries(arms).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return sorted.reduce((best, each) => (each[1].weight > best[1].weight ? each : best))[0]
}

/** The same for what says the same, in whatever order the keys are in a file. */
export function digestOf(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(value, inOrder) ?? '')
    .digest('hex')
    .slice(0, 16)
}

function inOrder(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

function splitOf(
  { arms, rules, shadows, default: fallback }: SplitIntent,
  options: Partial<ModelOptions> = {},
): SplitOptions {
  const { unit = { by: 'request' } } = options.httpRoute ?? {}
  return {
    unit,
    hash: 'xxh64',
    arms: { ...arms },
    rules: rules.map(({ match, arm }) => ({ match: { headers: { ...match.headers } }, arm })),
    default: fallback,
    shadows: [...shadows],
  }
}

function resolved(split: SplitOptions, resolve: (name: string, path: Misfit['path']) => string): SplitOptions {
  const arms = Object.entries(split.arms).map(([id, arm]) => {
    return [id, { ...arm, version: resolve(arm.version, ['split', 'arms', id, 'version']) }] as const
  })
  const shadows = split.shadows.map((shadow, i) => {
    return { ...shadow, version: resolve(shadow.version, ['split', 'shadows', i, 'version']) }
  })
  return { ...split, arms: Object.fromEntries(arms), shadows }
}

/** One version may be meant by several names. */
function twinShadows({ shadows }: SplitOptions): Misfit[] {
  const versions = shadows.map(({ version }) => version)
  return versions.flatMap((version, i) => {
    if (versions.indexOf(version) === i) return []
    return [{ path: ['split', 'shadows', i, 'version'], message: `another shadow has version ${version} too` }]
  })
}

/** `isRoute`: a controller turns shadows on and off. */
function trialOf(options: ExperimentOptions, split: SplitOptions, isRoute: boolean): Trial | Misfit {
  const arms = Object.keys(split.arms)
  // Not the heaviest: who changes weights must not change what is on trial.
  const control = options.control ?? split.default ?? arms.find((arm) => arm !== options.treatment)!
  const others = arms.filter((arm) => arm !== control)
  const treatment = options.treatment ?? others[0]
  const place = (key: string, message: string) => ({ path: ['experiment', key], message })
  if (!arms.includes(control)) return place('control', `expected one of the arms ${arms.join(', ')}`)
  if (treatment === undefined) return place('treatment', 'the split has one arm only: nothing to compare it with')
  if (options.treatment === undefined && others.length > 1)
    return place('treatment', `name one of the arms ${others.join(', ')}`)
  if (!others.includes(treatment)) return place('treatment', `expected one of the arms ${others.join(', ')}`)
  const [ofControl, ofTreatment] = [split.arms[control]!, split.arms[treatment]!]
  if (ofControl.version === ofTreatment.version && options.kind === 'canary')
    return place('treatment', `it has version ${ofControl.version}, as the control has: there is nothing to try`)
  if (ofControl.weight + ofTreatment.weight === 0)
    return place('control', 'it and the treatment have no weight: there is nothing to divide between them')
  const isShadowed = split.shadows.some((each) => each.version === ofTreatment.version && each.share > 0)
  if (options.kind === 'canary' && options.afterShadow && !isShadowed && !isRoute)
    return place('afterShadow', `version ${ofTreatment.version} is no shadow of this split, so it would never begin`)
  return { options, control, treatment }
}

function noVersion(name: string, aliases: Readonly<Record<string, string>>, stored: Stored): string {
  const names = Object.keys(aliases)
  const others = names.length > 0 ? `, and the aliases are ${names.join(', ')}` : ''
  return `there is no version ${name}; the store has ${[...stored.keys()].join(', ')}${others}`
}

/** A configuration with what another says of versions and splits; and which other settings of it differ. */
export function withIntents(before: Config, after: Config): { readonly config: Config; readonly others: string[] } {
  const names = [...new Set([...Object.keys(before.models), ...Object.keys(after.models)])]
  const models = names.map((name): [string, ModelOptions] => {
    const { version, aliases, split, experiment } = optionsOf(after, name)
    return [name, { ...optionsOf(before, name), version, aliases, split, experiment }]
  })
  const config = { ...before, models: Object.fromEntries(models) }
  const keys = Object.keys(after).filter((key) => key !== 'models') as Exclude<keyof Config, 'models'>[]
  const others = keys.filter((key) => digestOf(before[key]) !== digestOf(after[key]))
  const isOther = (name: string) => digestOf(rest(before, name)) !== digestOf(rest(after, name))
  return { config, others: [...others, ...names.filter(isOther).map((name) => `models.${name}`)] }
}

/** Of a model about which a configuration says nothing. */
const usual: ModelOptions = { aliases: {}, pool: defaultPool, ...serviceDefaults }

function optionsOf({ models }: Config, name: string): ModelOptions {
  return models[name] ?? usual
}

function rest(config: Config, name: string): Partial<ModelOptions> {
  const {
    version: _version,
    aliases: _aliases,
    split: _split,
    experiment: _experiment,
    ...others
  } = optionsOf(config, name)
  return others
}
