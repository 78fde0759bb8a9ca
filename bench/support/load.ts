/** Load on a server, and what the server used meanwhile. */
import type { LoadOrder, LoadSlice } from './generator.ts'
import type { Slice } from './interleave.ts'
import { cpuMsOf, Peer } from './processes.ts'

export interface HttpRequest {
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

export interface HttpTarget {
  readonly pid: number
  readonly port: number
}

export class LoadGenerator implements AsyncDisposable {
  readonly #peer = new Peer(new URL('generator.ts', import.meta.url))

  get pid(): number {
    return this.#peer.pid
  }

  /** Opens connections that will all send the same request. */
  async open(target: HttpTarget, connections: number, request: HttpRequest): Promise<Load> {
    const { port } = target
    const pool = await this.#ask<number>({ kind: 'open', port, connections, request: onTheWire(port, request) })
    return {
      slice: async (ms) => {
        const before = cpuMsOf(target.pid)
        const { requests, bad, p50Ms } = await this.#ask<LoadSlice>({ kind: 'slice', pool, ms })
        return { work: requests, bad, p50Ms, cpuMs: cpuMsOf(target.pid) - before }
      },
      close: () => this.#ask({ kind: 'close', pool }),
    }
  }

  #ask<Reply>(order: LoadOrder): Promise<Reply> {
    return this.#peer.ask(order)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#peer[Symbol.asyncDispose]()
  }
}

/** Open connections to one server. */
export interface Load {
  slice(ms: number): Promise<Slice>
  close(): Promise<unknown>
}

function onTheWire(port: number, { path, headers, body }: HttpRequest): Uint8Array {
  const all = { host: `127.0.0.1:${port}`, ...headers, 'content-length': String(body.byteLength) }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`), body])
}

/** Sends a request once, with a client that nobody measures. */
export async function sendOnce({ port }: HttpTarget, { path, headers, body }: HttpRequest): Promise<Buffer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', headers, body: Buffer.from(body) })
  const answer = Buffer.from(await response.arrayBuffer())
  if (!response.ok) throw new Error(`the server refuses the bench's request: ${answer.toString()}`)
  return answer
}
