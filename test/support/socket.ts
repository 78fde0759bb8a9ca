/** A bare connection, for clients that do not behave: what is written goes out as it is. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { TestContext } from 'node:test'

export interface WireReply {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly json: any
  /** What follows the JSON. */
  readonly binary: Buffer
}

export class Wire {
  readonly #socket: Socket
  #received: Buffer = Buffer.alloc(0)
  #changed: (() => void)[] = []
  #isGone = false
  #isStuck = false

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#isGone = true
      this.#wake()
    })
    // A test that waits for what does not come must fail, not hang.
    socket.setTimeout(20_000, () => {
      this.#isStuck = true
      socket.destroy()
    })
  }

  /**
   * Connects to a gateway, with TLS if its address says so; the connection goes away with the test. `from` is an address
   * of this machine, for a client that is to be told from others.
   */
  static async open(t: TestContext, url: string, ca: string = '', from: string = ''): Promise<Wire> {
    const { hostname, port, protocol } = new URL(url)
    const isSecure = protocol === 'https:'
    const to = { port: Number(port), host: hostname, ...(from && { localAddress: from }) }
    const socket = isSecure ? connectTls({ ...to, ca }) : connect(to)
    t.after(() => socket.destroy())
    const wire = new Wire(socket)
    await once(socket, isSecure ? 'secureConnect' : 'connect')
    return wire
  }

  /** Bytes that came and belong to no answer yet. */
  get unread(): number {
    return this.#received.byteLength
  }

  write(data: string | Uint8Array): void {
    this.#socket.write(data)
  }

  /** Settles once the kernel has it: who hangs up before has not sent it over TLS. */
  sent(data: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => this.#socket.write(data, () => resolve()))
  }

  hangUp(): void {
    this.#socket.destroy()
  }

  /** Settles when the connection is gone, whoever ended it and however; rejects if it does not go. */
  get gone(): Promise<void> {
    return this.#untilGone()
  }

  /** The next answer on this connection; rejects if the connection ends before. */
  async reply(): Promise<WireReply> {
    for (;;) {
      const parsed = parse(this.#received)
      if (parsed) {
        this.#received = this.#received.subarray(parsed.bytes)
        return parsed.reply
      }
      if (this.#isGone) throw new Error(`the connection ended after ${this.#received.byteLength} bytes of an answer`)
      await this.#change()
    }
  }

  async #untilGone(): Promise<void> {
    while (!this.#isGone) await this.#change()
    if (this.#isStuck) throw new Error('the connection stayed open')
  }

  #change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#changed.push(resolve)
    return promise
  }

  #wake(): void {
    for (const resolve of this.#changed.splice(0)) resolve()
  }
}

function parse(received: Buffer): { reply: WireReply; bytes: number } | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end < 0) return undefined
  const [line = '', ...fields] = received.toString('latin1', 0, end).split('\r\n')
  const headers = new Map(
    fields.map((field) => {
      const colon = field.indexOf(':')
      return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()]
    }),
  )
  const bytes = end + 4 + Number(headers.get('content-length') ?? 0)
  if (received.byteLength < bytes) return undefined
  const body = received.subarray(end + 4, bytes)
  const jsonBytes = Number(headers.get('inference-header-content-length') ?? body.byteLength)
  const json: unknown = jsonBytes === 0 ? undefined : JSON.parse(body.toString('utf8', 0, jsonBytes))
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(line)?.[1])
  return { reply: { status, headers, json, binary: body.subarray(jsonBytes) }, bytes }
}

/** An inference request as it goes over the wire, with a Content-Length unless `fields` say otherwise. */
export function wireRequest(model: string, body: string, fields: Readonly<Record<string, string>> = {}): string {
  const framed = 'transfer-encoding' in fields || 'content-length' in fields
  const length = framed ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  const all = { host: 'localhost', 'content-type': 'application/json', ...length, ...fields }
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `POST /v2/models/${model}/infer HTTP/1.1\r\n${head.join('')}\r\n${body}`
}
