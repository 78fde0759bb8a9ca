/** What connections cost that do nothing, and what new ones cost those that do something. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeCertificates, type Certificates } from './support/certificates.ts'
import type { ClientOrder, Paced } from './support/clients.ts'
import type { Wire } from './support/generator.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf, type Spread } from './support/interleave.ts'
import { GatewayProcess, Peer, residentBytesOf } from './support/processes.ts'

const maxSlowdown = 2
/** Of an idle connection without TLS. */
const maxIdleBytes = 6_144
const newPerSecond = 100
const steady = { connections: 16, rate: 300 }
const health = { method: 'GET', path: '/v2/health/live', headers: {}, body: new Uint8Array(0) }
/** The floor answers everything that it can parse. */
const ask = { method: 'POST', path: '/v2/models/digits/infer', headers: { 'content-type': 'application/json' } }

interface Server {
  readonly pid: number
  readonly port: number
  readonly ca: string | undefined
}

interface Pace {
  readonly idle: number
  readonly slices: number
  readonly sliceMs: number
}

export const connections: Bench = {
  name: 'connections',
  question:
    'memory of an idle connection beside that of a bare Node server, and p99 of steady clients while others come and go',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace: Pace = quick ? { idle: 1_000, slices: 2, sliceMs: 2_000 } : { idle: 10_000, slices: 8, sliceMs: 5_000 }
  const certificates = makeCertificates()
  const memory: Record<string, number> = {}
  for (const wire of ['http', 'https'] as const) {
    memory[`${wire}Gateway`] = await idleBytes(() => startGateway(wire, certificates), pace.idle)
    memory[`${wire}Floor`] = await idleBytes(() => startFloor(wire, certificates), pace.idle)
    say(`  ${wire}: ${kib(memory[`${wire}Gateway`]!)} KiB an idle connection, over ${kib(memory[`${wire}Floor`]!)}`)
  }
  const gateway = await slowdown(() => startGateway('https', certificates), pace)
  say(`  ${newPerSecond} new TLS connections a second: p99 of steady clients times ${showSpread(gateway.ratio)}`)
  const floor = await slowdown(() => startFloor('https', certificates), pace)
  say(`  the same on a bare https server: times ${showSpread(floor.ratio)}`)
  return report(memory, { gateway, floor }, pace)
}

type Start = () => Promise<Server & AsyncDisposable>

function startGateway(wire: Wire, certificates: Certificates): Promise<GatewayProcess> {
  const edge = { connections: { maxPerAddress: 20_000, idleMs: 600_000 } }
  return GatewayProcess.start({}, edge, wire === 'http' ? undefined : certificates)
}

async function startFloor(wire: Wire, certificates: Certificates): Promise<Server & AsyncDisposable> {
  const peer = new Peer(new URL('support/floor.ts', import.meta.url))
  const port = await peer.ask<number>({ wire, answer: '{"live":true}', ...certificates })
  const ca = wire === 'http' ? undefined : certificates.ca
  return { pid: peer.pid, port, ca, [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose]() }
}

function newClients(): Peer {
  return new Peer(new URL('support/clients.ts', import.meta.url))
}

function tell(clients: Peer, order: ClientOrder): Promise<Paced> {
  return clients.ask<Paced>(order)
}

/** Bytes of the server's memory for each of so many idle connections. */
async function idleBytes(start: Start, count: number): Promise<number> {
  await using server = await start()
  await using clients = newClients()
  const { port, ca } = server
  const target = { port, ca }
  const body = Buffer.from('{}')
  const question = { ...health, method: 'POST', path: '/v2/models/none/infer', body }
  // A thousand and some that go again, so that what they need once is there.
  await tell(clients, { kind: 'passing', server: target, rate: 500, ms: 2_000, ask: question })
  await pause(2_000)
  const before = residentBytesOf(server.pid)
  await tell(clients, { kind: 'idle', server: target, connections: count, ask: question })
  await pause(2_000)
  return (residentBytesOf(server.pid) - before) / count
}

interface Slowdown {
  /** p99 with new connections over that without, of neighbouring slices. */
  readonly ratio: Spread
  readonly quietMs: number
  readonly busyMs: number
  readonly bad: number
}

async function slowdown(start: Start, { slices, sliceMs }: Pace): Promise<Slowdown> {
  await using server = await start()
  await using steadyClients = newClients()
  await using passingClients = newClients()
  const target = { port: server.port, ca: server.ca }
  const body = Buffer.from(JSON.stringify(digitRequest()))
  const order = { kind: 'steady', server: target, ...steady, ask: { ...ask, body } } as const
  const passing = { kind: 'passing', server: target, rate: newPerSecond, ask: { ...ask, body } } as const
  const quiet = () => tell(steadyClients, { ...order, ms: sliceMs })
  const busy = async () => {
    const [seen, passed] = await Promise.all([
      tell(steadyClients, { ...order, ms: sliceMs }),
      tell(passingClients, { ...passing, ms: sliceMs }),
    ])
    return { ...seen, bad: seen.bad + passed.bad }
  }
  await busy()
  const pairs: { quiet: Paced; busy: Paced }[] = []
  for (let i = 0; i < slices; i++) {
    if (i % 2 === 0) pairs.push({ quiet: await quiet(), busy: await busy() })
    else {
      const first = await busy()
      pairs.push({ quiet: await quiet(), busy: first })
    }
  }
  return {
    ratio: spreadOf(pairs.map((pair) => pair.busy.p99Ms / pair.quiet.p99Ms)),
    quietMs: medianOf(pairs.map((pair) => pair.quiet.p99Ms)),
    busyMs: medianOf(pairs.map((pair) => pair.busy.p99Ms)),
    bad: pairs.reduce((sum, pair) => sum + pair.quiet.bad + pair.busy.bad, 0),
  }
}

function digitRequest() {
  const data = Array.from({ length: 784 }, (_, i) => (i * 7) % 256)
  return { inputs: [{ name: 'image', datatype: 'UINT8', shape: [1, 1, 28, 28], data }] }
}

function kib(bytes: number): string {
  return (bytes / 1_024).toFixed(1)
}

interface Slowdowns {
  readonly gateway: Slowdown
  readonly floor: Slowdown
}

function report(memory: Record<string, number>, { gateway, floor }: Slowdowns, { idle }: Pace): Report {
  const row = (name: string, wire: string) => [name, kib(memory[`${wire}Gateway`]!), kib(memory[`${wire}Floor`]!)]
  const shown = ({ ratio, quietMs, busyMs }: Slowdown) =>
    `${showSpread(ratio)}; ${quietMs.toFixed(1)} to ${busyMs.toFixed(1)} ms`
  return {
    figures: {
      idleKib: Object.fromEntries(Object.entries(memory).map(([name, bytes]) => [name, round(bytes / 1_024, 1)])),
      slowdown: roundSpread(gateway.ratio),
      floorSlowdown: roundSpread(floor.ratio),
      bad: gateway.bad + floor.bad,
    },
    targets: { 'idleKib.httpGateway': `<= ${maxIdleBytes / 1_024}`, slowdown: `<= ${maxSlowdown}`, bad: '0' },
    pass: memory['httpGateway']! <= maxIdleBytes && gateway.ratio.median <= maxSlowdown && gateway.bad === 0,
    table: {
      head: ['', 'gateway', 'bare Node server'],
      rows: [
        row('KiB an idle HTTP connection', 'http'),
        row('KiB an idle HTTPS connection', 'https'),
        [
          `p99 of steady clients with ${newPerSecond} new TLS connections a second, over that without`,
          shown(gateway),
          shown(floor),
        ],
      ],
    },
    notes: [
      `Memory is what ${idle} connections add to the process, each after one request. Steady clients: ${steady.rate} requests a` +
        ` second over ${steady.connections} connections, timed from when they were due; new ones do a full handshake, send one` +
        ' request and close. The gateway runs a model, the bare server parses and answers.',
    ],
  }
}
