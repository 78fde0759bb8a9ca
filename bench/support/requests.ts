/** Requests for inference, as the benches send them. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { repository } from './processes.ts'

export interface HttpRequest {
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

/** A small JSON request for the tabular model: one row of 30 numbers. */
export const tabular = { model: 'breast-cancer', version: '1' } as const

export async function tabularRequest(): Promise<HttpRequest> {
  const { model, version } = tabular
  const body = await readFile(join(repository, `config/models/${model}/${version}/samples/malignant.json`))
  return { path: pathOf(model), headers: { 'content-type': 'application/json' }, body }
}

export interface BinaryInput {
  readonly name: string
  readonly datatype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** A request of one binary tensor, which asks for binary tensors in return. */
export function binaryRequest(model: string, { data, ...input }: BinaryInput): HttpRequest {
  const json = JSON.stringify({
    parameters: { binary_data_output: true },
    inputs: [{ ...input, parameters: { binary_data_size: data.byteLength } }],
  })
  const headers = {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(Buffer.byteLength(json)),
  }
  return { path: pathOf(model), headers, body: Buffer.concat([Buffer.from(json), data]) }
}

/** A request as its bytes are on the wire of HTTP/1.1. */
export function onTheWire(host: string, { path, headers, body }: HttpRequest): Uint8Array {
  const all = { host, ...headers, 'content-length': String(body.byteLength) }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`), body])
}

function pathOf(model: string): string {
  return `/v2/models/${model}/infer`
}
