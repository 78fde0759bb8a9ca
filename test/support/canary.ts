/** Models on trial, and what is asked of the admin listener about them. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { stringify } from 'yaml'
import { until } from './client.ts'
import { folderWith, startGateway, tensor, type Reply, type TestGateway } from './gateway.ts'
import { identity, onnx } from './onnx.ts'
import { penstock, settingsAlone, type Spawned } from './process.ts'

const x = { name: 'x', type: 'INT64', shape: ['n'] } as const
const y = { name: 'y', type: 'INT64', shape: ['n'] } as const

/** Looks its numbers up, and fails on what is not in its table. */
export const lookup = onnx({
  inputs: [x],
  outputs: [y],
  nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
  constants: [{ name: 'table', type: 'INT64', shape: [16], data: Array.from({ length: 16 }, (_, i) => 100 + i) }],
})

/** Version 1 gives back what it takes, version 2 fails on `bad` numbers. */
export const onTrial = { 'm/1/model.onnx': identity('INT64', ['n']), 'm/2/model.onnx': lookup }
export const [good, bad] = [3, 99]
export const rowsOf = (...data: number[]) => ({ inputs: [tensor('x', 'INT64', [data.length], data)] })

/** A step that is over once there are a few requests. */
export const quickStep = (share: number) => ({ share, holdS: 0, minRequests: 5, below: 'off' })

/** `m` with a stable and a canary arm. */
export function canaryWith(experiment: object, more: object = {}, weights: readonly [number, number] = [80, 20]) {
  const arms = { stable: { version: '1', weight: weights[0] }, canary: { version: '2', weight: weights[1] } }
  const rules = [{ match: { headers: { 'x-beta': 'yes' } }, arm: 'canary' }]
  return { models: { m: { split: { arms, rules }, experiment: { kind: 'canary', ...experiment }, ...more } } }
}

export interface Got {
  readonly status: number
  readonly arm: string | null
  readonly version: string | null
  readonly fallback: string | null
  readonly json: any
}

/** One request to `m`, or to what is named. */
export async function ask(
  { url }: Pick<TestGateway, 'url'>,
  value: number,
  headers: object = {},
  target = 'm',
): Promise<Got> {
  const response = await fetch(`${url}/v2/models/${target}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(rowsOf(value)),
  })
  const json = await response.json()
  const of = (name: string) => response.headers.get(name)
  return {
    status: response.status,
    arm: of('x-penstock-arm'),
    version: of('x-penstock-version'),
    fallback: of('x-penstock-fallback'),
    json,
  }
}

/** Requests one after the other, until as many were sent or there is an end. */
export async function askMany(
  gateway: Pick<TestGateway, 'url'>,
  value: number,
  most: number,
  isOver: () => boolean | Promise<boolean> = () => false,
): Promise<Got[]> {
  const got: Got[] = []
  while (got.length < most && !(await isOver())) got.push(await ask(gateway, value))
  return got
}

type Admin = Pick<TestGateway, 'adminUrl'>

export async function adminAsk({ adminUrl }: Admin, path: string, init: object = {}): Promise<Reply> {
  const response = await fetch(adminUrl + path, init)
  const text = await response.text()
  return { status: response.status, headers: response.headers, json: text === '' ? undefined : JSON.parse(text) }
}

export const splitOf = async (gateway: Admin, model = 'm') =>
  (await adminAsk(gateway, `/admin/models/${model}/split`)).json
export const experimentOf = async (gateway: Admin, model = 'm') =>
  (await adminAsk(gateway, `/admin/models/${model}/experiment`)).json
export const phaseOf = async (gateway: Admin): Promise<string> => (await experimentOf(gateway)).phase

/** Edits a split as whoever has seen `seen`; the present generation if nothing is said, no condition with null. */
export async function edit(gateway: Admin, body: unknown, seen?: string | null, model = 'm'): Promise<Reply> {
  const match = seen === undefined ? `"${(await splitOf(gateway, model)).generation}"` : seen
  const headers = { 'content-type': 'application/json', ...(match !== null && { 'if-match': match }) }
  return adminAsk(gateway, `/admin/models/${model}/split`, {
    method: 'PATCH',
    headers,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}

export function untilPhase(gateway: Admin, phase: string): Promise<void> {
  return until(`it is ${phase}`, async () => (await phaseOf(gateway)) === phase)
}

/** What is to end before the folders of a test go: at its end a gateway writes down what it knows. */
const ends = new WeakMap<TestContext, (() => Promise<unknown>)[]>()

function endsOf(t: TestContext): (() => Promise<unknown>)[] {
  const known = ends.get(t)
  if (known) return known
  const own: (() => Promise<unknown>)[] = []
  ends.set(t, own)
  t.after(() => Promise.all(own.map((end) => end())))
  return own
}

/** A gateway in this process. */
export async function startTrial(
  t: TestContext,
  options: { readonly store: Record<string, Buffer>; readonly settings: object },
): Promise<TestGateway> {
  const own = endsOf(t)
  const gateway = await startGateway(t, options)
  own.push(() => gateway.stop())
  return gateway
}

export interface ServedCanary {
  readonly process: Spawned
  readonly url: string
  readonly adminUrl: string
  readonly folder: string
}

/** A process of its own that serves `onTrial`; in the folder of one before it, it is that one again. */
export async function serveCanary(t: TestContext, settings: object, before?: string): Promise<ServedCanary> {
  const own = endsOf(t)
  const models = Object.fromEntries(Object.entries(onTrial).map(([name, content]) => [`models/${name}`, content]))
  const folder = before ?? (await folderWith(models))
  await writeFile(join(folder, 'penstock.yaml'), stringify({ ...settingsAlone, ...settings }))
  const process = penstock(t, ['serve', join(folder, 'penstock.yaml')])
  own.push(() => {
    process.child.kill('SIGKILL')
    return process.finished
  })
  const [, url, adminUrl] = await process.said(
    / at (http:\S+), metrics at http:\S+, status at (http:\S+)\/admin\/status\n/,
  )
  return { process, url: url!, adminUrl: adminUrl!, folder }
}

export interface Remembering extends TestGateway {
  readonly folder: string
  /** What was written down of changes. */
  readonly audited: () => Promise<any[]>
}

/** In this process, with a folder for what it remembers and writes down; the same folder again is a restart. */
export async function startRemembering(
  t: TestContext,
  {
    store,
    settings,
    before,
  }: { readonly store: Record<string, Buffer>; readonly settings: object; readonly before?: string },
): Promise<Remembering> {
  endsOf(t)
  const folder = before ?? (await folderWith())
  const auditFile = join(folder, 'audit.jsonl')
  const own = { state: { path: join(folder, 'state') }, admin: { port: 0, auditFile } }
  const gateway = await startTrial(t, { store, settings: { ...settings, ...own } })
  const audited = async () => {
    const lines = (await readFile(auditFile, 'utf8').catch(() => '')).split('\n')
    return lines.filter(Boolean).map((line) => JSON.parse(line) as unknown)
  }
  return { ...gateway, folder, audited }
}
