/**
 * What a caller may do. Rules are looked at in their order, the first that fits decides, and what none fits is denied. A
 * caller who may do nothing with a model is answered as if there were none.
 */
import type { Caller, Operation } from '../core/caller.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import type { RuleOptions } from './access-options.ts'
import { matcherOf, type Matches } from '../core/glob.ts'

/** What a request addresses, as far as access goes. */
interface Addressed {
  readonly model: string
  /** That the client names, or else the usual one. */
  readonly version: string
  readonly targets: ReadonlyMap<string, unknown>
}

/** What a client calls the model. */
interface Asked {
  readonly path: string
}

export interface Decision {
  readonly isAllowed: boolean
  /** Its place in the list, from 0; undefined if no rule fits. */
  readonly rule: number | undefined
}

/** The words for what is not there, which are also those for what a caller may not see. */
interface Absence {
  readonly model: (path: string) => Refusal
  readonly version: () => Refusal
}

export interface AccessTools {
  /** Whether a model that a caller may not see is answered as one that does not exist. */
  readonly hides: boolean
  readonly absence: Absence
  /** Told of who wanted what it may not. */
  readonly onDenied: (caller: Caller, operation: ModelOperation, model: string) => void
}

interface Rule {
  readonly isAllowed: boolean
  readonly fits: (caller: Caller) => boolean
  readonly operations: ReadonlySet<Operation>
  readonly model: Matches
  readonly version: Matches
}

const denied: Decision = { isAllowed: false, rule: undefined }
/** What is done with a model. */
const modelOperations = ['infer', 'metadata', 'stats'] as const
export type ModelOperation = (typeof modelOperations)[number]
const all = 0b111
/** Whose decisions are remembered, for a caller and a model. */
const mostVersions = 256

export class Access {
  readonly #rules: readonly Rule[]
  readonly #tools: AccessTools
  /** What callers may do with a version, one bit for each of `modelOperations`. Callers are one object as long as they are known. */
  readonly #known = new WeakMap<Caller, Map<string, Map<string, number>>>()

  /** Without rules everything is allowed to everybody. */
  constructor(rules: readonly RuleOptions[] | undefined, tools: AccessTools) {
    this.#rules = rules ? rules.map(ruleOf) : [everything]
    this.#tools = tools
  }

  /** Which rule decides, and how. `model` and `version` are empty for what concerns none. */
  decide(caller: Caller, operation: Operation, model: string, version: string): Decision {
    const rule = this.#rules.findIndex((each) => {
      return each.operations.has(operation) && each.model(model) && each.version(version) && each.fits(caller)
    })
    return rule < 0 ? denied : { isAllowed: this.#rules[rule]!.isAllowed, rule }
  }

  /** Why an operation is not done; undefined if it may be. */
  bars(caller: Caller, operation: ModelOperation, addressed: Addressed, asked: Asked): Refusal | undefined {
    const { model, version, targets } = addressed
    const bits = this.#bits(caller, model, version)
    if (bits & bitOf(operation)) return undefined
    const { hides, absence, onDenied } = this.#tools
    onDenied(caller, operation, model)
    if (bits !== 0 || !hides) return mayNot(operation)
    const seesModel = [...targets.keys()].some((each) => this.sees(caller, model, each))
    return seesModel ? absence.version() : absence.model(asked.path)
  }

  /** Whether a caller may do something with a version; without an operation, whether it may see it. */
  sees(caller: Caller, model: string, version: string, operation?: ModelOperation): boolean {
    return (this.#bits(caller, model, version) & (operation ? bitOf(operation) : all)) !== 0
  }

  #bits(caller: Caller, model: string, version: string): number {
    const known = this.#known.get(caller)?.get(model)?.get(version)
    if (known !== undefined) return known
    let bits = 0
    for (const operation of modelOperations)
      if (this.decide(caller, operation, model, version).isAllowed) bits |= bitOf(operation)
    const versions = this.#versionsOf(caller, model)
    // Clients make versions up.
    if (versions.size < mostVersions) versions.set(version, bits)
    return bits
  }

  #versionsOf(caller: Caller, model: string): Map<string, number> {
    const models = this.#known.get(caller) ?? new Map<string, Map<string, number>>()
    this.#known.set(caller, models)
    const versions = models.get(model) ?? new Map<string, number>()
    models.set(model, versions)
    return versions
  }
}

/** For who may see that there is something, and do something else with it. */
export function mayNot(operation: Operation): Refusal {
  return refuse('forbidden', `the caller may not do this: ${operation}`)
}

function bitOf(operation: ModelOperation): number {
  return 1 << modelOperations.indexOf(operation)
}

const everything: Rule = {
  isAllowed: true,
  fits: () => true,
  operations: new Set(modelOperations),
  model: () => true,
  version: () => true,
}

function ruleOf({ effect, who, operations, models, versions }: RuleOptions): Rule {
  return {
    isAllowed: effect === 'allow',
    fits: fitterOf(who),
    operations: new Set(operations),
    model: matcherOf(models),
    version: matcherOf(versions),
  }
}

function fitterOf(who: RuleOptions['who']): (caller: Caller) => boolean {
  if (who === 'anyone') return () => true
  if (who === 'identified') return ({ method }) => method !== 'none'
  const { callers, tenants, subjects, scopes, spiffe, peers, methods } = who
  const lists = [callers, tenants, subjects, scopes, spiffe, peers]
  const [name, tenant, subject, scope, id, peer] = lists.map(matcherOf)
  return (caller) =>
    caller.method !== 'none' &&
    (!methods || methods.includes(caller.method)) &&
    name!(caller.name) &&
    tenant!(caller.tenant) &&
    subject!(caller.subject) &&
    (!scopes || caller.scopes.some(scope!)) &&
    (!spiffe || (caller.spiffe !== undefined && id!(caller.spiffe))) &&
    (!peers || (caller.peer !== undefined && peer!(caller.peer)))
}
