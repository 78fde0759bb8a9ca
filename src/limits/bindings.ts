/** Which limits hold for a request, worked out once for each caller on each route and model. */
import { hash, randomBytes } from 'node:crypto'
import type { Caller } from '../core/caller.ts'
import type { Bucket } from '../core/gcra.ts'
import { matcherOf } from '../core/glob.ts'
import type { Priority } from '../core/priority.ts'
import type { Cap, CapRule } from './caps.ts'
import { capPolicy, LimitFields, ratePolicy } from './fields.ts'
import { periods, type Dimension, type RuleOptions } from './options.ts'
import type { Demand, Quota, RateRule, Store } from './quota.ts'

/** Who asks for what. The same caller comes as the same object, as long as it is known. */
export interface Asking {
  readonly caller: Caller
  readonly route: string
  readonly model: string
  readonly priority: Priority
}

type Asked = Omit<Asking, 'priority'>

export interface Binding {
  readonly caps: readonly Cap[]
  /** One of each that counts requests. */
  readonly requests: readonly Demand[]
  /** Those whose cost is known later. */
  readonly later: readonly Quota[]
  readonly quotas: readonly Quota[]
  /** The RateLimit-Policy field. */
  readonly policies: string
  /** Of answers. */
  readonly fields: LimitFields
}

type Rule = (RateRule | CapRule) & { readonly fits: (asked: Asked) => boolean }

/** Routes and models that are remembered for one caller. The configuration has not as many, or it is a strange one. */
const mostRemembered = 1_000

export class Bindings {
  readonly #rules: readonly Rule[]
  readonly #prefix: string
  readonly #storeOf: (rule: RateRule) => Store
  readonly #known = new WeakMap<Caller, Map<string, Map<string, Binding>>>()
  /** So that nobody can choose names whose fingerprints meet. */
  readonly #seed = randomBytes(16).toString('hex')

  /** `prefix` is what keys in Redis begin with. */
  constructor(rules: readonly RuleOptions[], prefix: string, storeOf: (rule: RateRule) => Store) {
    this.#rules = rules.map(ruleOf)
    this.#prefix = prefix
    this.#storeOf = storeOf
  }

  get isEmpty(): boolean {
    return this.#rules.length === 0
  }

  of({ caller, route, model }: Asked): Binding {
    const known = this.#known.get(caller)?.get(route)?.get(model)
    if (known) return known
    const binding = this.#bind({ caller, route, model })
    let routes = this.#known.get(caller)
    if (!routes || routes.size >= mostRemembered) this.#known.set(caller, (routes = new Map()))
    let models = routes.get(route)
    if (!models || models.size >= mostRemembered) routes.set(route, (models = new Map()))
    models.set(model, binding)
    return binding
  }

  #bind(asked: Asked): Binding {
    const fitting = this.#rules.filter((rule) => rule.fits(asked))
    const quotas = fitting.filter((rule) => 'bucket' in rule).map((rule) => this.#quota(rule, keyText(rule, asked)))
    const caps = fitting.filter((rule) => 'most' in rule).map((rule) => ({ rule, key: keyText(rule, asked) }))
    const [requests, later] = [true, false].map((counts) =>
      quotas.filter(({ rule }) => (rule.cost === 'request') === counts),
    ) as [Quota[], Quota[]]
    const policies = fitting.map(({ policy }) => policy).join(', ')
    return {
      caps,
      requests: requests.map((quota) => ({ quota, units: 1, store: this.#storeOf(quota.rule) })),
      later,
      quotas,
      policies,
      fields: new LimitFields(policies),
    }
  }

  #quota(rule: RateRule, text: string): Quota {
    const fingerprint = hash('sha256', this.#seed + text, 'buffer')
    const [low, high] = [fingerprint.readInt32LE(0), fingerprint.readInt32LE(4)]
    // Names of callers are nobody's business there. The braces keep all keys on one node of a cluster.
    const digest = rule.store === 'local' ? '' : hash('sha256', text, 'base64url').slice(0, 22)
    const key = digest && `{${this.#prefix}limits}:${rule.name}:${digest}`
    return { rule, low, high, key, lease: undefined, left: rule.bucket.burst, leftAt: 0 }
  }
}

/** What tells a bucket from all others: the rule, and the values it is kept for. */
function keyText({ name, by }: RateRule | CapRule, asked: Asked): string {
  return JSON.stringify([name, ...by.map((dimension) => valueOf(asked, dimension))])
}

function valueOf({ caller, route, model }: Asked, dimension: Dimension): string {
  return { tenant: caller.tenant, caller: caller.name, route, model }[dimension]
}

function ruleOf(options: RuleOptions): Rule {
  const { name, by, where, concurrency } = options
  const [tenant, caller, route, model] = [where.tenants, where.callers, where.routes, where.models].map(matcherOf)
  const fits = (asked: Asked) =>
    tenant!(asked.caller.tenant) && caller!(asked.caller.name) && route!(asked.route) && model!(asked.model)
  if (concurrency !== undefined) {
    return { name, by, fits, most: concurrency, policy: capPolicy(name, concurrency) }
  }
  return { ...rateRuleOf(options), fits }
}

const shownUnits = { request: 'requests', row: 'rows', computeMs: 'milliseconds of compute' } as const

function rateRuleOf({ name, by, cost, per, store, exact, onError, leaseMs, ...numbers }: RuleOptions): RateRule {
  // The schema has seen to it that there is one.
  const rate = numbers.rate!
  const msPerUnit = periods[per] / rate
  const bucket: Bucket = { msPerUnit, burst: numbers.burst ?? Math.max(1, rate) }
  return {
    name,
    by,
    cost,
    bucket,
    store: store === 'local' ? 'local' : exact ? 'exact' : 'leases',
    onError,
    lease: { most: Math.min(bucket.burst, Math.max(1, Math.floor(leaseMs / msPerUnit))), ms: leaseMs },
    shown: `${rate} ${shownUnits[cost]} per ${per}`,
    policy: ratePolicy(name, cost, bucket),
  }
}
