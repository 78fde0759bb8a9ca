/**
 * The admin listener: metrics, and what the gateway is doing. It has no way to ask who is calling yet, so it listens on
 * loopback only, and answers no page of a browser that was lured here: Host and Origin must be this machine's.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { isLoopback } from '../core/address.ts'
import { refuse } from '../core/refusal.ts'
import { listenOn } from './listen.ts'
import type { AdminOptions } from './options.ts'
import { writeJson, writeRefusal } from './respond.ts'
import type { Administration } from './serving.ts'

export class AdminEdge {
  readonly #options: AdminOptions
  readonly #administration: Administration
  readonly #server: Server

  constructor(options: AdminOptions, administration: Administration) {
    this.#options = options
    this.#administration = administration
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch(() => response.destroy())
    })
  }

  listen(): Promise<number> {
    return listenOn(this.#server, this.#options)
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { host, origin } = request.headers
    if (!isOwnName(host) || (origin !== undefined && !isOwnName(origin.replace(/^https?:\/\//, '')))) {
      writeRefusal(response, refuse('not_found', 'the admin listener answers to the names of this machine only'), '')
      return
    }
    if (request.method !== 'GET') {
      response.setHeader('allow', 'GET')
      writeRefusal(response, refuse('method_not_allowed', 'this path takes GET only'), '')
      return
    }
    if (request.url === '/metrics') {
      const text = await this.#administration.metrics()
      response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
      response.end(text)
    } else if (request.url === '/admin/status') writeJson(response, 200, this.#administration.status())
    else if (request.url === '/admin/config') writeJson(response, 200, this.#administration.config())
    else writeRefusal(response, refuse('not_found', 'there are /metrics, /admin/status and /admin/config'), '')
  }
}

/** Whether a Host header (or an Origin without its scheme) means this machine, whatever the port. */
function isOwnName(host: string | undefined): boolean {
  return host !== undefined && isLoopback(host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'))
}
