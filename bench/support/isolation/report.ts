/** What came of it, for bench/isolation.ts. */
import type { Report } from '../bench.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf, type Spread } from '../interleave.ts'
import type { GroupReport } from '../numbered.ts'

const maxP99Ratio = 1.5

export const causes = ['heap', 'SIGKILL', 'SIGSEGV', 'SIGSTOP', 'exception'] as const
export type Cause = (typeof causes)[number]
const causeNames: Readonly<Record<Cause, string>> = {
  heap: 'thread, heap exhausted',
  SIGKILL: 'process, SIGKILL',
  SIGSEGV: 'process, SIGSEGV',
  SIGSTOP: 'process, SIGSTOP (killed by the watchdog)',
  exception: 'thread, exception (no death)',
}

/** The workers of one kind die in a slice: what it takes to kill a thread would hide what the others cost. */
export const kinds = ['process', 'thread'] as const
export type Kind = (typeof kinds)[number]
export type Events = Partial<Readonly<Record<Cause, number>>>

/** In a heap of 32 MiB, which it fills before ONNX Runtime has it. */
export const huge = { words: 40, bytes: 1_000_000, heapMb: 32 }

export type Groups = Readonly<Record<string, GroupReport>>

export interface Death {
  readonly cause: Cause
  /** Until the next 200 of a request that was sent after it. */
  readonly ms: number
}

export interface Slice {
  readonly groups: Groups
  readonly ms: number
  readonly events: readonly Death[]
}

export interface Pair {
  readonly kind: Kind
  readonly calm: Slice
  readonly deadly: Slice
}

export interface Deaths {
  readonly thread: number
  readonly process: number
  /** Of all the other models. */
  readonly others: number
}

const groupNames = {
  dying: 'those whose workers die',
  beside: 'another in their pool',
  apart: 'another in another pool',
}
type Group = keyof typeof groupNames
const groups = ['dying', 'beside', 'apart'] as const
type Count = 'requests' | 'ok' | 'wrong' | 'lost' | 'surplus'

function p99RatioOf(pairs: readonly Pair[], group: Group, kind: Kind) {
  const own = pairs.filter((pair) => pair.kind === kind)
  return spreadOf(own.map(({ calm, deadly }) => deadly.groups[group]!.p99Ms / calm.groups[group]!.p99Ms))
}

export function report(pairs: readonly Pair[], deaths: Deaths): Report {
  const events = pairs.flatMap(({ deadly }) => deadly.events)
  const slices = pairs.flatMap(({ calm, deadly }) => [calm, deadly])
  const reports = (group: Group) => slices.map((slice) => slice.groups[group]!)
  const all = groups.flatMap(reports)
  const count = (what: Count, of = all) => of.reduce((sum, each) => sum + each[what], 0)
  const [unanswered, wrong, surplus] = [count('lost'), count('wrong'), count('surplus')]
  const refused = refusedIn(all)
  const seconds = Math.round(slices.reduce((sum, { ms }) => sum + ms, 0) / 1_000)
  const ratios = (group: Group) => ({
    process: p99RatioOf(pairs, group, 'process'),
    thread: p99RatioOf(pairs, group, 'thread'),
  })
  const p99 = { beside: ratios('beside'), apart: ratios('apart') }
  const total = deaths.thread + deaths.process + deaths.others
  const killed = events.filter(({ cause }) => cause.startsWith('SIG')).length
  // Nobody has killed them.
  const unexpected = deaths.others + Math.abs(deaths.process - killed)
  const servedAgain = Object.fromEntries(causes.map((cause) => [cause, againOf(events, cause)]))
  return {
    figures: {
      deaths: total,
      unexpected,
      requests: count('requests'),
      refused,
      unanswered,
      wrong,
      surplus,
      p99Ratio: rounded(p99.apart),
      p99RatioInTheirPool: rounded(p99.beside),
      servedAgain,
    },
    targets: { ...none, ...ratioTargets },
    pass: unanswered + wrong + surplus + unexpected === 0 && kinds.every(isLittle(p99.apart)),
    table: {
      head: ['what happened', 'times', 'deaths', 'served again, median ms', 'longest ms'],
      rows: causes.map((cause) => {
        const { times, median, max } = servedAgain[cause]!
        const died = cause === 'heap' ? 2 * times : cause === 'exception' ? 0 : times
        return [causeNames[cause], times, died, median, max].map(String)
      }),
    },
    tables: kinds.map((kind) => ({
      title: `What came of the requests while workers of the kind ${kind} died`,
      table: outcomes(pairs.filter((pair) => pair.kind === kind)),
    })),
    notes: notesOn({ total, seconds, p99, refused }),
  }
}

const none = { unanswered: '0', wrong: '0', surplus: '0', unexpected: '0' }
const ratioTargets = { 'p99Ratio.process': `<= ${maxP99Ratio}`, 'p99Ratio.thread': `<= ${maxP99Ratio}` }
type Ratios = Readonly<Record<Kind, Spread>>

function isLittle(ratios: Ratios): (kind: Kind) => boolean {
  return (kind) => ratios[kind].median <= maxP99Ratio
}

function rounded({ process: ofProcess, thread }: Ratios): Ratios {
  return { process: roundSpread(ofProcess), thread: roundSpread(thread) }
}

function againOf(events: readonly Death[], cause: Cause): { times: number; median: number; max: number } {
  const own = events.filter((each) => each.cause === cause).map(({ ms }) => ms)
  return { times: own.length, median: round(medianOf(own), 0), max: round(Math.max(...own), 0) }
}

function refusedIn(reports: readonly GroupReport[]): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const { refused } of reports) {
    for (const [status, times] of Object.entries(refused)) sums[status] = (sums[status] ?? 0) + times
  }
  return sums
}

function outcomes(pairs: readonly Pair[]) {
  const rows = groups.map((group) => {
    const of = (which: 'calm' | 'deadly') => pairs.map((pair) => pair[which].groups[group]!)
    const all = [...of('calm'), ...of('deadly')]
    const sum = (what: Count) => String(all.reduce((total, each) => total + each[what], 0))
    const ms = (which: 'calm' | 'deadly', what: 'p50Ms' | 'p99Ms') =>
      medianOf(of(which).map((each) => each[what])).toFixed(1)
    const longest = Math.max(...of('deadly').map(({ maxMs }) => maxMs)).toFixed(0)
    const counts = [
      sum('requests'),
      sum('ok'),
      JSON.stringify(refusedIn(all)),
      sum('lost'),
      sum('wrong'),
      sum('surplus'),
    ]
    const times = (what: 'p50Ms' | 'p99Ms') => `${ms('calm', what)} / ${ms('deadly', what)}`
    return [groupNames[group], ...counts, times('p50Ms'), times('p99Ms'), longest]
  })
  const head = ['requests for', 'sent', '200', 'other answers', 'no answer', "another's answer", 'surplus answers']
  return { head: [...head, 'p50 ms without / with deaths', 'p99 ms without / with', 'longest ms'], rows }
}

interface Told {
  readonly total: number
  readonly seconds: number
  readonly p99: Readonly<Record<'beside' | 'apart', Ratios>>
  readonly refused: Readonly<Record<string, number>>
}

function notesOn({ total, seconds, p99, refused }: Told): string[] {
  return [
    `${total} deaths; ${seconds} s of load, half of them without deaths, in alternating slices. Each request holds a number of its own,` +
      ' and its answer is compared byte by byte. Other answers than 200 of all these clients:' +
      ` ${JSON.stringify(refused)}; the requests that bring death or raise exceptions are not among them, and each of those got its 500.` +
      ' Served again: from the death (of the two that a request brings about, the second) until the next 200 of a' +
      ' request sent after it, which queues behind the other clients.',
    'The models whose workers die have a pool of one executor, with the neighbour "in their pool"; the other neighbour is in the' +
      ` default pool. Its p99 with deaths over without: ${showSpread(p99.apart.process)} when processes die, ${showSpread(p99.apart.thread)}` +
      ` when threads do. In their own pool: ${showSpread(p99.beside.process)} and ${showSpread(p99.beside.thread)}; a stopped process holds it up` +
      ' until the watchdog, set as it is shipped (`leastMs` 1000), ends it: executors are what a pool shares.',
    `Heaps are exhausted by a request of ${huge.words} MB of strings in a worker with \`heapMb: ${huge.heapMb}\`; the slices without` +
      ' deaths have as large requests, to a worker that has room for them. Exceptions that ONNX Runtime raises end no worker:' +
      ' they fail their request, and what shared its run is run again.',
  ]
}

export function showPair({ calm, deadly }: Pair): string {
  const of = ({ groups: all }: Slice) => {
    const { apart, beside, dying: own } = all as Record<Group, GroupReport>
    const show = ({ p50Ms, p99Ms }: GroupReport) => `${p50Ms.toFixed(1)}/${p99Ms.toFixed(1)}`
    const bad = own.lost + own.wrong + own.surplus + apart.lost + apart.wrong + beside.lost + beside.wrong
    return `p50/p99 ms apart ${show(apart)}, beside ${show(beside)}, dying ${show(own)} (longest ${own.maxMs.toFixed(0)}), bad ${bad}, other answers ${JSON.stringify(refusedIn([own, apart, beside]))}`
  }
  const took = deadly.events.map(({ cause, ms }) => `${cause} ${ms.toFixed(0)}`).join(' ')
  return `  ${(deadly.ms / 1_000).toFixed(1)} s: ${took}\n    without: ${of(calm)}\n    with: ${of(deadly)}`
}
