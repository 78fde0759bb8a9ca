/** Who gets in and how much of what, put together from a configuration: identification, access, limits, trust in proxies. */
import { randomInt } from 'node:crypto'
import { Access } from './auth/access.ts'
import { ApiKeys } from './auth/api-keys.ts'
import { createIdentify, everybody, type Identify } from './auth/auth.ts'
import type { Mint } from './auth/jwt/issuer.ts'
import { Tokens } from './auth/jwt/tokens.ts'
import { createMeshIdentity } from './auth/mesh-identity.ts'
import { createCertificateIdentity } from './auth/mtls.ts'
import type { Config } from './config.ts'
import type { Clock } from './core/clock.ts'
import type { Mistake } from './core/document.ts'
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
  /** Makes tokens, where there is an issuer for development. */
  readonly mint: Mint | undefined
  close(): Promise<void>
}

export interface SecurityTools {
  readonly clock: Clock
  readonly authCounts: AuthCounts
  readonly limitCounts: LimitCounts
  /** Told of what cannot be read or reached, and of what can again. */
  readonly onProblem: (problem: Mistake) => void
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
  return { ...rest, limits, mint: tokens?.mint, close: closeAll }
}

async function openRedis({ redis: options }: Config, { clock, limitCounts, onProblem }: SecurityTools) {
  if (!options) return undefined
  const onChange = (isUp: boolean, problem: string) => {
    onProblem({ file: options.url, message: isUp ? 'Redis can be asked' : `Redis cannot be asked: ${problem}` })
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
  if (auth === 'none') {
    const access = new Access(undefined, false, absence)
    return { identify: everybody, access, trust: createTrust(mesh, { untrusted }), tokens: undefined, close: () => {} }
  }
  const { jwt, apiKeys: keyOptions, mtls, mesh: workloads, access: rules, unseen } = auth
  const trust = createTrust(mesh, { untrusted, payloadHeader: jwt?.payloadHeader })
  const tokens = jwt && (await openTokens(jwt, tools, redis))
  if (tokens && 'mistakes' in tokens) return tokens
  const apiKeys = keyOptions && (await ApiKeys.create(keyOptions, { clock, onProblem }))
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
    access: new Access(rules, unseen === 'not_found', absence),
    trust,
    tokens,
    close: () => {
      tokens?.close()
      apiKeys?.close()
    },
  }
}

/** From 0 up to 1. */
const chance = () => randomInt(2 ** 32) / 2 ** 32

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
