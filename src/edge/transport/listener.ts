/**
 * Accepts connections, within the limits, and learns whose they are: a balancer that passes bytes on puts a PROXY header
 * in front of them. What is spoken behind it is for others to find out.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import type { EdgeCounts } from '../../telemetry/edge-counts.ts'
import { clientOf, matcher } from './addresses.ts'
import type { Connection, Connections } from './connections.ts'
import { peek } from './peek.ts'
import { readProxyHeader } from './proxy-header.ts'

export interface ListenerOptions {
  readonly host: string
  readonly port: number
  /** Balancers that send a PROXY header. */
  readonly proxyProtocol: readonly string[]
  /** Behind whom many clients share an address. */
  readonly shared: readonly string[]
  /** Time for the PROXY header. */
  readonly headMs: number
}

export interface ListenerEvents {
  /** A connection on which the next byte is the client's own. */
  readonly onConnection: (connection: Connection) => void
  /** One too many; it is to be ended. */
  readonly onSurplus: (socket: Socket) => void
}

export class Listener {
  readonly #server: Server
  readonly #options: ListenerOptions
  readonly #events: ListenerEvents
  readonly #connections: Connections
  readonly #tools: { readonly clock: Clock; readonly counts: EdgeCounts }
  readonly #sendsHeader: (address: string) => boolean
  readonly #isShared: (address: string) => boolean

  constructor(
    options: ListenerOptions,
    connections: Connections,
    events: ListenerEvents,
    tools: { readonly clock: Clock; readonly counts: EdgeCounts },
  ) {
    this.#options = options
    this.#connections = connections
    this.#events = events
    this.#tools = tools
    this.#sendsHeader = matcher(options.proxyProtocol)
    this.#isShared = matcher(options.shared)
    this.#server = createServer({ noDelay: true }, (socket) => this.#accepted(socket))
  }

  /** Starts to listen; settles with the port. Rejects with the system's error. */
  listen(): Promise<number> {
    return listenOn(this.#server, this.#options)
  }

  /** Accepts no more. */
  close(): void {
    this.#server.close()
  }

  #accepted(socket: Socket): void {
    // Whoever is gone already has no address.
    const { remoteAddress: address } = socket
    socket.on('error', () => socket.destroy())
    const connection = address === undefined ? undefined : this.#connections.open(socket)
    if (!connection) this.#refuse(socket, 'total')
    else if (this.#sendsHeader(address!)) this.#readHeader(connection, address!)
    else this.#claim(connection, address!)
  }

  #readHeader(connection: Connection, own: string): void {
    let address = own
    const judge = (bytes: Buffer) => {
      const header = readProxyHeader(bytes)
      if (header.kind === 'partial') return undefined
      if (header.kind === 'broken') return -1
      if (header.kind === 'proxied') ({ address } = header)
      return header.bytes
    }
    const { clock } = this.#tools
    peek(connection.socket, judge, { clock, ms: this.#options.headMs }, (isGood) => {
      if (isGood) this.#claim(connection, address)
      else {
        this.#tools.counts.refused.proxy_header++
        connection.socket.destroy()
      }
    })
  }

  #claim(connection: Connection, address: string): void {
    const isWelcome = this.#connections.claim(connection, clientOf(address), this.#isShared(address))
    if (isWelcome) this.#events.onConnection(connection)
    else this.#refuse(connection.socket, 'address')
  }

  #refuse(socket: Socket, reason: 'total' | 'address'): void {
    this.#tools.counts.refused[reason]++
    this.#events.onSurplus(socket)
  }
}

/** Starts to listen; settles with the port. Rejects with the system's error. */
export function listenOn(server: Server, { host, port }: { host: string; port: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve((server.address() as AddressInfo).port)
    })
  })
}
