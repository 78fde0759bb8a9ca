/** A server under more load than it can serve, in turns with the most it can. */
import { medianOf, spreadOf, type Spread } from './interleave.ts'
import { LoadGenerator, type Load } from './load.ts'
import type { HttpRequest } from './requests.ts'
import type { RunReport } from './open-loop/generator.ts'
import { goodputOf, OpenLoadGenerator, showRun, soundly, sumOf, type Count, type OpenLoad } from './open-load.ts'
import { GatewayProcess, residentBytesOf } from './processes.ts'

/** Enough that the batches of a closed loop are full. */
const closedConnections = 64
const openConnections = 768

/** A gateway, and both kinds of load on it with the same request. */
export interface Rig extends AsyncDisposable {
  readonly gateway: GatewayProcess
  readonly closed: Load
  readonly open: OpenLoad
}

export async function startRig(
  settings: object,
  request: HttpRequest,
  { deadlineMs, waits }: { readonly deadlineMs: number; readonly waits: boolean },
): Promise<Rig> {
  await using stack = new AsyncDisposableStack()
  const gateway = stack.use(await startGateway(settings))
  const closed = await stack.use(new LoadGenerator()).open(gateway, closedLines, request)
  const callers = [{ address: '127.0.0.1', connections: openConnections, waits }]
  const open = await stack.use(new OpenLoadGenerator()).open(gateway, { ...request, deadlineMs, callers })
  const kept = stack.move()
  return { gateway, closed, open, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}

/** Connections are not what is measured: none should end because it was used so much, or for so long not at all. */
export function startGateway(settings: object): Promise<GatewayProcess> {
  const connections = { maxRequests: 1_000_000_000, idleMs: 3_600_000 }
  return GatewayProcess.start(settings, { connections, head: { timeoutMs: 3_600_000 } })
}

const closedLines = { wire: 'http', connections: closedConnections } as const

/** Requests a second of a closed loop, which is full from its first moment to its last. */
export async function throughput(load: Load, ms: number): Promise<number> {
  const before = performance.now()
  const { work, bad } = await load.slice(ms)
  if (bad > 0) throw new Error('requests of the closed loop fail, so there is no capacity to compare with')
  return (work * 1_000) / (performance.now() - before)
}

export interface SurgePace {
  readonly pairs: number
  readonly referenceMs: number
  readonly surgeMs: number
  readonly warmUpMs: number
}

export interface SurgePlan extends Rig {
  readonly pace: SurgePace
  /** The most that can be served, measured anew: requests a second. */
  readonly reference: () => Promise<number>
  /** How many times the most is asked for; the most is what was measured so far, if it is not known already. */
  readonly factor: number
  readonly most?: number
  readonly say: (line: string) => void
}

export interface Surge {
  /** Goodput over the most that can be served. */
  readonly goodput: Spread
  readonly mostPerS: number
  readonly offeredPerS: number
  /** 99th percentile of all with 200. */
  readonly admittedP99Ms: Spread
  /** From the time they were sent. NaN if none was refused. */
  readonly refusalP50Ms: Spread
  readonly refusalP99Ms: number
  readonly refusedShare: number
  /** Neither served in time nor refused at once: 504, too late, anything else. */
  readonly neitherShare: number
  readonly notSentShare: number
  /** Resident memory of the gateway at the end, over that when the overload began. */
  readonly memory: number
  readonly voided: number
}

interface Pair {
  readonly most: number
  readonly run: RunReport
}

export async function surge(plan: SurgePlan): Promise<Surge> {
  const { pace, reference, gateway } = plan
  const known = [await reference()]
  let voided = 0
  const overload = async (ms: number) => {
    const rate = plan.factor * (plan.most ?? medianOf(known))
    const sound = await soundly(() => plan.open.run({ ms, ratesPerSecond: [rate] }))
    voided += sound.voided
    return sound.report
  }
  await overload(pace.warmUpMs)
  const before = residentBytesOf(gateway.pid)
  const pairs: Pair[] = []
  while (pairs.length < pace.pairs) {
    const early = pairs.length % 2 === 0 ? await reference() : undefined
    if (early !== undefined) known.push(early)
    const run = await overload(pace.surgeMs)
    const most = early ?? (await reference())
    if (early === undefined) known.push(most)
    pairs.push({ most, run })
    plan.say(`  ${(goodputOf(run) / most).toFixed(2)} of ${most.toFixed(0)}/s; ${showRun(run)}`)
  }
  return { ...figuresOf(pairs), memory: residentBytesOf(gateway.pid) / before, voided }
}

function figuresOf(pairs: readonly Pair[]): Omit<Surge, 'memory' | 'voided'> {
  const callers = pairs.flatMap(({ run }) => run.callers)
  const offered = sumOf(callers, 'offered')
  const share = (...counts: readonly Count[]) => counts.reduce((sum, count) => sum + sumOf(callers, count), 0) / offered
  const refusals = callers.map(({ refused, refusalMs }) => (refused > 0 ? refusalMs : { p50: NaN, p99: NaN }))
  return {
    goodput: spreadOf(pairs.map(({ most, run }) => goodputOf(run) / most)),
    mostPerS: medianOf(pairs.map(({ most }) => most)),
    offeredPerS: medianOf(pairs.map(({ run }) => (sumOf(run.callers, 'offered') * 1_000) / run.ms)),
    admittedP99Ms: spreadOf(callers.map(({ servedMs }) => servedMs.p99)),
    refusalP50Ms: spreadOf(refusals.map(({ p50 }) => p50)),
    refusalP99Ms: medianOf(refusals.map(({ p99 }) => p99)),
    refusedShare: share('refused'),
    neitherShare: share('late', 'expired', 'other'),
    notSentShare: share('notSent'),
  }
}
