/** What it costs to change a split while requests flow, and what shadows cost those who wait for answers. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { liveSplit } from '../src/live/live-split.ts'
import type { Intent } from '../src/live/intent.ts'
import { splitOptions } from '../src/routing/split-options.ts'
import { forever, looping } from '../test/support/models.ts'
import { onnx } from '../test/support/onnx.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { medianOf, round } from './support/interleave.ts'
import { OpenLoadGenerator, soundly, sumOf, type OpenLoad } from './support/open-load.ts'
import { GatewayProcess } from './support/processes.ts'
import { binaryRequest, tabular, tabularRequest } from './support/requests.ts'

const ratePerSecond = 2_000
const editEveryMs = 50
const maxSwapMs = 1
const shadowRate = 100

export const splits: Bench = {
  name: 'splits',
  question: 'what an edit of a split costs under 2,000 requests a second, and what shadows cost whoever waits',
  measure,
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const swapMs = swapTimes(quick ? 200 : 2_000)
  say(`  a swap of 16 arms and 64 rules: ${round(medianOf(swapMs))} ms, at most ${round(Math.max(...swapMs))}`)
  const edits = await measureEdits(quick ? 4_000 : 20_000)
  say(
    `  ${edits.made} edits, ${edits.offered} requests: ${edits.failed} failed, ${edits.mixed} of ${edits.looked} mixed`,
  )
  const shadows = await measureShadows(quick ? 3 : 9, quick ? 2_000 : 4_000, say)
  const swap = { median: round(medianOf(swapMs)), most: round(Math.max(...swapMs)) }
  const figures = { swapMs: swap.median, swapMostMs: swap.most, ...edits, ...shadows }
  const pass = edits.failed === 0 && edits.mixed === 0 && swap.median <= maxSwapMs && shadows.shadowFailed === 0
  return {
    figures,
    targets: { failed: '0', mixed: '0', swapMs: `<= ${maxSwapMs}`, shadowFailed: '0' },
    pass,
    table: {
      head: ['', 'p50 ms', 'p99 ms'],
      rows: [
        ['no shadow', String(shadows.plainP50Ms), String(shadows.plainP99Ms)],
        [
          'all requests shadowed by a version that never answers',
          String(shadows.shadowP50Ms),
          String(shadows.shadowP99Ms),
        ],
      ],
    },
    notes: [
      `Edits: one each ${editEveryMs} ms through the admin API, under ${ratePerSecond} requests a second in an open loop; another` +
        ' client holds arm and version of each of its answers against the split. A swap is all that the event loop does for an' +
        ' edit of the largest split there may be, but for writing it down.',
      `Shadows: ${shadowRate} requests a second, Poisson, in alternating slices, to two gateways that differ in the shadow only; it` +
        ' runs in a process of its own, loops for ever on every input, and is killed and started again all the time.',
    ],
  }
}

/** Milliseconds that the largest split takes to be built, each time with other weights. */
function swapTimes(times: number): number[] {
  const arms = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`arm${i}`, { version: '1', weight: i }]))
  const rules = Array.from({ length: 64 }, (_, i) => ({
    match: { headers: { 'x-who': `who-${i}` } },
    arm: `arm${i % 16}`,
  }))
  const split = splitOptions.parse({ arms, rules })
  const intent: Intent = { version: '1', aliases: {}, split, trial: undefined, digest: '', trialDigest: '' }
  return Array.from({ length: times }, (_, i) => {
    const startedAt = performance.now()
    const { shares } = liveSplit(intent, { name: 'm', generation: i, weights: { arm0: i }, state: undefined })!
    if (shares.size !== 16) throw new Error('a split lost arms')
    return performance.now() - startedAt
  })
}

const split = {
  arms: { stable: { version: '1', weight: 90 }, canary: { version: '2', weight: 10 } },
}

async function measureEdits(ms: number) {
  await using gateway = await GatewayProcess.start({ models: { [tabular.model]: { split } }, log: { level: 'error' } })
  await using generator = new OpenLoadGenerator()
  const request = await tabularRequest()
  const callers = [{ address: '127.0.0.1', connections: 16, waits: true }]
  const load = await generator.open(gateway, { ...request, deadlineMs: Infinity, callers })
  await load.run({ ms: 3_000, ratesPerSecond: [ratePerSecond] })
  const editor = new Editor(gateway)
  const observer = new Observer(gateway, request)
  const under = [editor.run(), observer.run()]
  const { report } = await soundly(() => load.run({ ms, ratesPerSecond: [ratePerSecond] }))
  editor.isOver = true
  observer.isOver = true
  await Promise.all(under)
  const offered = sumOf(report.callers, 'offered')
  const failed = offered - sumOf(report.callers, 'ok') + observer.failed
  return { offered, failed, made: editor.made, looked: observer.looked, mixed: observer.mixed }
}

/** Sets other weights again and again. */
class Editor {
  isOver = false
  made = 0
  readonly #url: string

  constructor({ adminPort }: GatewayProcess) {
    this.#url = `http://127.0.0.1:${adminPort}/admin/models/${tabular.model}/split`
  }

  async run(): Promise<void> {
    while (!this.isOver) {
      const etag = (await fetch(this.#url)).headers.get('etag')!
      const body = JSON.stringify({ weights: { canary: 1 + (this.made % 90) } })
      const headers = { 'content-type': 'application/json', 'if-match': etag }
      const { status } = await fetch(this.#url, { method: 'PATCH', headers, body })
      if (status !== 200) throw new Error(`an edit was answered with ${status}`)
      this.made++
      await new Promise((resolve) => setTimeout(resolve, editEveryMs))
    }
  }
}

/** Looks whether arm and version of each answer belong together. */
class Observer {
  isOver = false
  looked = 0
  failed = 0
  mixed = 0
  readonly #url: string
  readonly #request: Awaited<ReturnType<typeof tabularRequest>>

  constructor({ port }: GatewayProcess, request: Awaited<ReturnType<typeof tabularRequest>>) {
    this.#url = `http://127.0.0.1:${port}${request.path}`
    this.#request = request
  }

  async run(): Promise<void> {
    const { headers, body } = this.#request
    while (!this.isOver) {
      const answer = await fetch(this.#url, { method: 'POST', headers, body: body as never })
      const said = (await answer.json()) as { model_version?: string; parameters?: { arm?: string } }
      this.looked++
      const arm = answer.headers.get('x-penstock-arm')
      const version = arm === 'canary' ? '2' : '1'
      if (answer.status !== 200) this.failed++
      else if (said.model_version !== version || said.parameters?.arm !== arm) this.mixed++
    }
  }
}

async function measureShadows(pairs: number, ms: number, say: (line: string) => void) {
  const store = await mkdtemp(join(tmpdir(), 'penstock-shadows-'))
  try {
    await putModel(store, '1', identity)
    await putModel(store, '2', looping)
    const base = { store: { path: store }, log: { level: 'silent' }, runtime: { worker: { isolation: 'process' } } }
    const stable = { arms: { stable: { version: '1', weight: 1 } } }
    const shadowed = { ...stable, shadows: [{ version: '2', share: 1 }] }
    await using plain = await GatewayProcess.start({ ...base, models: { m: { split: stable } } })
    await using shadow = await GatewayProcess.start({ ...base, models: { m: { split: shadowed } } })
    await using generator = new OpenLoadGenerator()
    const data = new Uint8Array(new BigInt64Array([BigInt(forever)]).buffer)
    const request = binaryRequest('m', { name: 'x', datatype: 'INT64', shape: [1, 1], data })
    const callers = [{ address: '127.0.0.1', connections: 4, waits: true }]
    const demand = { ...request, deadlineMs: Infinity, callers }
    const loads = [await generator.open(plain, demand), await generator.open(shadow, demand)] as const
    for (const load of loads) await load.run({ ms: 3_000, ratesPerSecond: [shadowRate] })
    return await comparePairs(loads, { pairs, ms, say })
  } finally {
    await rm(store, { recursive: true, force: true })
  }
}

interface Slices {
  readonly pairs: number
  readonly ms: number
  readonly say: (line: string) => void
}

async function comparePairs([plain, shadow]: readonly [OpenLoad, OpenLoad], { pairs, ms, say }: Slices) {
  const found = { plain: [] as Slice[], shadow: [] as Slice[] }
  for (let i = 0; i < pairs; i++) {
    const order = i % 2 === 0 ? (['plain', 'shadow'] as const) : (['shadow', 'plain'] as const)
    for (const which of order) found[which].push(await slice(which === 'plain' ? plain : shadow, ms))
    say(
      `  p99 ${found.plain.at(-1)!.p99.toFixed(2)} ms without, ${found.shadow.at(-1)!.p99.toFixed(2)} with the shadow`,
    )
  }
  const of = (which: keyof typeof found, what: 'p50' | 'p99') => round(medianOf(found[which].map((each) => each[what])))
  return {
    plainP50Ms: of('plain', 'p50'),
    plainP99Ms: of('plain', 'p99'),
    shadowP50Ms: of('shadow', 'p50'),
    shadowP99Ms: of('shadow', 'p99'),
    shadowFailed: found.shadow.reduce((sum, { failed }) => sum + failed, 0),
  }
}

interface Slice {
  readonly p50: number
  readonly p99: number
  readonly failed: number
}

async function slice(load: OpenLoad, ms: number): Promise<Slice> {
  const { report } = await soundly(() => load.run({ ms, ratesPerSecond: [shadowRate], precise: true }))
  const { p50, p99 } = report.callers[0]!.servedMs
  return { p50, p99, failed: sumOf(report.callers, 'offered') - sumOf(report.callers, 'ok') }
}

const identity = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['n', 1] }],
  nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
})

async function putModel(store: string, version: string, graph: Buffer): Promise<void> {
  const folder = join(store, 'm', version)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'model.onnx'), graph)
}
