/** One connection of a caller, with one request in flight: just as much of HTTP/1.1 as an answer with a length needs. */
import { connect, type Socket } from 'node:net'

export interface Place {
  readonly port: number
  /** The address that the connection comes from: what tells callers apart. */
  readonly address: string
}

export interface Owner {
  /** `status` is 0 if the connection went away instead. */
  answered(connection: OpenConnection, status: number): void
  /** It can take no more requests. */
  closed(connection: OpenConnection): void
}

/** Shared by all connections: what was read is looked at before anything else is read. */
const buffer = Buffer.allocUnsafeSlow(65_536)

export class OpenConnection {
  /** When the request in flight was due, and when it was sent. */
  dueAt = 0
  sentAt = 0
  readonly opened: Promise<void>
  readonly #owner: Owner
  readonly #socket: Socket
  #isWaiting = false
  #isLast = false
  #status = 0
  /** Bytes of the body that are still to come. */
  #left = 0
  /** The beginning of a head that came in pieces. */
  #partial = ''

  constructor(owner: Owner, { port, address }: Place) {
    this.#owner = owner
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.opened = promise
    const onread = { buffer, callback: this.#read }
    const place = { port, host: '127.0.0.1', localAddress: address, noDelay: true, onread }
    this.#socket = connect(place, resolve)
    this.#socket.on('error', reject)
    this.#socket.on('close', () => this.#close())
  }

  send(request: Uint8Array): void {
    this.#isWaiting = true
    this.#socket.write(request)
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #close(): void {
    if (this.#isWaiting) {
      this.#isLast = true
      this.#done(0)
    }
    this.#owner.closed(this)
  }

  readonly #read = (bytes: number): boolean => {
    // What nobody asked for is the server's farewell: too many connections, or idle for too long.
    if (!this.#isWaiting) this.#socket.destroy()
    else this.#take(bytes)
    return true
  }

  #take(bytes: number): void {
    if (this.#left > 0) this.#left -= bytes
    else if (!this.#readHead(bytes)) return
    if (this.#left < 0) this.#socket.destroy()
    else if (this.#left === 0) this.#done(this.#status)
  }

  /** Returns whether the head is complete. */
  #readHead(bytes: number): boolean {
    const text = this.#partial + buffer.toString('latin1', 0, bytes)
    const headEnd = text.indexOf('\r\n\r\n')
    this.#partial = headEnd < 0 ? text : ''
    if (headEnd < 0) return false
    const length = /\r\ncontent-length: (\d+)/i.exec(text)
    this.#status = Number(text.slice(9, 12))
    this.#isLast = /\r\nconnection: close/i.test(text)
    // Without a length it cannot be told where the answer ends: the connection is given up.
    this.#left = length ? Number(length[1]) - (text.length - headEnd - 4) : -1
    return true
  }

  #done(status: number): void {
    this.#isWaiting = false
    this.#owner.answered(this, status)
  }

  /** Whether it takes another request. */
  get isOpen(): boolean {
    return !this.#isLast && !this.#socket.destroyed
  }
}
