/** What a client says to a test gateway beyond plain JSON, and what the admin listener says about it. */
import assert from 'node:assert/strict'
import { after, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { TestGateway } from './gateway.ts'

/** Stands in for a test's context at the top level of a file, where what is started lives as long as that. */
export const wholeFile = { after } as unknown as TestContext

/** Settings of the edge on top of a free port and a quick end. */
export function edgeWith(options: object) {
  return { edge: { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 }, ...options } }
}

/** A batch runs when it has this many rows, or when its oldest row has waited so long: batching without chance. */
export function fixed(maxRows: number, windowMs: number) {
  return { policy: { kind: 'fixed', maxRows, windowMs } }
}

export interface RawReply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  readonly json: any
  /** What follows the JSON. */
  readonly binary: Buffer
}

/** POSTs bytes as they are to `/v2/models/TARGET/infer`. */
export async function post(
  { url }: TestGateway,
  target: string,
  body: string | Uint8Array | ReadableStream<Uint8Array>,
  headers: Record<string, string> = {},
): Promise<RawReply> {
  const all = { 'content-type': 'application/json', ...headers }
  // `duplex` lets a stream be a body, which makes it chunked.
  const init = { method: 'POST', headers: all, body, duplex: 'half' as const }
  const response = await fetch(`${url}/v2/models/${target}/infer`, init)
  const bytes = Buffer.from(await response.arrayBuffer())
  const length = response.headers.get('inference-header-content-length')
  const jsonBytes = length === null ? bytes.byteLength : Number(length)
  const text = bytes.toString('utf8', 0, jsonBytes)
  const { status } = response
  return { status, headers: response.headers, text, json: JSON.parse(text), binary: bytes.subarray(jsonBytes) }
}

type Bytes = Uint8Array | { readonly buffer: ArrayBufferLike; readonly byteOffset: number; readonly byteLength: number }

export function bytesOf({ buffer, byteOffset, byteLength }: Bytes): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength)
}

/** A request in JSON with binary tensors behind it, and the head that says so. */
export function withBinary(request: object | string, ...tensors: readonly Bytes[]) {
  const json = Buffer.from(typeof request === 'string' ? request : JSON.stringify(request))
  const headers = {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(json.byteLength),
  }
  return { body: Buffer.concat([json, ...tensors.map(bytesOf)]), headers }
}

/** An input whose elements follow the JSON. */
export function binaryTensor(name: string, datatype: string, shape: readonly number[], bytes: number) {
  return { name, datatype, shape, parameters: { binary_data_size: bytes } }
}

/** BYTES elements as they travel in binary: each behind its length. */
export function byteStrings(...elements: readonly (string | Uint8Array)[]): Buffer {
  const parts = elements.flatMap((element) => {
    const bytes = Buffer.from(element as string)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.byteLength)
    return [length, bytes]
  })
  return Buffer.concat(parts)
}

export async function admin({ adminUrl }: TestGateway, path: string): Promise<any> {
  return (await fetch(adminUrl + path)).json()
}

/** Rows that wait for a model, over its versions. */
export async function queuedRows(gateway: TestGateway, model: string): Promise<number> {
  const { models } = await admin(gateway, '/admin/status')
  const versions = models.find(({ name }: { name: string }) => name === model).versions as { queuedRows: number }[]
  return versions.reduce((sum, version) => sum + version.queuedRows, 0)
}

/** Settles once the condition holds. There is no event for what happens inside another's process. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 20_000
  while (!(await holds())) {
    assert.ok(performance.now() < giveUpAt, `never came true: ${what}`)
    await nextTurn()
  }
}

/** Every sample of /metrics by its name with labels. */
export async function samples({ metricsUrl }: TestGateway): Promise<Map<string, number>> {
  const text = await (await fetch(`${metricsUrl}/metrics`)).text()
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]))
}

/** One version's entry in the statistics. */
export async function statsOf(gateway: TestGateway, model: string): Promise<any> {
  return (await gateway.get(`/v2/models/${model}/stats`)).json.model_stats[0]
}

/** Requests to a model that ended so. */
export async function outcomes(served: TestGateway, model: string, code: string): Promise<number> {
  return (
    (await samples(served)).get(
      `penstock_requests_total{route="${model}",model="${model}",version="1",code="${code}"}`,
    ) ?? 0
  )
}

/** What bodies and tensors hold at the moment. */
export async function heldBytes(served: TestGateway): Promise<number> {
  return (await samples(served)).get('penstock_held_bytes')!
}
