/** Load on a server, and what the server used meanwhile. */
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { LoadOrder, LoadSlice, Wire } from './generator.ts'
import type { HttpRequest } from './requests.ts'
import type { Slice } from './interleave.ts'
import { cpuMsOf, Peer } from './processes.ts'

export interface HttpTarget {
  readonly pid: number
  readonly port: number
  /** Who signed its certificate, if it speaks TLS. */
  readonly ca?: string | undefined
}

/** How many connections there are, and how they speak. */
export interface Lines {
  readonly wire: Wire
  readonly connections: number
  /** Requests at once on each; more than one over HTTP/2 only. */
  readonly streams?: number
}

export class LoadGenerator implements AsyncDisposable {
  readonly #peer = new Peer(new URL('generator.ts', import.meta.url))

  get pid(): number {
    return this.#peer.pid
  }

  /** Opens connections that will all send the same request. */
  async open(target: HttpTarget, lines: Lines, request: HttpRequest): Promise<Load> {
    const { port, ca } = target
    const pool = await this.#ask<number>({ kind: 'open', streams: 1, ...lines, port, ca, ...request })
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

/** Sends a request once, with a client that nobody measures. */
export function sendOnce({ port, ca }: HttpTarget, { path, headers, body }: HttpRequest): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const send = ca === undefined ? requestHttp : requestHttps
  const sent = send({ host: 'localhost', port, path, method: 'POST', headers, ca, agent: false }, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('end', () => {
      const answer = Buffer.concat(chunks)
      if (response.statusCode === 200) resolve(answer)
      else reject(new Error(`the server refuses the bench's request: ${answer.toString()}`))
    })
  })
  sent.on('error', reject)
  sent.end(body)
  return promise
}
