/** What attacks do to the gateway's event loop, to its memory, and to clients beside them that mean no harm. */
import { setTimeout as pause } from 'node:timers/promises'
import { goodRequest, hostileStore } from '../test/support/hostile-cases.ts'
import { folderWith } from '../test/support/gateway.ts'
import type { AttackOrder } from './support/attacker.ts'
import { attacks, type Attack } from './support/attacks.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeCertificates, type Certificates } from './support/certificates.ts'
import type { ClientOrder, Paced } from './support/clients.ts'
import { GatewayProcess, Peer, pin, residentBytesOf } from './support/processes.ts'

const maxStallMs = 20
const maxGrowthMiB = 32
const neighbours = { connections: 4, rate: 50 }
/** Slow clients are cut off while the attack lasts. */
const edge = {
  connections: { stallMs: 1_500 },
  head: { timeoutMs: 1_500 },
  body: { timeoutMs: 1_500 },
  http2: { cleartext: true },
}

export const hostile: Bench = {
  name: 'hostile',
  question: 'stalls of the event loop, memory, and failures of other clients under attack',
  measure,
}

interface Plan {
  readonly rounds: number
  readonly ms: number
}

interface Outcome {
  readonly name: string
  readonly count: number
  /** The longest of each round. */
  readonly stallsMs: readonly number[]
  /** From the end of the first round to that of the last. */
  readonly growthMiB: number
  readonly neighbours: number
  readonly bad: number
  readonly p99Ms: number
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const plan: Plan = quick ? { rounds: 2, ms: 2_000 } : { rounds: 4, ms: 5_000 }
  const certificates = makeCertificates()
  const outcomes: Record<Listener, Outcome[]> = {
    plain: await underAttack(undefined, plan, say),
    tls: await underAttack(certificates, plan, say),
  }
  return report(outcomes, plan)
}

type Listener = 'plain' | 'tls'

async function underAttack(certificates: Certificates | undefined, plan: Plan, say: BenchOptions['say']) {
  const settings = { store: { path: await folderWith(hostileStore) }, runtime: { executors: 1 } }
  await using gateway = await GatewayProcess.start(settings, edge, certificates)
  await using clients = new Peer(new URL('support/clients.ts', import.meta.url))
  await using attacker = new Peer(new URL('support/attacker.ts', import.meta.url))
  // Else it is the scheduler of the machine that is measured.
  pin(gateway.pid, '0')
  for (const { pid } of [clients, attacker]) pin(pid, '1')
  const scene: Scene = { gateway, clients, attacker }
  const nothing: Attack = { name: 'nothing', atOnce: 0, run: () => Promise.resolve() }
  const fitting = attacks.filter(({ needsTls = false }) => certificates !== undefined || !needsTls)
  const outcomes: Outcome[] = []
  for (const attack of [nothing, ...fitting]) {
    const outcome = await sufferAll(scene, attack, plan)
    outcomes.push(outcome)
    say(`  ${certificates ? 'TLS' : 'plain'}: ${JSON.stringify(outcome)}`)
  }
  return outcomes
}

interface Scene {
  readonly gateway: GatewayProcess
  readonly clients: Peer
  readonly attacker: Peer
}

async function sufferAll(scene: Scene, attack: Attack, { rounds, ms }: Plan): Promise<Outcome> {
  const seen: Round[] = []
  for (let i = 0; i < rounds; i++) seen.push(await suffer(scene, attack, ms))
  const sum = (of: (round: Round) => number) => seen.reduce((all, round) => all + of(round), 0)
  return {
    name: attack.name,
    count: sum(({ count }) => count),
    stallsMs: seen.map(({ stallMs }) => stallMs),
    growthMiB: (seen.at(-1)!.residentBytes - seen[0]!.residentBytes) / 2 ** 20,
    neighbours: sum(({ paced }) => paced.requests),
    bad: sum(({ paced }) => paced.bad),
    p99Ms: Math.max(...seen.map(({ paced }) => paced.p99Ms)),
  }
}

interface Round {
  readonly count: number
  readonly stallMs: number
  readonly residentBytes: number
  readonly paced: Paced
}

async function suffer({ gateway, clients, attacker }: Scene, { name, atOnce }: Attack, ms: number): Promise<Round> {
  const { port, ca } = gateway
  const { path, headers = {}, body } = goodRequest
  const ask = { method: 'POST', path, headers, body: Buffer.from(body as string) }
  const order: ClientOrder = { kind: 'steady', server: { port, ca }, ...neighbours, ms, ask }
  const attack: AttackOrder = { name, victim: { port, ca }, ms }
  // What it says is the longest since it was asked last.
  await gateway.longestStallMs()
  const [paced, count] = await Promise.all([
    clients.ask<Paced>(order),
    atOnce === 0 ? Promise.resolve(0) : attacker.ask<number>(attack),
  ])
  const stallMs = await gateway.longestStallMs()
  await pause(500)
  return { count, stallMs, residentBytes: residentBytesOf(gateway.pid), paced }
}

function report(outcomes: Record<Listener, Outcome[]>, { rounds, ms }: Plan): Report {
  const all = Object.values(outcomes).flat()
  const worst = (of: (outcome: Outcome) => number) => Math.max(...all.map(of))
  const figures = {
    attacks: all.length - 2,
    stallMs: worst(stallOf),
    growthMiB: worst(({ growthMiB }) => growthMiB),
    bad: all.reduce((sum, { bad }) => sum + bad, 0),
  }
  return {
    figures,
    targets: { stallMs: `<= ${maxStallMs}`, growthMiB: `<= ${maxGrowthMiB}`, bad: '0' },
    pass: figures.stallMs <= maxStallMs && figures.growthMiB <= maxGrowthMiB && figures.bad === 0,
    table: {
      head: [
        'attack',
        'listener',
        'times',
        'stall (ms)',
        'worst (ms)',
        'memory (MiB)',
        'neighbours failed',
        'their p99 (ms)',
      ],
      rows: Object.entries(outcomes).flatMap(([listener, each]) => each.map((outcome) => row(outcome, listener))),
    },
    notes: [
      `${rounds} rounds of ${ms / 1_000} s of each attack, as fast as one core makes them, on a gateway with the other core. Stall: the` +
        ' longest time that the event loop came late in a round, the shortest of the rounds, because what an attack does it does' +
        ' in each, and what the machine does it does in some; beside it the longest of all rounds. Memory: what the process has' +
        ' grown from the end of the first round to that of the last. Neighbours: ' +
        `${neighbours.rate} requests a second over ${neighbours.connections} connections, timed from when they were due; they share the attackers' core.`,
    ],
  }
}

function stallOf({ stallsMs }: Outcome): number {
  return Math.min(...stallsMs)
}

function row(outcome: Outcome, listener: string): string[] {
  const { name, count, stallsMs, growthMiB, neighbours: sent, bad, p99Ms } = outcome
  const stalls = [stallOf(outcome), Math.max(...stallsMs)].map((stall) => stall.toFixed(1))
  return [name, listener, String(count), ...stalls, growthMiB.toFixed(1), `${bad} of ${sent}`, p99Ms.toFixed(1)]
}
