/**
 * Feeds the decoder with requests, most of them broken, and holds what they come to against two judges: the same body in
 * pieces, and JSON.parse with the plainest store. A program of its own, for so many minutes of the processor:
 *
 *   node test/support/fuzz.ts --minutes 8 --seed 1
 */
import { parseArgs } from 'node:util'
import { bytesOf } from '../../src/core/tensor.ts'
import { decoding, SpoilingArena, type DecodedInput, type Outcome } from './decoding.ts'
import { CaseMaker, type Case } from './fuzz-cases.ts'
import { judge } from './fuzz-reference.ts'

export interface Finding {
  /** Which judge disagrees, and how. Findings of one kind are one finding. */
  readonly kind: string
  readonly seed: number
  readonly index: number
  readonly example: Case
}

export interface Report {
  readonly cases: number
  readonly taken: number
  readonly findings: readonly Finding[]
  /** How many cases each kind was found in. */
  readonly counts: ReadonlyMap<string, number>
  readonly slowest: Slowest
}

interface Slowest {
  ms: number
  index: number
}

/** What a client may send at once, about. */
const pieceBytes = 65_536

/** Runs a case; returns what is wrong with the decoder, if anything is. */
export function check(one: Case, onStep: (ms: number) => void = () => undefined): string | undefined {
  const { body, contract, cuts, jsonBytes, options, isChunked } = one
  const run = (places: readonly number[]): Outcome => {
    const memory = new SpoilingArena(2 ** 28)
    const steps = decoding(
      body,
      contract,
      { ...(jsonBytes !== undefined && { jsonBytes }), options, isChunked, cuts: places },
      memory,
    )
    for (;;) {
      const before = performance.now()
      const step = steps.next()
      onStep(performance.now() - before)
      if (!step.done) continue
      if (memory.heldBytes !== 0) throw new Error('memory is not given back')
      return step.value
    }
  }
  try {
    const whole = canonical(run(everyPiece(body.length)))
    const cut = canonical(run(cuts))
    if (cut !== whole) return `cut: ${shorten(whole)} <> ${shorten(cut)}`
    const wanted = judge(one)
    const expected = wanted && canonical({ ...wanted, key: '' })
    if (!expected) return whole.startsWith('{') ? 'taken, and should be refused' : undefined
    if (!whole.startsWith('{')) return `refused, and should be taken: ${shorten(whole)}`
    return whole === expected ? undefined : 'taken, and comes to something else'
  } catch (error) {
    return `thrown: ${shorten(
      String((error as Error).stack)
        .split('\n')
        .slice(0, 2)
        .join(' '),
    )}`
  }
}

function everyPiece(length: number): number[] {
  return Array.from({ length: Math.max(0, Math.ceil(length / pieceBytes) - 1) }, (_, i) => (i + 1) * pieceBytes)
}

/** An outcome as text that is equal for equal bits. A refusal never begins with a brace. */
function canonical(outcome: Outcome): string {
  if (typeof outcome === 'string') return outcome
  const { id, rows, wanted, inputs } = outcome
  return JSON.stringify({ id, rows, wanted, inputs: inputs.map(canonicalInput) })
}

function canonicalInput({ name, datatype, shape, values }: DecodedInput) {
  return {
    name,
    datatype,
    shape,
    values: Array.isArray(values) ? values : Buffer.from(bytesOf(values)).toString('hex'),
  }
}

/** A message without what differs from case to case. */
function shorten(message: string): string {
  return (message.startsWith('{') ? 'taken' : message).replaceAll(/\d+/g, '#').replaceAll(/"[^"]*"/g, '""')
}

/** Cases in the order of their numbers, until there are enough of them. */
export function fuzz(seed: number, isEnough: (cases: number) => boolean): Report {
  const findings: Finding[] = []
  const counts = new Map<string, number>()
  const slowest: Slowest = { ms: 0, index: 0 }
  let taken = 0
  let cases = 0
  for (; !isEnough(cases); cases++) {
    const one = new CaseMaker(seed, cases).make()
    const kind = check(one, (ms) => {
      if (ms > slowest.ms) Object.assign(slowest, { ms, index: cases })
    })
    if (kind === undefined) {
      if (cases % 16 === 0 && judge(one)) taken++
      continue
    }
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
    if (counts.get(kind) === 1) findings.push({ kind, seed, index: cases, example: minimised(one, kind) })
  }
  return { cases, taken: taken * 16, findings, counts, slowest }
}

/** How often a smaller body is tried. */
const mostTries = 3_000

/** The smallest body that can be had by leaving something out and that is still wrong in the same way. */
function minimised(one: Case, kind: string): Case {
  let best = one
  let tries = 0
  const isBetter = (candidate: Case): boolean => {
    if (++tries > mostTries || check(candidate) !== kind) return false
    best = candidate
    return true
  }
  isBetter({ ...best, isChunked: false })
  // Few cuts make the rest quick.
  if (!isBetter({ ...best, cuts: [] })) best.cuts.some((cut) => isBetter({ ...best, cuts: [cut] }))
  for (let size = Math.ceil(best.body.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < best.body.length;) if (!isBetter(without(best, at, size))) at += size
  }
  for (const cut of best.cuts) isBetter({ ...best, cuts: best.cuts.filter((each) => each !== cut) })
  return best
}

function without(one: Case, at: number, size: number): Case {
  const end = Math.min(at + size, one.body.length)
  const moved = (place: number) => place - Math.max(0, Math.min(end, place) - at)
  const body = Buffer.concat([one.body.subarray(0, at), one.body.subarray(end)])
  const cuts = [...new Set(one.cuts.map(moved))].filter((cut) => cut > 0 && cut < body.length)
  const { jsonBytes } = one
  return { ...one, body, cuts, jsonBytes: jsonBytes === undefined ? undefined : moved(jsonBytes) }
}

export function show({ kind, seed, index, example }: Finding): string {
  const { body, contract, cuts, jsonBytes, isChunked, options } = example
  const text = JSON.stringify(body.toString('latin1'))
  const short = text.replaceAll(
    /(.{1,3}?)\1{30,}/g,
    (all, part: string) => `<${part} ${all.length / part.length} times>`,
  )
  return [
    `seed ${seed}, case ${index}: ${kind}`,
    `  body      ${short.slice(0, 4_000)} (${body.length} bytes, as Latin-1)`,
    `  inputs    ${JSON.stringify(contract.inputs)}`,
    `  jsonBytes ${jsonBytes}, cut at ${cuts.slice(0, 50).join()}, chunked ${isChunked}, nonFinite ${options.nonFinite}`,
  ].join('\n')
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string', default: '1' } },
  })
  const seed = Number(values.seed)
  const seconds = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6
  const isOver = () => seconds() >= Number(values.minutes) * 60
  const { cases, taken, findings, counts, slowest } = fuzz(seed, isOver)
  console.log(`seed ${seed}: ${cases} cases, about ${taken} of them valid, in ${Math.round(seconds())} CPU-seconds`)
  console.log(`slowest step: ${slowest.ms.toFixed(2)} ms (case ${slowest.index})`)
  for (const finding of findings) console.log(`FOUND ${counts.get(finding.kind)} times, ${show(finding)}`)
  process.exitCode = findings.length > 0 ? 1 : 0
}
