/** Whether requests get lost when gateways are replaced under load, one after another, as in a rolling restart. */
import { Agent, request as requestHttp, type IncomingMessage } from 'node:http'
import { connect, constants, type ClientHttp2Session } from 'node:http2'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { setTimeout as pause } from 'node:timers/promises'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeCertificates, type Certificates } from './support/certificates.ts'
import type { Wire } from './support/generator.ts'
import { GatewayProcess } from './support/processes.ts'

const wires = ['http', 'https', 'h2'] as const
const wireNames = { http: 'HTTP/1.1', https: 'HTTPS', h2: 'HTTP/2' }
const clients = 16
const betweenRequestsMs = 20

export const restart: Bench = {
  name: 'restart',
  question: 'requests lost while gateways are replaced under load, by clients that follow the protocol',
  measure,
}

interface Counts {
  requests: number
  failed: number
  /** Sent once more, because the server said that it had not looked at them. */
  retried: number
  /** Gateways that did not end by themselves, with exit code 0. */
  unclean: number
}

/** Where new connections go: what a balancer knows that looks at readiness. */
interface Balancer {
  port: number
  readonly ca: string | undefined
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const restarts = quick ? 3 : 20
  const certificates = makeCertificates()
  const counts: Record<string, Counts> = {}
  for (const wire of wires) {
    counts[wire] = await restartUnderLoad(wire, restarts, certificates)
    say(`  ${wireNames[wire]}: ${JSON.stringify(counts[wire])}`)
  }
  return report(counts, restarts)
}

async function restartUnderLoad(wire: Wire, restarts: number, certificates: Certificates): Promise<Counts> {
  const counts: Counts = { requests: 0, failed: 0, retried: 0, unclean: 0 }
  const start = () => {
    // The gateway's own time for connections to be told, and not the one of the other benches.
    return GatewayProcess.start({}, { drain: {} }, wire === 'http' ? undefined : certificates)
  }
  let current = await start()
  const balancer: Balancer = { port: current.port, ca: current.ca }
  const stop = new AbortController()
  const running = Array.from({ length: clients }, (_, i) => {
    const client = wire === 'h2' ? new Http2Client(balancer, counts) : new Http1Client(balancer)
    return keepAsking(client, counts, { stop: stop.signal, delayMs: (i * betweenRequestsMs) / clients })
  })
  await pause(1_000)
  for (let i = 0; i < restarts; i++) {
    const next = await start()
    balancer.port = next.port
    if ((await current.stop()) !== 0) counts.unclean++
    await current[Symbol.asyncDispose]()
    current = next
  }
  stop.abort()
  await Promise.all(running)
  await current[Symbol.asyncDispose]()
  return counts
}

interface Client {
  /** Settles with whether the request was answered 200. */
  ask(): Promise<boolean>
  close(): void
}

async function keepAsking(client: Client, counts: Counts, { stop, delayMs }: { stop: AbortSignal; delayMs: number }) {
  await pause(delayMs)
  while (!stop.aborted) {
    counts.requests++
    if (!(await client.ask())) counts.failed++
    await pause(betweenRequestsMs)
  }
  client.close()
}

const path = '/v2/models/breast-cancer/infer'
const headers = { 'content-type': 'application/json' }
const body = JSON.stringify({
  inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 30], data: Array.from({ length: 30 }, (_, i) => i) }],
})

/** Keeps one connection until an answer says that it was the last, or the server has closed it between two requests. */
class Http1Client implements Client {
  readonly #balancer: Balancer
  #agent: Agent | HttpsAgent | undefined
  #port = 0

  constructor(balancer: Balancer) {
    this.#balancer = balancer
  }

  ask(): Promise<boolean> {
    const { ca } = this.#balancer
    if (!this.#agent || Object.keys(this.#agent.freeSockets).length === 0) this.#connect()
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const options = { host: 'localhost', port: this.#port, path, method: 'POST', agent: this.#agent!, headers }
    const sent = (ca === undefined ? requestHttp : requestHttps)(options, (response: IncomingMessage) => {
      response.resume()
      response.on('end', () => resolve(response.statusCode === 200))
      response.on('error', () => resolve(false))
    })
    sent.on('error', () => resolve(false))
    sent.end(body)
    return promise
  }

  close(): void {
    this.#agent?.destroy()
  }

  #connect(): void {
    const { port, ca } = this.#balancer
    this.#agent?.destroy()
    this.#port = port
    const options = { keepAlive: true, maxSockets: 1 }
    this.#agent = ca === undefined ? new Agent(options) : new HttpsAgent({ ...options, ca })
  }
}

/** Keeps one session until GOAWAY, and sends again what GOAWAY says was not looked at (RFC 9113 section 6.8). */
class Http2Client implements Client {
  readonly #balancer: Balancer
  readonly #counts: Counts
  #session: ClientHttp2Session | undefined

  constructor(balancer: Balancer, counts: Counts) {
    this.#balancer = balancer
    this.#counts = counts
  }

  async ask(): Promise<boolean> {
    for (;;) {
      const outcome = await this.#askOnce()
      if (outcome !== 'refused') return outcome === 'answered'
      this.#counts.retried++
    }
  }

  close(): void {
    this.#session?.destroy()
  }

  #askOnce(): Promise<'answered' | 'refused' | 'failed'> {
    const { promise, resolve } = Promise.withResolvers<'answered' | 'refused' | 'failed'>()
    const session = this.#connected()
    const stream = session.request({ ':method': 'POST', ':path': path, ...headers })
    let status = 0
    stream.on('response', (head) => (status = head[':status'] ?? 0))
    stream.on('data', () => undefined)
    stream.on('error', () => undefined)
    stream.on('close', () => {
      if (status === 200 && stream.rstCode === constants.NGHTTP2_NO_ERROR) resolve('answered')
      else resolve(status === 0 && stream.rstCode === constants.NGHTTP2_REFUSED_STREAM ? 'refused' : 'failed')
    })
    stream.end(body)
    return promise
  }

  #connected(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session
    const { port, ca } = this.#balancer
    this.#session = connect(`https://localhost:${port}`, { ca })
    this.#session.on('error', () => undefined)
    return this.#session
  }
}

function report(counts: Record<string, Counts>, restarts: number): Report {
  const all = Object.values(counts)
  const failed = all.reduce((sum, each) => sum + each.failed, 0)
  const unclean = all.reduce((sum, each) => sum + each.unclean, 0)
  return {
    figures: { restarts, ...counts },
    targets: { failed: '0', unclean: '0' },
    pass: failed === 0 && unclean === 0,
    table: {
      head: ['protocol', 'restarts', 'requests', 'failed', 'sent again as GOAWAY says', 'unclean ends'],
      rows: wires.map((wire) => {
        const { requests, failed: lost, retried, unclean: forced } = counts[wire]!
        return [wireNames[wire], restarts, requests, lost, retried, forced].map(String)
      }),
    },
    notes: [
      `${clients} clients with a connection each send a request every ${betweenRequestsMs} ms. A new gateway starts, new connections` +
        ' go to it, and the old one gets SIGTERM. HTTP/1.1 clients leave when an answer says that it was the last; HTTP/2 clients' +
        ' leave at GOAWAY, and send those requests again that it says were not looked at.',
    ],
  }
}
