/** What an HTTPRoute asks of a model: who gets which version. */
import type { HttpRoute, Mirror, Rule } from '../http-route-schema.ts'

export interface SplitIntent {
  /** By the backend’s name, which controllers keep while they edit weights; in the order of the document. */
  readonly arms: Readonly<Record<string, Arm>>
  /** In the order in which they are to be looked at (Gateway API: most headers first, then as in the document). */
  readonly rules: readonly HeaderRule[]
  /** The arm that is `stable`; without that, the first backend of the rule without header matches. */
  readonly default: string
  /** Of all requests of the model; a request that the version itself answers need not be sent to it twice. */
  readonly shadows: readonly { readonly version: string; readonly share: number }[]
  /** The generation counts the edits of `spec`; without it, `metadata.resourceVersion` where that is a number. */
  readonly source: { readonly name: string; readonly generation: number | undefined }
}

interface Arm {
  readonly version: string
  /** Its share is the weight over the sum of all. An arm that only rules lead to has 0. */
  readonly weight: number
}

interface HeaderRule {
  /** All have to be there with just these values. Names are in lower case. */
  readonly match: { readonly headers: Readonly<Record<string, string>> }
  readonly arm: string
}

export interface IntentOptions {
  /** A backend’s name to the model’s version that it stands for. */
  readonly versions: Readonly<Record<string, string>>
  /** The backend that is the default. */
  readonly stable?: string | undefined
}

/** Told of what cannot be carried out, and where it is. */
type Complain = (path: readonly (string | number)[], message: string) => void

type Backend = Mirror['backendRef']

/** Returns nonsense after a complaint. */
export function intentOf(route: HttpRoute, options: IntentOptions, complain: Complain): SplitIntent {
  const reading = new Reading(route.spec.rules, options, complain)
  const split = reading.split()
  const { name } = route.metadata
  return {
    arms: Object.fromEntries(reading.arms(split)),
    rules: reading.headerRules(),
    default: reading.default(split),
    shadows: reading.shadows(split),
    source: { name, generation: generationOf(route.metadata) },
  }
}

class Reading {
  readonly #rules: readonly Rule[]
  readonly #options: IntentOptions
  readonly #complain: Complain
  /** Backends of which it has been said. */
  readonly #unknown = new Set<string>()

  constructor(rules: readonly Rule[], options: IntentOptions, complain: Complain) {
    this.#rules = rules
    this.#options = options
    this.#complain = complain
  }

  /** The place of the rule for requests that no headers single out. */
  split(): number {
    const all = this.#rules.flatMap((rule, i) => (isForAll(rule) ? [i] : []))
    if (all.length === 0)
      this.#complain(['spec', 'rules'], 'no rule without header matches, which all others would get')
    for (const i of all.slice(1)) {
      const first = `spec.rules[${all[0]}]`
      this.#complain(['spec', 'rules', i], `a second rule without header matches: ${first} has taken all requests`)
    }
    return all[0] ?? 0
  }

  arms(split: number): Map<string, Arm> {
    const arms = new Map<string, Arm>()
    const order = [split, ...this.#rules.keys().filter((i) => i !== split)]
    for (const i of order) {
      this.#checkWeights(i)
      for (const [j, backend] of this.#rules[i]!.backendRefs.entries()) {
        const version = this.#versionOf(backend, ['spec', 'rules', i, 'backendRefs', j])
        const weight = i === split ? backend.weight : 0
        if (!arms.has(backend.name)) arms.set(backend.name, { version, weight })
      }
    }
    return arms
  }

  headerRules(): HeaderRule[] {
    const found = this.#rules.flatMap((rule, i) =>
      rule.matches.flatMap(({ headers }, j) => {
        if (headers.length === 0) return []
        const at = ['spec', 'rules', i, 'matches', j]
        return [{ match: { headers: this.#headersOf(headers, at) }, arm: this.#onlyArm(rule, i) }]
      }),
    )
    const count = ({ match }: HeaderRule) => Object.keys(match.headers).length
    return found.toSorted((a, b) => count(b) - count(a))
  }

  default(split: number): string {
    const { stable } = this.#options
    const { backendRefs } = this.#rules[split]!
    if (stable !== undefined && !backendRefs.some(({ name }) => name === stable)) {
      const message = `no backend "${stable}", which is said to be the stable one`
      this.#complain(['spec', 'rules', split, 'backendRefs'], message)
    }
    return stable ?? backendRefs[0]!.name
  }

  shadows(split: number): { version: string; share: number }[] {
    const mirrors = this.#rules.map((rule, i) => this.#mirrorsOf(rule, i))
    const wanted = mirrors[split]!
    for (const [i, found] of mirrors.entries()) {
      if (this.#mirrorAlike(this.#rules[i]!, found, wanted)) continue
      const message = `has other mirrors than spec.rules[${split}]: a model’s requests are mirrored all alike`
      this.#complain(['spec', 'rules', i, 'filters'], message)
    }
    return [...wanted].filter(([, share]) => share > 0).map(([version, share]) => ({ version, share }))
  }

  #checkWeights(i: number): void {
    const { backendRefs } = this.#rules[i]!
    const at = ['spec', 'rules', i, 'backendRefs']
    for (const [j, { name }] of backendRefs.entries()) {
      const isAgain = backendRefs.findIndex((each) => each.name === name) < j
      if (isAgain) this.#complain([...at, j, 'name'], `backend "${name}" is there twice`)
    }
    if (backendRefs.every(({ weight }) => weight === 0)) this.#complain(at, 'no backend has a weight above 0')
  }

  #versionOf(backend: Backend, path: readonly (string | number)[]): string {
    const { name } = backend
    const version = versionOf(backend, this.#options.versions)
    if (version === undefined && !this.#unknown.has(name)) {
      this.#unknown.add(name)
      const message = `backend "${name}" stands for no version: add it to \`versions\` (${name}: VERSION)`
      this.#complain([...path, 'name'], message)
    }
    return version ?? name
  }

  #headersOf(headers: Rule['matches'][number]['headers'], path: readonly (string | number)[]): Record<string, string> {
    const found = new Map<string, string>()
    for (const [k, { name, value }] of headers.entries()) {
      const key = name.toLowerCase()
      if (found.has(key)) this.#complain([...path, 'headers', k, 'name'], `header "${key}" is there twice`)
      found.set(key, value)
    }
    return Object.fromEntries(found)
  }

  #onlyArm({ backendRefs }: Rule, i: number): string {
    const arms = backendRefs.filter(({ weight }) => weight > 0)
    if (arms.length > 1) {
      const names = arms.map(({ name }) => `"${name}"`).join(', ')
      const message = `splits requests with certain headers over ${names}: give all but one the weight 0`
      this.#complain(['spec', 'rules', i, 'backendRefs'], message)
    }
    return arms[0]?.name ?? ''
  }

  /** Versions and their shares. */
  #mirrorsOf({ filters }: Rule, i: number): Map<string, number> {
    const found = new Map<string, number>()
    for (const [j, { requestMirror }] of filters.entries()) {
      const path = ['spec', 'rules', i, 'filters', j, 'requestMirror', 'backendRef']
      const version = this.#versionOf(requestMirror.backendRef, path)
      if (found.has(version)) this.#complain([...path, 'name'], `version "${version}" is mirrored to twice`)
      found.set(version, shareOf(requestMirror))
    }
    return found
  }

  /**
   * Whether a rule asks for the mirrors that the split has. Those to the version that the rule leads to make no
   * difference: Argo’s header routes have them or not, depending on which of the two was set first.
   */
  #mirrorAlike(rule: Rule, found: ReadonlyMap<string, number>, wanted: ReadonlyMap<string, number>): boolean {
    const own = rule.backendRefs.find(({ weight }) => weight > 0)
    const versions = new Set([...found.keys(), ...wanted.keys()])
    const served = own && versionOf(own, this.#options.versions)
    const others = [...versions].filter((each) => each !== served)
    return others.every((version) => (found.get(version) ?? 0) === (wanted.get(version) ?? 0))
  }
}

function versionOf({ kind, name }: Backend, versions: IntentOptions['versions']): string | undefined {
  if (Object.hasOwn(versions, name)) return versions[name]
  return kind === 'ModelVersion' ? name : undefined
}

function isForAll({ matches }: Rule): boolean {
  return matches.length === 0 || matches.some(({ headers }) => headers.length === 0)
}

/** From 0 to 1. */
function shareOf({ percent, fraction }: Mirror): number {
  return fraction ? fraction.numerator / fraction.denominator : (percent ?? 100) / 100
}

function generationOf({ generation, resourceVersion }: Readonly<Record<string, unknown>>): number | undefined {
  if (Number.isSafeInteger(generation)) return generation as number
  const version = typeof resourceVersion === 'string' && /^\d{1,15}$/.test(resourceVersion)
  return version ? Number(resourceVersion) : undefined
}
