/** What parts of a configuration say that cannot be meant together, or that would let in whom nobody meant to. */
import type { Settings } from './config.ts'
import { isLoopback } from './core/address.ts'
import { pathOf } from './routing/options.ts'
import { defaultPool, shadowPool } from './runtime/options.ts'

/** Takes what is wrong with the value at a path. */
type Complain = (path: (string | number)[], message: string, input?: unknown) => void

export function contradictions(config: Settings, complain: Complain): void {
  ofListeners(config, complain)
  ofAuth(config, complain)
  ofMesh(config, complain)
  ofRedis(config, complain)
  ofPools(config, complain)
  ofRoutes(config, complain)
  ofSplits(config, complain)
}

function ofListeners({ edge, metrics, admin, auth }: Settings, complain: Complain): void {
  const ports = Object.entries({ edge, metrics, admin }).map(([name, { port }]) => ({ name, port }))
  for (const [i, { name, port }] of ports.entries()) {
    const taken = ports.slice(0, i).find((other) => other.port === port && port !== 0)
    if (taken) complain([name, 'port'], `${taken.name}.port is ${port} too: set another`, port)
  }
  const { clientCa, clientAuth } = edge.tls ?? {}
  const isClosed = clientCa !== undefined && clientAuth === 'required'
  if (auth === 'none' && !isLoopback(edge.host) && !isClosed) {
    const message = '`auth: none` lets everybody in, so it serves on loopback only, or clients with a certificate'
    complain(['edge', 'host'], `${message}: set 127.0.0.1, or \`edge.tls.clientCa\``, edge.host)
  }
  if (!isLoopback(admin.host) && (auth === 'none' || !(auth.jwt ?? auth.apiKeys))) {
    const message = 'beyond loopback the admin listener asks who is calling: set 127.0.0.1, or `auth.jwt`'
    complain(['admin', 'host'], `${message} or \`auth.apiKeys\``, admin.host)
  }
}

function ofAuth({ auth, edge, admin, mesh }: Settings, complain: Complain): void {
  if (auth === 'none') return
  const { jwt, apiKeys, mtls, mesh: workloads, access } = auth
  const isOpen = access.some(({ who, effect }) => who === 'anyone' && effect === 'allow')
  if (!jwt && !apiKeys && !mtls && !workloads && !isOpen)
    complain(['auth'], 'nobody could call: set `jwt`, `apiKeys`, `mtls` or `mesh`, or `auth: none`', auth)
  if (mtls && edge.tls?.clientCa === undefined)
    complain(['auth', 'mtls'], 'needs `edge.tls.clientCa`: who else would vouch for certificates?', mtls)
  if (!jwt?.issuers.some(({ kind }) => kind === 'development')) return
  const why = 'tokens of the development issuer are for this machine only: set another issuer in `auth.jwt`, or'
  for (const [name, { host }] of Object.entries({ edge, admin }))
    if (!isLoopback(host)) complain([name, 'host'], `${why} 127.0.0.1 here`, host)
  if (mesh.mode !== 'none') complain(['mesh', 'mode'], `${why} none here`, mesh.mode)
  if (edge.proxyProtocol.length > 0) complain(['edge', 'proxyProtocol'], `${why} [] here`, edge.proxyProtocol)
}

function ofMesh({ auth, mesh }: Settings, complain: Complain): void {
  if (auth === 'none') return
  const isTrusted = mesh.mode !== 'none' && mesh.mode !== 'ambient'
  const hasIdentity = isTrusted && (mesh.mode !== 'ambient-waypoint' || mesh.waypointXfcc)
  if (auth.mesh && !hasIdentity)
    complain(['auth', 'mesh'], `with \`mesh.mode: ${mesh.mode}\` no proxy vouches for workloads`, auth.mesh)
  if (auth.jwt?.payloadHeader !== undefined && !isTrusted)
    complain(['auth', 'jwt', 'payloadHeader'], `with \`mesh.mode: ${mesh.mode}\` no proxy vouches for it`)
}

function ofRedis({ auth, limits, redis, state }: Settings, complain: Complain): void {
  if (redis) return
  const why = 'needs `redis`: set its `url`'
  if (auth !== 'none' && auth.jwt?.revocation) complain(['auth', 'jwt', 'revocation'], why)
  if (state.store === 'redis') complain(['state', 'store'], why, state.store)
  for (const [i, rule] of limits.rules.entries())
    if ('store' in rule && rule.store === 'redis') complain(['limits', 'rules', i, 'store'], why, rule.store)
}

function ofPools({ models, runtime }: Settings, complain: Complain): void {
  const own = { [defaultPool]: 'executors', [shadowPool]: 'shadowExecutors' }
  for (const [name, key] of Object.entries(own))
    if (runtime.pools[name])
      complain(['runtime', 'pools', name], `this pool has \`runtime.${key}\`: take another name`, undefined)
  for (const [name, { pool }] of Object.entries(models)) {
    const pools = [defaultPool, ...Object.keys(runtime.pools)]
    if (!pools.includes(pool)) complain(['models', name, 'pool'], `expected one of ${pools.join(', ')}`, pool)
  }
}

function ofRoutes({ routes }: Settings, complain: Complain): void {
  for (const [i, { name, match }] of routes.entries()) {
    const before = routes.slice(0, i)
    if (before.some((other) => other.name === name))
      complain(['routes', i, 'name'], `"${name}" is the name of two routes`, name)
    const twin = before.find((other) => other.match.host === match.host && pathOf(other) === pathOf(routes[i]!))
    const message = 'takes the same requests: give one of them another host or path'
    if (twin) complain(['routes', i, 'match'], `"${twin.name}" ${message}`, match)
  }
}

function ofSplits({ models }: Settings, complain: Complain): void {
  for (const [name, { version, split, httpRoute, experiment }] of Object.entries(models)) {
    const says = (key: string, message: string) => complain(['models', name, key], message)
    if (split && httpRoute) says('httpRoute', '`split` says it already: leave one of them out')
    if (version !== undefined && (split ?? httpRoute)) says('version', 'the split decides: leave it out')
    if (experiment && !split && !httpRoute) says('experiment', 'needs a `split` with the arms to compare')
  }
}
