/** Where the time of the gateway's main thread goes with a small JSON request. */
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { makeCertificates } from './support/certificates.ts'
import { guards, shown } from './support/guards.ts'
import { round } from './support/interleave.ts'
import { makeIssuer } from './support/issuer.ts'
import { LoadGenerator } from './support/load.ts'
import { GatewayProcess } from './support/processes.ts'
import { partsOf, profiled } from './support/profile.ts'
import { tabular, tabularRequest } from './support/requests.ts'

const { model, version } = tabular

const settings = {
  'HTTP/1.1': { wire: 'http', front: 'lean' },
  HTTPS: { wire: 'https', front: 'lean' },
  'HTTP/1.1 on node:http': { wire: 'http', front: 'node' },
} as const

export const profile: Bench = {
  name: 'profile',
  question: "where the time of the gateway's main thread goes with a small JSON request",
  measure,
}

async function measure({ quick }: BenchOptions): Promise<Report> {
  await using issuer = await makeIssuer('ES256')
  await using generator = new LoadGenerator()
  const request = await shown(await tabularRequest(), issuer)
  const certificates = makeCertificates()
  const parts = new Map<string, ReadonlyMap<string, number>>()
  for (const [name, { wire, front }] of Object.entries(settings)) {
    const taken = await profiled(async () => {
      const secure = wire === 'https' ? certificates : undefined
      const options = { models: { [model]: { version } }, ...guards(issuer) }
      await using gateway = await GatewayProcess.start(options, { http1: front }, secure)
      const load = await generator.open(gateway, { wire, connections: 32, streams: 1 }, request)
      await load.slice(quick ? 4_000 : 30_000)
      await load.close()
    })
    parts.set(name, partsOf(taken))
  }
  return report(parts)
}

function report(parts: ReadonlyMap<string, ReadonlyMap<string, number>>): Report {
  const names = [...parts.values().next().value!.keys()]
  return {
    figures: Object.fromEntries(
      [...parts].map(([name, own]) => [
        name,
        Object.fromEntries([...own].map(([part, share]) => [part, round(share)])),
      ]),
    ),
    targets: {},
    pass: true,
    table: {
      head: ['percent of the time in which there was something to do', ...parts.keys()],
      rows: names.map((name) => [name, ...[...parts.values()].map((own) => (100 * own.get(name)!).toFixed(1))]),
    },
    notes: [
      'As sampled by the profiler of V8, four times a millisecond, in the second half of 30 s of load over 32 connections, with a' +
        ' token, three rules and four limits. What the kernel does for a write counts as a write; what it does for a read counts as' +
        ' the rest. What was compiled into another function counts as that function.',
    ],
  }
}
