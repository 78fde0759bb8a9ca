/** A bare connection over HTTP/1.1 that says what has come, how it ended, and may be read as slowly as a test wants. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { until } from './client.ts'
import { tensor } from './gateway.ts'
import { isOverTls, type Everywhere, type Http1 } from './protocols.ts'

/** Asks a model of zeros for sixteen megabytes. */
export const large = JSON.stringify({
  inputs: [tensor('x', 'INT64', [1], [4_000_000])],
  outputs: [{ name: 'y', parameters: { binary_data: true } }],
})

/** The certificate is good for the names that most tests use. */
const checkServerIdentity = () => undefined

/** Reads what comes unless it is paused. */
export class Line {
  received = ''
  /** Whether the other side has said that nothing more comes. */
  hasEnded = false
  isGone = false
  readonly socket: Socket
  /** Settles when the other side has ended the connection, or it is gone. */
  readonly over: Promise<void>

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => (this.received += chunk.toString('latin1')))
    socket.on('error', () => undefined)
    this.over = new Promise((resolve) => {
      socket.on('end', () => {
        this.hasEnded = true
        resolve()
      })
      socket.on('close', () => {
        this.isGone = true
        resolve()
      })
    })
  }

  /** Connects; rejects if the connection, or its handshake, is refused. */
  static async open(t: TestContext, there: Everywhere<Http1>, protocol: Http1, allowHalfOpen = false): Promise<Line> {
    const { hostname, port } = new URL(there.served[protocol].url)
    const to = { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port), allowHalfOpen }
    const socket = isOverTls(protocol)
      ? connectTls({ ...to, ca: there.ca, ALPNProtocols: ['http/1.1'], checkServerIdentity })
      : connect(to)
    t.after(() => socket.destroy())
    const line = new Line(socket)
    await once(socket, isOverTls(protocol) ? 'secureConnect' : 'connect')
    return line
  }

  write(text: string): void {
    this.socket.write(text)
  }

  /** The statuses of the answers so far. */
  get statuses(): number[] {
    return [...this.received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
  }

  /** Settles once there are as many answers. */
  async answered(count: number): Promise<void> {
    await until(`there are ${count} answers`, () => Promise.resolve(this.isGone || this.statuses.length >= count))
    assert.equal(this.statuses.length, count)
  }

  gone(): Promise<void> {
    return until('the connection is gone', () => Promise.resolve(this.isGone))
  }
}
