/**
 * Sends streams of bytes to both fronts of HTTP/1.1 and holds what they do against each other: `node:http` is what the lean
 * front is to be like. A program of its own, for so many minutes of the processor:
 *
 *   node test/support/front-fuzz.ts --minutes 30 --seed 1
 *
 * It was run with the seeds 101 to 104, for 17 minutes each, and what was found is mended, or among the differences; then with
 * 105 and 106, for 5 each, which found nothing.
 */
import { createSecureContext, type SecureContext } from 'node:tls'
import { parseArgs } from 'node:util'
import { makeStream } from './byte-streams.ts'
import { explanationOf, withoutTheGone } from './byte-streams-differences.ts'
import { differenceOf, flawOf, outline, type Pair } from './byte-streams-judge.ts'
import type { Stream } from './byte-streams-parts.ts'
import { play, turn } from './byte-streams-play.ts'
import { limits, ServedFront, type LimitsName, type TlsFiles } from './front-pair.ts'
import { watchParsers } from './lent-parsers.ts'

export interface Finding {
  /** How the two differ. Findings of one kind are one finding. */
  readonly kind: string
  readonly seed: number
  readonly index: number
  readonly stream: Stream
}

export interface Report {
  readonly streams: number
  readonly requests: number
  readonly findings: readonly Finding[]
  /** How many streams each kind was found in. */
  readonly counts: ReadonlyMap<string, number>
  /** How many streams each known difference was seen in. */
  readonly known: ReadonlyMap<string, number>
}

export interface FuzzOptions {
  readonly seed: number
  readonly isEnough: (streams: number) => boolean
  /** Over TLS, with the certificate of an authority in PEM. */
  readonly tls?: { readonly files: TlsFiles; readonly ca: string }
}

/** Connections at once to each front; and streams until there are new ones, so that clients do not run out of ports. */
const atOnce = 48
const streamsPerFront = 8_000

/** Both fronts, with each of the limits. */
export class FrontPairs {
  readonly #fronts: ReadonlyMap<string, ServedFront>
  readonly #trust: SecureContext | undefined

  private constructor(fronts: ReadonlyMap<string, ServedFront>, trust: SecureContext | undefined) {
    this.#fronts = fronts
    this.#trust = trust
  }

  static async start(tls?: FuzzOptions['tls']): Promise<FrontPairs> {
    const fronts = new Map<string, ServedFront>()
    for (const name of Object.keys(limits) as LimitsName[]) {
      for (const kind of ['lean', 'node'] as const)
        fronts.set(kind + name, await ServedFront.start(kind, name, tls?.files))
    }
    return new FrontPairs(fronts, tls && createSecureContext({ ca: tls.ca }))
  }

  async play(stream: Stream): Promise<Pair> {
    const [lean, node] = await Promise.all(
      ['lean', 'node'].map((kind) => play(stream, this.#fronts.get(kind + stream.limits)!, this.#trust)),
    )
    return { stream, lean: lean!, node: node! }
  }

  /** Ends all; says what is left of what should have ended before. */
  async close(): Promise<string | undefined> {
    for (let i = 0; i < 10; i++) await turn()
    let left = 0
    for (const front of this.#fronts.values()) {
      left += front.left
      front.close()
    }
    return left > 0 ? `${left} connections are left` : undefined
  }
}

/** A finding, or a known difference, or neither. */
export interface Verdict {
  readonly finding?: string
  readonly known?: string
}

export function judge({ stream, lean, node: asIs }: Pair): Verdict {
  const node = stream.ending === 'end' || stream.ending === 'reset' ? withoutTheGone(asIs) : asIs
  for (const [name, observed] of Object.entries({ lean, node })) {
    const flaw = flawOf(stream, observed)
    if (flaw) return { finding: `${name}: ${flaw}: ${outline(observed)}` }
  }
  const pair = { stream, lean, node }
  const difference = differenceOf(pair)
  if (!difference) return {}
  const known = explanationOf(pair)
  return known ? { known } : { finding: difference }
}

/** Streams in the order of their numbers, until there are enough of them. */
export async function fuzz({ seed, isEnough, tls }: FuzzOptions): Promise<Report> {
  const found = new Map<string, { count: number; index: number }>()
  const known = new Map<string, number>()
  let requests = 0
  let streams = 0
  const note = (kind: string, index: number) => {
    const before = found.get(kind)
    if (before) before.count++
    else found.set(kind, { count: 1, index })
  }
  while (!isEnough(streams)) {
    const parsers = watchParsers()
    const pairs = await FrontPairs.start(tls)
    const most = streams + streamsPerFront
    const worker = async () => {
      while (streams < most && !isEnough(streams)) {
        const index = streams++
        const pair = await pairs.play(makeStream(seed, index))
        requests += pair.lean.seen.length
        const verdict = judge(pair)
        if (verdict.finding) note(verdict.finding, index)
        if (verdict.known) known.set(verdict.known, (known.get(verdict.known) ?? 0) + 1)
      }
    }
    await Promise.all(Array.from({ length: atOnce }, worker))
    const left = await pairs.close()
    if (left) note(left, streams)
    if (parsers.lent() > 0) note('parsers are not given back', streams)
    for (const problem of parsers.problems) note(problem, streams)
    parsers.stop()
  }
  const findings: Finding[] = []
  for (const [kind, { index }] of found) findings.push({ kind, seed, index, stream: makeStream(seed, index) })
  return { streams, requests, findings, counts: new Map([...found].map(([kind, { count }]) => [kind, count])), known }
}

/** How often a smaller stream is tried, and for how long. */
const mostTries = 400
const mostMs = 20_000

/** The smallest stream that can be had by leaving something out and that still differs in the same way. */
export async function minimised({ kind, stream }: Finding): Promise<Stream> {
  const pairs = await FrontPairs.start()
  let best = stream
  let tries = 0
  const from = performance.now()
  const isBetter = async (candidate: Stream): Promise<boolean> => {
    if (++tries > mostTries || performance.now() - from > mostMs) return false
    if (judge(await pairs.play(candidate)).finding !== kind) return false
    best = candidate
    return true
  }
  await isBetter({ ...best, cuts: [] })
  await isBetter({ ...best, waits: [] })
  for (let size = Math.ceil(best.bytes.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.bytes.length;) if (!(await isBetter(without(best, at, size)))) at += size
  }
  await pairs.close()
  return best
}

function without(stream: Stream, at: number, size: number): Stream {
  const end = Math.min(at + size, stream.bytes.length)
  const moved = (place: number) => place - Math.max(0, Math.min(end, place) - at)
  const bytes = Buffer.concat([stream.bytes.subarray(0, at), stream.bytes.subarray(end)])
  return { ...stream, bytes, cuts: stream.cuts.map(moved), waits: stream.waits.map(moved), wanted: undefined }
}

export function show(finding: Finding, { kind, limits: name, bytes, cuts, waits, ending }: Stream): string {
  const text = JSON.stringify(bytes.toString('latin1'))
  const short = text.replaceAll(
    /(.{1,3}?)\1{30,}/g,
    (all, part: string) => `<${part} ${all.length / part.length} times>`,
  )
  return [
    `seed ${finding.seed}, stream ${finding.index} (${kind}, limits ${name}): ${finding.kind}`,
    `  ${short.slice(0, 3_000)} (${bytes.length} bytes, as Latin-1)`,
    `  cut at ${cuts.slice(0, 50).join()}, waits at ${waits.join()}, then ${ending}`,
  ].join('\n')
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '1' },
      seed: { type: 'string', default: '1' },
      streams: { type: 'string', default: 'Infinity' },
      show: { type: 'string', default: '20' },
    },
  })
  const seed = Number(values.seed)
  const seconds = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6
  const isEnough = (streams: number) => seconds() >= Number(values.minutes) * 60 || streams >= Number(values.streams)
  const { streams, requests, findings, counts, known } = await fuzz({ seed, isEnough })
  console.log(`seed ${seed}: ${streams} streams, ${requests} requests, in ${Math.round(seconds())} CPU-seconds`)
  for (const [name, count] of known) console.log(`known, ${count} times: ${name}`)
  for (const finding of findings.slice(0, Number(values.show))) {
    console.log(`FOUND ${counts.get(finding.kind)} times, ${show(finding, await minimised(finding))}`)
  }
  process.exitCode = findings.length > 0 ? 1 : 0
}
