/** A gateway whose store and configuration change under it, and what it writes into its log meanwhile. */
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { Agent, request, type IncomingMessage } from 'node:http'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { stringify } from 'yaml'
import { follow, start, type Running } from '../../src/cli/serve.ts'
import { loadConfig } from '../../src/config.ts'
import { showMistake } from '../../src/core/document.ts'
import { until as untilNow } from './client.ts'
import { plus } from './fleet.ts'
import { folderWith, tensor } from './gateway.ts'
import { onnx } from './onnx.ts'

/** Version V of a model that adds V hundreds to its number, so that an answer says which version it is of. */
export const adds = (version: number) => plus(100 * version)

/** Likewise, but it knows the numbers from 0 to 15 only, and fails on all others. */
export function picky(version: number): Buffer {
  const data = Array.from({ length: 16 }, (_, i) => 100 * version + i)
  return onnx({
    inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
    outputs: [{ name: 'y', type: 'INT64', shape: ['n', 1] }],
    constants: [{ name: 'table', type: 'INT64', shape: [16], data }],
    nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
  })
}

/** What `picky` fails on. */
export const odd = 20

/** Settings that make everything quick. */
export const quick = {
  auth: 'none',
  edge: { port: 0, deadlineMs: 3_000, drain: { idleMs: 0, timeoutMs: 5_000 } },
  metrics: { port: 0 },
  admin: { port: 0 },
  store: { path: 'models', refreshS: 0.2 },
  runtime: { executors: 1, warmUpMs: 0 },
  log: { level: 'silent' },
}

export interface Told {
  readonly level: string
  readonly message: string
  readonly [field: string]: unknown
}

export interface FollowedGateway extends Running {
  readonly folder: string
  /** What was written into the log since it was started. */
  readonly told: Told[]
  /** Puts a file there at once, as whoever copies with care does. */
  put(name: string, content: string | Buffer): Promise<void>
  remove(name: string): Promise<void>
  /** Another configuration: the quick one with these settings on top. */
  configure(settings: object): Promise<void>
  /** Settles with the first message in the log that fits, those before `from` left out. */
  hears(pattern: RegExp, from?: number): Promise<Told>
}

type Files = Readonly<Record<string, string | Buffer>>

/** Serves these files and follows them. Models are under `models/`. */
export async function followed(t: TestContext, files: Files, settings: object = {}): Promise<FollowedGateway> {
  const ending = endingFor(t)
  const folder = await folderWith({ 'penstock.yaml': stringify({ ...quick, ...settings }), ...files })
  return serveFrom(ending, folder)
}

export interface Ending {
  last: () => Promise<unknown>
}

/** What ends with a test before its folders go: gateways write into them to the last. */
export function endingFor(t: TestContext): Ending {
  const ending: Ending = { last: () => Promise.resolve() }
  t.after(() => ending.last())
  return ending
}

/** Serves what is in a folder and follows it. */
export async function serveFrom(ending: Ending, folder: string): Promise<FollowedGateway> {
  const path = join(folder, 'penstock.yaml')
  const file = await loadConfig(path)
  if ('mistakes' in file) throw new Error(file.mistakes.map(showMistake).join('\n'))
  const started = await start(file)
  if ('mistakes' in started) throw new Error(started.mistakes.map(showMistake).join('\n'))
  if ('problem' in started) throw new Error(started.problem)
  const { running } = started
  const told = listen(running)
  const following = await follow(path, running.gateway)
  const stop = () => {
    following.close()
    return running.stop()
  }
  const { last } = ending
  ending.last = async () => {
    await stop()
    await last()
  }
  const put = (name: string, content: string | Buffer) => replace(join(folder, name), content)
  return {
    ...running,
    stop,
    folder,
    told,
    put,
    remove: (name) => rm(join(folder, name), { recursive: true }),
    configure: (settings) => put('penstock.yaml', stringify({ ...quick, ...settings })),
    hears: async (pattern, from = 0) => {
      const heard = () => told.slice(from).find(({ message }) => pattern.test(message))
      await until(`${pattern} is told`, () => Promise.resolve(heard() !== undefined))
      return heard()!
    },
  }
}

export async function replace(path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const other = join(dirname(path), `.${process.hrtime.bigint()}`)
  await writeFile(other, content)
  await rename(other, path)
}

/** Lets a link lead elsewhere from one moment to the next, as the kubelet does. */
export async function relink(target: string, path: string): Promise<void> {
  await symlink(target, `${path}.next`)
  await rename(`${path}.next`, path)
}

function listen({ gateway: { log } }: Running): Told[] {
  const told: Told[] = []
  const levels = ['info', 'warn', 'error'].map((level) => {
    return [level, (fields: object, message: string) => void told.push({ ...fields, level, message })] as const
  })
  Object.assign(log, Object.fromEntries(levels))
  return told
}

export const until = (what: string, holds: () => Promise<boolean>) =>
  untilNow(what, async () => (await holds()) || pause(20, false))

export interface Answer {
  readonly status: number
  /** What the head says. */
  readonly arm: string | undefined
  readonly version: string | undefined
  readonly instead: string | undefined
  readonly x: number
  readonly json: any
}

/** One request for one number; without an answer the status is 0. */
export function ask(
  { url }: { readonly url: string },
  target: string,
  { x = 1, headers = {}, agent }: { x?: number; headers?: Record<string, string>; agent?: Agent } = {},
): Promise<Answer> {
  const body = JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [x])] })
  const all = { 'content-type': 'application/json', 'content-length': body.length, ...headers }
  return new Promise((resolve) => {
    const failed = ({ message }: Error) =>
      resolve({ status: 0, arm: undefined, version: undefined, instead: undefined, x, json: message })
    const options = { method: 'POST', headers: all, ...(agent && { agent }) }
    const sent = request(`${url}/v2/models/${target}/infer`, options, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve({ ...headOf(response), x, json: JSON.parse(text) }))
      response.on('error', failed)
    })
    sent.on('error', failed)
    sent.end(body)
  })
}

function headOf({ statusCode, headers }: IncomingMessage) {
  const field = (name: string) => headers[name] as string | undefined
  const [arm, version, instead] = ['arm', 'version', 'fallback'].map((name) => field(`x-penstock-${name}`))
  return { status: statusCode!, arm, version, instead }
}

/** One whose end waits for a word. */
export function slowRequest({ url }: { readonly url: string }, target: string, input: object) {
  const body = JSON.stringify({ inputs: [input] })
  const headers = { 'content-type': 'application/json', 'content-length': body.length }
  const sent = request(`${url}/v2/models/${target}/infer`, { method: 'POST', headers })
  const status = new Promise<number | undefined>((resolve, reject) => {
    sent.on('response', (response) => resolve(response.resume().statusCode))
    sent.on('error', reject)
  })
  const begun = new Promise<void>((resolve) => void sent.write(body.slice(0, 20), () => resolve()))
  return {
    begun,
    end: () => {
      sent.end(body.slice(20))
      return status
    },
  }
}

/** By the number that it gave, the version that answered. */
export function versionOf({ json, x, status }: Answer): string {
  return status === 200 ? String((json.outputs[0].data[0] - x) / 100) : `status ${status}`
}

/** Whether head, body and numbers of an answer say the same. */
export function fitsTogether(answer: Answer): boolean {
  const { status, arm, version, json } = answer
  if (status !== 200) return false
  const isOne = json.model_version === versionOf(answer) && json.parameters?.arm === arm
  return isOne && (version === undefined || version === json.model_version)
}

/** Clients that ask all the time until the test ends, each again as soon as it has its answer. */
export class Traffic {
  readonly answers: Answer[] = []
  #isOver = false
  readonly #clients: Promise<void>[]

  constructor(
    t: TestContext,
    to: { readonly url: string },
    {
      target = 'm',
      atOnce = 4,
      x = 1,
      headers = {},
    }: { target?: string; atOnce?: number; x?: number; headers?: Record<string, string> } = {},
  ) {
    t.after(() => this.end())
    const agent = new Agent({ keepAlive: true })
    const pour = async () => {
      while (!this.#isOver) this.answers.push(await ask(to, target, { x, headers, agent }))
    }
    this.#clients = Array.from({ length: atOnce }, pour)
    void Promise.all(this.#clients).then(() => agent.destroy())
  }

  /** Settles when there are so many answers more. */
  more(count: number): Promise<void> {
    const enough = this.answers.length + count
    return until('they are answered', () => Promise.resolve(this.answers.length >= enough))
  }

  async end(): Promise<readonly Answer[]> {
    this.#isOver = true
    await Promise.all(this.#clients)
    return this.answers
  }
}

/** Says something to the admin listener. */
export async function administer(
  { adminUrl }: { readonly adminUrl: string },
  method: string,
  path: string,
  { body, generation }: { body?: object; generation?: number } = {},
): Promise<{ status: number; json: any }> {
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  if (generation !== undefined) headers['if-match'] = `"${generation}"`
  const init = { method, headers, ...(body && { body: JSON.stringify(body) }) }
  const response = await fetch(`${adminUrl}/admin/${path}`, init)
  return { status: response.status, json: await response.json() }
}

export async function splitOf(at: { readonly adminUrl: string }, model: string = 'm'): Promise<any> {
  return (await administer(at, 'GET', `models/${model}/split`)).json
}

/** Changes a split as whoever has just looked at it does. */
export async function edit(at: { readonly adminUrl: string }, body: object, model: string = 'm') {
  const { generation } = await splitOf(at, model)
  return administer(at, 'PATCH', `models/${model}/split`, { body, generation })
}

/** Shares by arm. */
export async function sharesOf(
  at: { readonly adminUrl: string },
  model: string = 'm',
): Promise<Record<string, number>> {
  const { arms } = await splitOf(at, model)
  return Object.fromEntries(
    arms.map(({ arm, share }: { arm: string; share: number }) => [arm, Number(share.toFixed(6))]),
  )
}

/** How the store stands, by model and version. */
export async function storeOf(at: {
  readonly adminUrl: string
}): Promise<Map<string, { state: string; problem?: string }>> {
  const { json } = await administer(at, 'GET', 'status')
  return new Map(json.store.map((each: any) => [`${each.model}/${each.version}`, each]))
}
