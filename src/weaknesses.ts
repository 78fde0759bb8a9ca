/** Settings that are allowed and weak: `penstock check` says so. */
import type { Config } from './config.ts'
import { isLoopback } from './core/address.ts'
import { matcherOf } from './core/glob.ts'

type Who = Exclude<Config['auth'], 'none'>['access'][number]['who']

const dayS = 86_400
const longSkewS = 120

/** One sentence for each: what it is, and what to do about it. `models` are those in the store. */
export function weaknesses(config: Config, models: readonly string[]): string[] {
  const idle = [...idleRules(config, models), ...idleLimits(config, models)]
  const open = [...ofListeners(config), ...ofLimits(config)]
  return [...ofAccess(config), ...idle, ...ofTokens(config), ...open, ...ofSplits(config)]
}

/** Rules that can never fit anything look like protection and are none. */
function idleRules({ auth }: Config, models: readonly string[]): string[] {
  if (auth === 'none') return []
  if (auth.access.length === 0) return ['`auth.access`: without rules nobody may do anything. Add one.']
  return auth.access.flatMap(({ who, models: patterns }, i) => {
    const place = `\`auth.access[${i}]`
    const { callers = [], spiffe = [], peers = [] } = typeof who === 'string' ? {} : who
    const names = callers.filter((name) => !/[:/*]/.test(name))
    const ids = [...spiffe, ...peers].filter((id) => !/^(spiffe:\/\/|\*)/.test(id))
    return [
      ...unknownModels(`${place}.models\``, patterns, models),
      ...names.map(
        (name) => `${place}.who.callers\`: nobody is called "${name}". Full names are such as \`key:${name}\`.`,
      ),
      ...ids.map((id) => `${place}.who\`: "${id}" is no SPIFFE id. They begin with \`spiffe://\`.`),
    ]
  })
}

function idleLimits({ limits, routes }: Config, models: readonly string[]): string[] {
  const named = [...models, ...routes.map(({ name }) => name)]
  return limits.rules.flatMap(({ where }, i) => [
    ...unknownModels(`\`limits.rules[${i}].where.models\``, where.models ?? [], models),
    ...unknownModels(`\`limits.rules[${i}].where.routes\``, where.routes ?? [], named),
  ])
}

function unknownModels(place: string, patterns: readonly string[], names: readonly string[]): string[] {
  const idle = patterns.filter((pattern) => !names.some(matcherOf([pattern])))
  return idle.map((pattern) => `${place}: "${pattern}" fits nothing that is here, which is ${names.join(', ')}.`)
}

function ofAccess({ auth }: Config): string[] {
  if (auth === 'none')
    return [
      '`auth: none`: whoever reaches the gateway may use every model. Set `auth.jwt`, `apiKeys`, `mtls` or `mesh`.',
    ]
  return auth.access.flatMap(({ who, effect, operations, models }, i) => {
    const place = `\`auth.access[${i}]\``
    if (effect === 'deny') return []
    const isAll = models.includes('**') || models.includes('*')
    const whoever = who === 'anyone' ? 'everybody' : 'whoever is known'
    if (!isAnybody(who)) return []
    return [
      ...(isAll && operations.includes('infer')
        ? [`${place}: ${whoever} may use every model. Name callers, or models.`]
        : []),
      ...(operations.includes('admin.write') ? [`${place}: ${whoever} may change the gateway. Name callers.`] : []),
    ]
  })
}

/** Whether a rule is about as good as everybody: patterns for anything tell nobody apart. */
function isAnybody(who: Who): boolean {
  if (typeof who === 'string') return true
  return Object.values(who).every((patterns) => patterns === undefined || patterns.some((each) => /^\*+$/.test(each)))
}

function ofTokens({ auth }: Config): string[] {
  if (auth === 'none' || !auth.jwt) return []
  return auth.jwt.issuers.flatMap((issuer, i) => {
    const place = `\`auth.jwt.issuers[${i}]\``
    if (issuer.kind === 'development') return []
    return [
      ...(issuer.kind === 'secret'
        ? [`${place}: whoever can check tokens with this secret can make them. Use \`kind: jwks\`.`]
        : []),
      ...(issuer.maxLifetimeS > dayS
        ? [
            `${place}: takes tokens that are valid for longer than a day, and so are stolen ones. Lower \`maxLifetimeS\`.`,
          ]
        : []),
      ...(issuer.skewS > longSkewS ? [`${place}: takes tokens for ${issuer.skewS} s too long. Lower \`skewS\`.`] : []),
    ]
  })
}

function ofListeners({ edge, admin, mesh }: Config): string[] {
  const isEncrypted = edge.tls !== undefined || mesh.mode !== 'none'
  return [
    ...(isLoopback(edge.host) || isEncrypted
      ? []
      : ['`edge.host`: without `edge.tls` everybody on the way reads tokens and data. Set `edge.tls`.']),
    ...(isLoopback(admin.host) || mesh.mode !== 'none'
      ? []
      : ['`admin.host`: the admin listener has no TLS, so tokens can be read on the way. Set 127.0.0.1.']),
    ...(mesh.proxies.some((network) => network.endsWith('/0'))
      ? ['`mesh.proxies`: whoever reaches the gateway is believed to be a proxy. Name addresses.']
      : []),
    ...(edge.tls?.clientCa !== undefined && edge.tls.crl === undefined
      ? ['`edge.tls.clientCa`: a lost client certificate is good until it expires. Set `edge.tls.crl`.']
      : []),
  ]
}

/** Routes that everybody on the network reaches need some limit. */
function ofLimits({ edge, limits, models, routes }: Config): string[] {
  if (isLoopback(edge.host)) return []
  const isAll = limits.rules.some(({ where }) => Object.values(where).every((each) => each === undefined))
  if (isAll) return []
  const named = [...Object.keys(models), ...routes.map(({ name }) => name)]
  const scope = limits.rules.length === 0 ? 'no limit holds' : 'no limit holds for all requests'
  return [
    `\`limits.rules\`: ${scope}${named.length > 0 ? ` (routes: ${named.join(', ')})` : ''}. Add one without \`where\`.`,
  ]
}

function ofSplits(config: Config): string[] {
  return Object.entries(config.models).flatMap(([name, options]) => [
    ...ofUnit(config, name),
    ...ofRules(config, name),
    ...ofExperiment(name, options),
  ])
}

/** A unit that nobody has divides nothing, or all at once. */
function ofUnit({ auth, models }: Config, name: string): string[] {
  const { split, httpRoute } = models[name]!
  const { by } = split?.unit ?? httpRoute?.unit ?? {}
  const place = `\`models.${name}.${split ? 'split' : 'httpRoute'}.unit\``
  if (by === 'caller' && auth === 'none')
    return [`${place}: with \`auth: none\` callers are addresses: all behind one go one way. Set \`auth\`.`]
  if (by === 'claim' && !hasClaims(auth))
    return [`${place}: only tokens have claims, so each request goes its own way. Set \`auth.jwt\`.`]
  return []
}

/** Rules that can never fit send nobody anywhere. */
function ofRules({ auth, models, routes }: Config, name: string): string[] {
  const own = [name, ...routes.filter(({ model }) => model === name).map((route) => route.name)]
  return (models[name]!.split?.rules ?? []).flatMap(({ match }, i) => {
    const place = `\`models.${name}.split.rules[${i}].match`
    const isIdle = Object.keys(match.claims ?? {}).length > 0 && !hasClaims(auth)
    return [
      ...unknownModels(`${place}.routes\``, match.routes ?? [], own),
      ...(isIdle ? [`${place}.claims\`: only tokens have claims, so it fits nobody. Set \`auth.jwt\`.`] : []),
    ]
  })
}

function hasClaims(auth: Config['auth']): boolean {
  return auth !== 'none' && auth.jwt !== undefined
}

function ofExperiment(name: string, { split, aliases, experiment }: Config['models'][string]): string[] {
  const place = `\`models.${name}`
  if (experiment?.failures.action === 'alert')
    return [`${place}.experiment.failures\`: a treatment that fails is told of and goes on. Set \`action: rollback\`.`]
  if (!split) return []
  if (experiment) return hasPlainControl(split, experiment) ? [] : [tiedControl(place)]
  const drawn = Object.entries(split.arms).filter(([, { weight }]) => weight > 0)
  const versions = new Set(drawn.map(([, { version }]) => aliases[version] ?? version))
  const arms = drawn.map(([arm]) => arm).join(' and ')
  return versions.size < 2
    ? []
    : [`${place}.split\`: nobody looks whether one of ${arms} is worse than the other. Add an \`experiment\`.`]
}

type Split = NonNullable<Config['models'][string]['split']>
type Experiment = NonNullable<Config['models'][string]['experiment']>

/** Whether it says which arm is on trial, by name or by order and weight: rolling back the other one would help nobody. */
function hasPlainControl({ arms, default: fallback }: Split, { kind, control, treatment }: Experiment): boolean {
  const [first, ...others] = Object.values(arms)
  const isNamed = (control ?? treatment ?? fallback) !== undefined
  return isNamed || kind === 'ab' || others.every(({ weight }) => weight < first!.weight)
}

function tiedControl(place: string): string {
  return `${place}.experiment.control\`: the control is the first arm, which has not the most weight. Name it.`
}
