/** What it costs to ask who calls, what they may do and how much: a gateway that does over one that asks nobody. */
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { cpuPerWork, interleave, medianOf, round, roundSpread, showSpread, spreadOf } from './support/interleave.ts'
import type { Spread } from './support/interleave.ts'
import { LoadGenerator, type HttpRequest } from './support/load.ts'
import { everyCore, GatewayProcess, pin } from './support/processes.ts'
import { tabular, tabularRequest } from './support/requests.ts'

const maxRatio = 1.12
const setting = { wire: 'http', connections: 32, streams: 1 } as const
const issuer = 'https://login.example.com'
const audience = 'penstock'

/** Rules before the one that fits, and four buckets that never run dry. */
const access = [
  { effect: 'deny', who: { tenants: ['trial-*'] }, operations: ['infer'] },
  { who: { subjects: ['operator'] }, operations: ['admin.read'] },
  { who: { scopes: ['models'] }, operations: ['infer', 'metadata', 'stats'] },
]
const rate = 1e8
const rules = [
  { name: 'tenants', by: ['tenant'], rate },
  { name: 'callers', by: ['caller'], rate },
  { name: 'rows', by: ['caller', 'model'], cost: 'row', rate },
  { name: 'compute', by: ['tenant', 'route'], cost: 'computeMs', rate },
]

interface Figure {
  readonly ratio: Spread
  readonly guardedUs: number
  readonly openUs: number
  readonly voided: number
}

export const guarded: Bench = {
  name: 'guarded',
  question: 'CPU of the gateway for a small JSON request with a token, rules and four limits, over that without',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const plain = await tabularRequest()
  const { folder, token } = await makeIssuer()
  const jwt = { issuers: [{ kind: 'jwks', issuer, audiences: [audience], file: join(folder, 'keys.json') }] }
  const models = { [tabular.model]: { version: tabular.version } }
  const figures: Record<string, Figure> = {}
  try {
    await using generator = new LoadGenerator()
    await using asks = await GatewayProcess.start({ models, auth: { jwt, access }, limits: { rules } })
    await using open = await GatewayProcess.start({ models })
    const shown = { ...plain, headers: { ...plain.headers, authorization: `Bearer ${token}` } }
    const rig: Rig = { generator, asks, open, shown, ...(quick ? quickPace : fullPace) }
    for (const pinned of [false, true]) {
      const figure = await compare(rig, pinned)
      figures[nameOf(pinned)] = figure
      say(
        `  ${nameOf(pinned)}: ${showSpread(figure.ratio)}, ${figure.guardedUs.toFixed(1)} µs over ${figure.openUs.toFixed(1)}`,
      )
    }
  } finally {
    await rm(folder, { recursive: true })
  }
  return report(figures)
}

const fullPace = { pairs: 9, sliceMs: 2_000, warmUpMs: 5_000 }
const quickPace = { pairs: 3, sliceMs: 1_000, warmUpMs: 3_000 }

interface Rig {
  readonly generator: LoadGenerator
  readonly asks: GatewayProcess
  readonly open: GatewayProcess
  /** With a token, which the gateway that asks nobody does not look at. */
  readonly shown: HttpRequest
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
}

async function compare({ generator, asks, open, shown, ...pace }: Rig, pinned: boolean): Promise<Figure> {
  const servers = [asks.pid, open.pid]
  if (pinned) {
    for (const pid of servers) pin(pid, '0')
    pin(generator.pid, '1')
  }
  const loads = [await generator.open(asks, setting, shown), await generator.open(open, setting, shown)] as const
  for (const load of loads) await load.slice(pace.warmUpMs)
  const { pairs, voided } = await interleave({
    pairs: pace.pairs,
    a: () => loads[0].slice(pace.sliceMs),
    b: () => loads[1].slice(pace.sliceMs),
  })
  for (const load of loads) await load.close()
  if (pinned) for (const pid of [...servers, generator.pid]) pin(pid, everyCore)
  return {
    ratio: spreadOf(pairs.map(({ a, b }) => cpuPerWork(a) / cpuPerWork(b))),
    guardedUs: medianOf(pairs.map(({ a }) => cpuPerWork(a) * 1_000)),
    openUs: medianOf(pairs.map(({ b }) => cpuPerWork(b) * 1_000)),
    voided,
  }
}

/** A folder with the keys of an issuer, and a token of it that is as large as those of an identity provider. */
async function makeIssuer(): Promise<{ readonly folder: string; readonly token: string }> {
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const jwk = { ...(await exportJWK(publicKey)), kid: 'bench', alg: 'ES256' }
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-'))
  await writeFile(join(folder, 'keys.json'), JSON.stringify({ keys: [jwk] }))
  const claims = { tenant: 'clinic', scope: 'openid models', azp: 'portal', jti: 'x'.repeat(200) }
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: 'ES256', kid: 'bench', typ: 'JWT' })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject('8f14e45f-ceea-467f-a0e6-d3b2a9c1e0aa')
    .setIssuedAt()
    .setExpirationTime('8h')
    .sign(privateKey)
  return { folder, token }
}

function nameOf(pinned: boolean): string {
  return pinned ? 'at32pinned' : 'at32'
}

function report(figures: Readonly<Record<string, Figure>>): Report {
  const all = Object.entries(figures)
  return {
    figures: Object.fromEntries(
      all.map(([name, { ratio, guardedUs, openUs, voided }]) => {
        return [name, { ratio: roundSpread(ratio), guardedUs: round(guardedUs, 1), openUs: round(openUs, 1), voided }]
      }),
    ),
    targets: { 'at32.ratio': `<= ${maxRatio}` },
    pass: figures[nameOf(false)]!.ratio.median <= maxRatio,
    table: {
      head: ['connections', 'ratio', 'with, µs', 'without, µs', 'voided'],
      rows: all.map(([name, { ratio, guardedUs, openUs, voided }]) => {
        return [name, showSpread(ratio), guardedUs.toFixed(1), openUs.toFixed(1), String(voided)]
      }),
    },
    notes: [
      'The same requests, with a token in each, to both gateways in turn. The one asks for a known token of an issuer with keys' +
        ' in a file, three rules and four limits in memory (two of requests, one of rows, one of compute); the other has `auth: none`.',
    ],
  }
}
