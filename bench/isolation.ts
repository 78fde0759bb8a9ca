/** What the deaths of workers do to those who ask: the models that die, and their neighbours. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { childrenOf, gauge, workersAre } from './support/gauges.ts'
import { causes, huge, kinds, report, showPair } from './support/isolation/report.ts'
import type { Cause, Death, Deaths, Events, Groups, Kind, Pair, Slice } from './support/isolation/report.ts'
import { sendOnce } from './support/load.ts'
import type { HttpRequest } from './support/requests.ts'
import type { ClientsOrder } from './support/numbered.ts'
import {
  countModel,
  hugeRequest,
  impossibleRequest,
  lookupModel,
  numberedRequest,
  numbersModel,
  wordsModel,
  workingModel,
} from './support/numbers.ts'
import type { Asked } from './support/numbers.ts'
import { GatewayProcess, Peer } from './support/processes.ts'
import { makeStore, served } from './support/store.ts'

export const isolation: Bench = {
  name: 'isolation',
  question: 'what 100 deaths of workers under load do to the requests for them, and to the latency of other models',
  measure,
}

interface Pace {
  /** Of each kind. */
  readonly pairs: number
  /** What happens in a slice, and how often. */
  readonly events: Readonly<Record<Kind, Events>>
  readonly betweenMs: number
}

/** Of a heap that is exhausted there are two deaths: the request that does it is tried twice. */
const fullPace: Pace = {
  pairs: 4,
  events: { process: { SIGKILL: 6, SIGSEGV: 6, SIGSTOP: 4 }, thread: { heap: 5, exception: 5 } },
  betweenMs: 500,
}
const quickPace: Pace = {
  pairs: 2,
  events: { process: { SIGKILL: 1, SIGSEGV: 1, SIGSTOP: 1 }, thread: { heap: 2, exception: 2 } },
  betweenMs: 250,
}

/** There is room for it; and no connection ends because it was used so much. */
const edge = { body: { maxBytes: 2 ** 27 }, connections: { maxRequests: 1_000_000_000 } }

const asked = {
  words: { model: 'thread', what: 'words', rows: 1 },
  numbers: { model: 'process', what: 'numbers', rows: 1 },
  lookup: { model: 'faulty', what: 'lookup', rows: 1 },
} as const satisfies Record<string, Asked>
const victimOf: Readonly<Record<Cause, Asked>> = {
  heap: asked.words,
  SIGKILL: asked.numbers,
  SIGSEGV: asked.numbers,
  SIGSTOP: asked.numbers,
  exception: asked.lookup,
}

const dying = { pauseMs: 20 }
const load: readonly ClientsOrder[] = [
  { group: 'dying', clients: 4, asked: asked.words, pace: dying },
  { group: 'dying', clients: 2, asked: { ...asked.words, rows: 40 }, pace: dying },
  { group: 'dying', clients: 4, asked: asked.numbers, pace: dying },
  { group: 'dying', clients: 2, asked: { ...asked.numbers, rows: 40 }, pace: dying },
  { group: 'dying', clients: 2, asked: asked.lookup, pace: dying },
  { group: 'dying', clients: 1, asked: { ...asked.lookup, rows: 40 }, pace: dying },
  { group: 'apart', clients: 8, asked: { model: 'apart', what: 'numbers', rows: 1 }, pace: { perSecond: 200 } },
  { group: 'apart', clients: 4, asked: { model: 'apart', what: 'numbers', rows: 200 }, pace: { perSecond: 20 } },
  { group: 'beside', clients: 8, asked: { model: 'beside', what: 'numbers', rows: 1 }, pace: { perSecond: 100 } },
]

interface Rig {
  readonly gateway: GatewayProcess
  readonly clients: Peer
  readonly pace: Pace
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? quickPace : fullPace
  const [process, beside, apart] = [workingModel, numbersModel, numbersModel]
  const models = { thread: wordsModel, roomy: countModel, process, faulty: lookupModel, beside, apart }
  await using store = await makeStore(models)
  await using gateway = await GatewayProcess.start(settingsFor(Object.keys(models), store.path), edge)
  await using clients = new Peer(new URL('support/numbered.ts', import.meta.url))
  await clients.ask({ kind: 'open', port: gateway.port, clients: load })
  const rig = { gateway, clients, pace }
  // What is not compiled yet is slow, and is not what is asked.
  await sliceOf(rig, () => pause(quick ? 1_000 : 5_000).then(() => []))
  const pairs: Pair[] = []
  for (const kind of kinds) {
    say(`  deaths of a ${kind}`)
    // How long a slice with deaths takes is not known before the first.
    let ms: number | undefined
    for (let i = 0; i < pace.pairs; i++) {
      const early = ms !== undefined && i % 2 === 1 ? await sliceOf(rig, () => stayCalm(rig, kind, ms!)) : undefined
      const deadly = await sliceOf(rig, () => bringDeath(rig, kind))
      ms = deadly.ms
      const pair = { kind, deadly, calm: early ?? (await sliceOf(rig, () => stayCalm(rig, kind, ms!))) }
      pairs.push(pair)
      say(showPair(pair))
    }
  }
  return report(pairs, await deathsIn(gateway))
}

function settingsFor(names: readonly string[], path: string): object {
  const pool = 'fragile'
  const more = {
    thread: { pool, worker: { heapMb: huge.heapMb } },
    roomy: { pool },
    process: { pool, worker: { isolation: 'process' } },
    faulty: { pool },
    beside: { pool },
  }
  return {
    models: served(names, more),
    store: { path },
    runtime: { executors: 1, pools: { [pool]: { executors: 1 } } },
  }
}

async function sliceOf({ clients }: Rig, during: () => Promise<readonly Death[]>): Promise<Slice> {
  await clients.ask({ kind: 'start' })
  const startedAt = performance.now()
  const events = await during()
  const ms = performance.now() - startedAt
  return { groups: await clients.ask<Groups>({ kind: 'stop' }), ms, events }
}

/** As large requests as in the other slices, to a worker that has room for them. */
async function stayCalm({ gateway, pace }: Rig, kind: Kind, ms: number): Promise<readonly Death[]> {
  const endAt = performance.now() + ms
  const { heap = 0 } = pace.events[kind]
  for (let i = 0; i < heap; i++) {
    await pause(ms / (heap + 1))
    await sendOnce(gateway, hugeRequest('roomy', huge.words, huge.bytes))
  }
  await pause(Math.max(0, endAt - performance.now()))
  return []
}

async function bringDeath({ gateway, pace }: Rig, kind: Kind): Promise<readonly Death[]> {
  const events: Death[] = []
  for (const cause of scheduleOf(pace.events[kind])) {
    await pause(pace.betweenMs)
    const since = await bring(gateway, cause)
    await untilServed(gateway, victimOf[cause])
    events.push({ cause, ms: performance.now() - since })
  }
  return events
}

/** In turns, as long as there are any left of each. */
function scheduleOf(events: Events): Cause[] {
  const rounds = Math.max(...Object.values(events))
  return Array.from({ length: rounds }, (_, i) => causes.filter((cause) => (events[cause] ?? 0) > i)).flat()
}

/** Returns when it was, or when the last of them was. */
async function bring(gateway: GatewayProcess, cause: Cause): Promise<number> {
  if (cause === 'heap') await failing(gateway, hugeRequest(asked.words.model, huge.words, huge.bytes))
  else if (cause === 'exception') await failing(gateway, impossibleRequest(asked.lookup.model))
  else {
    await workersAre(gateway, asked.numbers.model, 1)
    const [child, ...others] = childrenOf(gateway.pid)
    if (child === undefined || others.length > 0) throw new Error('there is not one worker process, to be killed')
    const now = performance.now()
    process.kill(child, cause)
    return now
  }
  return performance.now()
}

async function failing(gateway: GatewayProcess, request: HttpRequest): Promise<void> {
  const why = await sendOnce(gateway, request).then(
    () => 'it was answered with 200',
    (error: Error) => error.message,
  )
  if (!why.includes('model_failed')) throw new Error(`a request that should fail by its model's fault did not: ${why}`)
}

/** Asks until there is an answer with 200. */
async function untilServed(gateway: GatewayProcess, victim: Asked): Promise<void> {
  const { request } = numberedRequest(victim, 0)
  const stop = new AbortController()
  const late = pause(30_000, true, { signal: stop.signal }).catch(() => false)
  for (;;) {
    const answer = sendOnce(gateway, request).then(
      () => 'served',
      () => 'refused',
    )
    const came = await Promise.race([answer, late.then(() => 'late')])
    if (came === 'late') throw new Error(`"${victim.model}" is not served again`)
    if (came === 'served') break
    await pause(5)
  }
  stop.abort()
}

async function deathsIn(gateway: GatewayProcess): Promise<Deaths> {
  const of = (model: string) => gauge(gateway, 'penstock_worker_deaths_total', model)
  const others = await Promise.all(['roomy', 'faulty', 'beside', 'apart'].map(of))
  return { thread: await of('thread'), process: await of('process'), others: others.reduce((sum, each) => sum + each) }
}
