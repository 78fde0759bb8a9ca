/** Who gets in and how much of what, put together from a configuration: identification, access, limits, trust in proxies. */
import { randomInt } from 'node:crypto'
import { Access } from './auth/access.ts'
import { ApiKeys } from './auth/api-keys.ts'
import { createIdentify, everybody, type Identify } from './auth/auth.ts'
import type { Mint } from './auth/jwt/issuer.ts'
import { Tokens } from './auth/jwt/tokens.ts'
import { createMeshIdentity } from './auth/mesh-identity.ts'
import { createCertificateIdentity } from './auth/mtls.ts'
import { createWorkloads, type WorkloadOptions } from './auth/workload.ts'
import type { Config } from './config.ts'
import type { Caller, Operation } from './core/caller.ts'
import type { Clock } from './core/clock.ts'
import type { Mistake } from './core/document.ts'
import { isRefusal } from './core/refusal.ts'
import { isSpiffeId } from './core/spiffe.ts'
import { Limits } from './limits/limits.ts'
import { createTrust, type Trust } from './mesh/trust.ts'
import { Redis } from './redis/redis.ts'
import { noSuchModel, noSuchVersion } from './routing/router.ts'
import type { AuthCounts } from './telemetry/auth-counts.ts'
import type { LimitCounts } from './telemetry/limit-counts.ts'

export interface Security {
  readonly identify: Identify
  readonly access: Access
  readonly limits: Limits
  readonly trust: Trust
  /** What gateways have in common, if they have something. */
  readonly redis: Redis | undefined
  /** Makes tokens, where there is an issuer for development. */
  readonly mint: Mint | undefined
  /** The caller of a full name such as `key:robot`, where the configuration says all about it. */
  readonly named: (name: string) => Caller | undefined
  close(): Promise<void>
}

export interface SecurityTools {
  readonly clock: Clock
  readonly authCounts: AuthCounts
  readonly limitCounts: LimitCounts
  /** Told of what cannot be read or reached. */
  readonly onProblem: (problem: Mistake) => void
  /** Told of what can be reached again, or for the first time. */
  readonly onReached: (what: string) => void
  /** Told of who wanted what it may not. */
  readonly onDenied: (caller: Caller, operation: Operation, model: string) => void
}

/** Opens what it takes; or says what is wrong with a file. What cannot be reached is tried again later, and stops nothing. */
export async function openSecurity(
  config: Config,
  tools: SecurityTools,
): Promise<Security | { readonly mistakes: Mistake[] }> {
  const { clock, limitCounts } = tools
  const redis = await openRedis(config, tools)
  if (redis && 'mistakes' in redis) return redis
  const auth = await openAuth(config, tools, redis)
  if ('mistakes' in auth) {
    await redis?.close()
    return auth
  }
  const { tokens, close, ...rest } = auth
  const limits = new Limits(config.limits, { clock, redis, counts: limitCounts })
  const closeAll = async () => {
    close()
    limits.close()
    await redis?.close()
  }
  return { ...rest, limits, redis, mint: tokens?.mint, close: closeAll }
}

async function openRedis({ redis: options }: Config, { clock, limitCounts, onProblem, onReached }: SecurityTools) {
  if (!options) return undefined
  const onChange = (isUp: boolean, problem: string) => {
    const message = `Redis cannot be asked, and \`onError\` of each limit says what holds meanwhile: ${problem}`
    if (isUp) onReached(options.url)
    else onProblem({ file: options.url, message })
  }
  const redis = await Redis.open(options, { clock, onChange })
  if ('problem' in redis) return { mistakes: [{ file: options.url, message: redis.problem }] }
  limitCounts.redis = redis
  return redis
}

const absence = { model: noSuchModel, version: noSuchVersion }

async function openAuth(config: Config, tools: SecurityTools, redis: Redis | undefined) {
  const { auth, mesh } = config
  const { clock, authCounts, onProblem } = tools
  const untrusted = authCounts.untrusted.bind(authCounts)
  const accessTools = { hides: auth !== 'none' && auth.unseen === 'not_found', absence, onDenied: tools.onDenied }
  if (auth === 'none') {
    const access = new Access(undefined, accessTools)
    const trust = createTrust(mesh, { untrusted })
    return { identify: everybody, access, trust, tokens: undefined, named: () => undefined, close: () => {} }
  }
  const { jwt, apiKeys: keyOptions, mtls, mesh: workloads, access: rules } = auth
  const trust = createTrust(mesh, { untrusted, payloadHeader: jwt?.payloadHeader })
  const tokens = jwt && (await openTokens(jwt, tools, redis))
  if (tokens && 'mistakes' in tokens) return tokens
  const onKeyProblem = ({ file, line, message }: Mistake) => {
    onProblem({ file, line, message: `the keys stay as they were: ${message}` })
  }
  const apiKeys = keyOptions && (await ApiKeys.create(keyOptions, { clock, onProblem: onKeyProblem }))
  if (apiKeys && 'mistakes' in apiKeys) {
    tokens?.close()
    return apiKeys
  }
  const identify = createIdentify({
    tokens,
    payloadHeader: jwt?.payloadHeader,
    apiKeys,
    certificate: mtls && createCertificateIdentity(mtls, clock, trust.isProxy),
    mesh: workloads && createMeshIdentity(workloads, mesh),
    isOpen: rules.some(({ who, effect }) => who === 'anyone' && effect === 'allow'),
    counts: authCounts,
  })
  return {
    identify,
    access: new Access(rules, accessTools),
    trust,
    tokens,
    named: (name: string) => named(name, { apiKeys, mtls, mesh: workloads }),
    close: () => {
      tokens?.close()
      apiKeys?.close()
    },
  }
}

/** From 0 up to 1. */
const chance = () => randomInt(2 ** 32) / 2 ** 32

interface Known {
  readonly apiKeys: ApiKeys | undefined
  readonly mtls: WorkloadOptions | undefined
  readonly mesh: WorkloadOptions | undefined
}

/** Who would be called so, as far as the configuration says it: keys and workloads, but not who shows a token. */
function named(name: string, { apiKeys, ...workloads }: Known): Caller | undefined {
  const [, method = '', subject = ''] = /^(key|mtls|mesh):(.+)$/s.exec(name) ?? []
  if (method === 'key') return apiKeys?.callerOf(subject)
  const options = method === 'mtls' || method === 'mesh' ? workloads[method] : undefined
  if (!options) return undefined
  const spiffe = isSpiffeId(subject) ? subject : undefined
  const caller = createWorkloads(options, method as 'mtls' | 'mesh')({ spiffe, commonName: spiffe ? '' : subject })
  return isRefusal(caller) ? undefined : caller
}

type JwtOptions = NonNullable<Exclude<Config['auth'], 'none'>['jwt']>
/** A long list takes longer than a decision may. */
const revokedBudgetMs = 2_000

async function openTokens(options: JwtOptions, tools: SecurityTools, redis: Redis | undefined) {
  const { clock, authCounts, onProblem } = tools
  const key = options.revocation?.key
  const readRevoked = async (fromS: number, atMost: number): Promise<(readonly [string, number])[]> => {
    const reply = await redis!.call(
      (client) => client.zrangebyscore(key!, `(${fromS}`, '+inf', 'WITHSCORES', 'LIMIT', 0, atMost),
      revokedBudgetMs,
    )
    if ('problem' in reply) throw new Error(reply.problem)
    return Array.from({ length: reply.value.length / 2 }, (_, i) => [
      reply.value[2 * i]!,
      Number(reply.value[2 * i + 1]),
    ])
  }
  const onRefused = (fault: string) => authCounts.refused('jwt', fault)
  const tokens = await Tokens.create(options, { clock, random: chance, onProblem, onRefused, readRevoked })
  if (tokens instanceof Tokens) authCounts.tokens = () => tokens.state
  return tokens
}
