/** What it costs to know who shows a token: one that was seen before, and a new one over what jose alone takes for it. */
import { importJWK, jwtVerify } from 'jose'
import { jwtOptions } from '../src/auth/jwt/options.ts'
import { Tokens } from '../src/auth/jwt/tokens.ts'
import { systemClock } from '../src/core/clock.ts'
import { isRefusal } from '../src/core/refusal.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeIssuer, terms } from './support/issuer.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Slice, Spread } from './support/interleave.ts'

const algorithms = ['ES256', 'RS256'] as const
/** More than are kept as verified, so that each is new again when its turn comes. */
const newTokens = 600
const maxCached = 100
const maxCachedUs = 3
const maxRatio = 1.2

interface Figure {
  readonly ratio: Spread
  readonly oursUs: number
  readonly joseUs: number
  readonly cachedUs: Spread
  readonly bytes: number
}

export const auth: Bench = {
  name: 'auth',
  question: 'CPU to know who shows a token that was seen before, and of a new one over that of jwtVerify of jose',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const pace = quick ? { pairs: 12, sliceMs: 100 } : { pairs: 80, sliceMs: 100 }
  const figures: Record<string, Figure> = {}
  for (const algorithm of algorithms) {
    const rig = await rigFor(algorithm)
    const { ours, jose } = rig
    for (const run of [ours, jose]) await slice(run, pace.sliceMs)
    const { pairs } = await interleave({
      pairs: pace.pairs,
      a: () => slice(jose, pace.sliceMs),
      b: () => slice(ours, pace.sliceMs),
    })
    await rig.known.identify(fieldWith(rig.tokens.at(-1)!), 'a peer')
    const known = Array.from({ length: pace.pairs }, () => cpuPerWork(cachedSlice(rig, pace.sliceMs)) * 1_000)
    rig.close()
    const figure = {
      ratio: spreadOf(pairs.map(({ a, b }) => cpuPerWork(b) / cpuPerWork(a))),
      oursUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
      joseUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
      cachedUs: spreadOf(known),
      bytes: rig.tokens[0]!.length,
    }
    figures[algorithm] = figure
    say(
      `  ${algorithm}, new: ${showSpread(figure.ratio)}, ${figure.oursUs.toFixed(1)} µs over ${figure.joseUs.toFixed(1)}`,
    )
    say(`  ${algorithm}, seen before, ${figure.bytes} bytes: ${showSpread(figure.cachedUs)} µs`)
  }
  return report(figures)
}

interface Rig {
  readonly tokens: readonly string[]
  readonly known: Tokens
  readonly ours: () => Promise<unknown>
  readonly jose: () => Promise<unknown>
  close(): void
}

async function rigFor(algorithm: string): Promise<Rig> {
  await using issuer = await makeIssuer(algorithm)
  const written = { issuers: [issuer.option], maxCached }
  const tools = { clock: systemClock, random: () => 0, onProblem: () => undefined, onRefused: () => undefined }
  const opened = await Tokens.create(jwtOptions.parse(written), tools)
  if (!(opened instanceof Tokens)) throw new Error(opened.mistakes[0]!.message)
  const tokens = await Promise.all(Array.from({ length: newTokens }, (_, i) => issuer.mint(claimsOf(i, algorithm))))
  const key = await importJWK(issuer.jwk, algorithm)
  const checks = { algorithms: [algorithm], ...terms, clockTolerance: 30, requiredClaims: ['exp'] }
  let [ourTurn, joseTurn] = [0, 0]
  return {
    tokens,
    known: opened,
    ours: async () => {
      const found = await opened.identify(fieldWith(tokens[ourTurn++ % newTokens]!), 'a peer')
      if (isRefusal(found)) throw new Error(found.message)
    },
    jose: () => jwtVerify(fieldWith(tokens[joseTurn++ % newTokens]!).slice('Bearer '.length), key, checks),
    close: () => opened.close(),
  }
}

/** So that tokens of both algorithms are as large as those of an identity provider. */
function claimsOf(i: number, algorithm: string) {
  const filler = 'x'.repeat(algorithm === 'RS256' ? 20 : 200)
  const scope = 'openid models'
  return { jti: `${i}-${filler}`, tenant: 'clinic', scope, azp: 'portal', email: 'a@example.com' }
}

/** A string of its own each time, as one that comes from a connection is. */
function fieldWith(token: string): string {
  return Buffer.from(`Bearer ${token}`, 'latin1').toString('latin1')
}

async function slice(run: () => Promise<unknown>, ms: number): Promise<Slice> {
  const until = performance.now() + ms
  const before = process.cpuUsage()
  let work = 0
  while (performance.now() < until) {
    await run()
    work++
  }
  return sliceSince(before, work)
}

/** Of the same token each time; what it takes to make its string is not counted. */
function cachedSlice({ known, tokens }: Rig, ms: number): Slice {
  const until = performance.now() + ms
  const token = tokens.at(-1)!
  let [work, cpuMs] = [0, 0]
  while (performance.now() < until) {
    const fields = Array.from({ length: 2_000 }, () => fieldWith(token))
    const before = process.cpuUsage()
    for (const field of fields)
      if (known.identify(field, 'a peer') instanceof Promise) throw new Error('it is not known')
    cpuMs += sliceSince(before, 0).cpuMs
    work += fields.length
  }
  return { work, cpuMs, bad: 0, p50Ms: 0 }
}

function sliceSince(before: NodeJS.CpuUsage, work: number): Slice {
  const { user, system } = process.cpuUsage(before)
  return { work, cpuMs: (user + system) / 1_000, bad: 0, p50Ms: 0 }
}

function report(figures: Readonly<Record<string, Figure>>): Report {
  const all = Object.entries(figures)
  const isFast = all.every(([, { ratio, cachedUs }]) => ratio.median <= maxRatio && cachedUs.median <= maxCachedUs)
  return {
    figures: Object.fromEntries(
      all.map(([name, { ratio, oursUs, joseUs, cachedUs, bytes }]) => {
        const shown = { ratio: roundSpread(ratio), oursUs: round(oursUs, 1), joseUs: round(joseUs, 1) }
        return [name, { ...shown, cachedUs: roundSpread(cachedUs), bytes }]
      }),
    ),
    targets: Object.fromEntries(
      all.flatMap(([name]) => [
        [`${name}.ratio`, `<= ${maxRatio}`],
        [`${name}.cachedUs`, `<= ${maxCachedUs}`],
      ]),
    ),
    pass: isFast,
    table: {
      head: ['algorithm', 'new: ratio to jose', 'new, µs', 'jose, µs', 'seen before, µs', 'bytes'],
      rows: all.map(([name, { ratio, oursUs, joseUs, cachedUs, bytes }]) => {
        return [name, showSpread(ratio), oursUs.toFixed(1), joseUs.toFixed(1), showSpread(cachedUs), bytes.toFixed(0)]
      }),
    },
    notes: [
      'One token after the other, each string made anew. CPU is that of the process, the threads of the pool too, where' +
        ' jose verifies. `jwtVerify` checks the same claims with the same key.',
    ],
  }
}
