/**
 * Clients with a life of their own, in a process of its own: idle ones that stay, steady ones that send at a pace whatever
 * the answers take, and ones that come, ask once and go.
 */
import { Agent, request as requestHttp, type ClientRequest } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { setTimeout as pause } from 'node:timers/promises'

interface Server {
  readonly port: number
  /** Who signed the server's certificate, if it speaks TLS. */
  readonly ca?: string | undefined
}

interface Ask {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

export type ClientOrder =
  /** Opens connections, sends one request on each, and keeps them. */
  | { readonly kind: 'idle'; readonly server: Server; readonly connections: number; readonly ask: Ask }
  /** Sends `rate` requests a second over as many connections as there are, for a while; says how long they took. */
  | {
      readonly kind: 'steady'
      readonly server: Server
      readonly connections: number
      readonly rate: number
      readonly ms: number
      readonly ask: Ask
    }
  /** Opens `rate` connections a second for a while, each with a handshake of its own, for one request. */
  | { readonly kind: 'passing'; readonly server: Server; readonly rate: number; readonly ms: number; readonly ask: Ask }

export interface Paced {
  readonly requests: number
  readonly bad: number
  readonly p50Ms: number
  readonly p99Ms: number
}

type Agents = Agent | HttpsAgent

function agentFor({ ca }: Server, sockets: number): Agents {
  const options = { keepAlive: true, maxSockets: sockets, maxFreeSockets: sockets, scheduling: 'fifo' as const }
  return ca === undefined ? new Agent(options) : new HttpsAgent({ ...options, ca, maxCachedSessions: 0 })
}

/** Sends a request; settles with whether it was answered 200. */
function send({ port, ca }: Server, { method, path, headers, body }: Ask, agent: Agents): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const length = body.byteLength > 0 ? { 'content-length': String(body.byteLength) } : {}
  const options = { host: 'localhost', port, method, path, headers: { ...headers, ...length }, agent }
  const sent: ClientRequest = (ca === undefined ? requestHttp : requestHttps)(options, (response) => {
    response.resume()
    response.on('end', () => resolve(response.statusCode === 200))
    response.on('error', () => resolve(false))
  })
  sent.on('error', () => resolve(false))
  sent.end(body)
  return promise
}

/** Agents that hold connections open. */
const kept: Agents[] = []
const atOnce = 50

async function stayIdle({ server, connections, ask }: Extract<ClientOrder, { kind: 'idle' }>): Promise<Paced> {
  let bad = 0
  for (let open = 0; open < connections; open += atOnce) {
    const fresh = Array.from({ length: Math.min(atOnce, connections - open) }, () => agentFor(server, 1))
    kept.push(...fresh)
    const good = await Promise.all(fresh.map((agent) => send(server, ask, agent)))
    bad += good.filter((each) => !each).length
  }
  return { requests: connections, bad, p50Ms: 0, p99Ms: 0 }
}

async function sendSteadily(order: Extract<ClientOrder, { kind: 'steady' }>): Promise<Paced> {
  const { server, connections, rate, ms, ask } = order
  const agent = agentFor(server, connections)
  await Promise.all(Array.from({ length: connections }, () => send(server, ask, agent)))
  const took = await paced(rate, ms, () => send(server, ask, agent))
  agent.destroy()
  return took
}

async function comeAndGo({ server, rate, ms, ask }: Extract<ClientOrder, { kind: 'passing' }>): Promise<Paced> {
  return paced(rate, ms, async () => {
    const agent = agentFor(server, 1)
    const good = await send(server, ask, agent)
    agent.destroy()
    return good
  })
}

/** Times count from when a request was due, not from when it was sent: whoever waits for its turn waits too. */
async function paced(rate: number, ms: number, one: () => Promise<boolean>): Promise<Paced> {
  const latencies: number[] = []
  const running: Promise<void>[] = []
  let bad = 0
  const timed = async (dueAt: number) => {
    if (!(await one())) bad++
    latencies.push(performance.now() - dueAt)
  }
  const startedAt = performance.now()
  const count = Math.round((rate * ms) / 1_000)
  for (let i = 0; i < count; i++) {
    const dueAt = startedAt + (i * 1_000) / rate
    const early = dueAt - performance.now()
    if (early > 1) await pause(early)
    running.push(timed(dueAt))
  }
  await Promise.all(running)
  const sorted = Float64Array.from(latencies).toSorted()
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!
  return { requests: count, bad, p50Ms: at(0.5), p99Ms: at(0.99) }
}

function obey(order: ClientOrder): Promise<Paced> {
  if (order.kind === 'idle') return stayIdle(order)
  return order.kind === 'steady' ? sendSteadily(order) : comeAndGo(order)
}

process.on('message', (order) => {
  void obey(order as ClientOrder).then((reply) => process.send!(reply))
})
