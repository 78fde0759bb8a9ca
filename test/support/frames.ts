/** HTTP/2 frame by frame (RFC 9113), for clients that do not behave: what is written goes out as it is. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { onnx } from './onnx.ts'
import type { Everywhere } from './protocols.ts'

export const types = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const
export const flags = { none: 0, ack: 1, endStream: 1, endHeaders: 4, padded: 8 } as const
/** RFC 9113 section 7. */
export const codes = {
  none: 0,
  protocol: 1,
  flow: 3,
  closed: 5,
  size: 6,
  refused: 7,
  cancel: 8,
  compression: 9,
  calm: 11,
} as const

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const nothing = Buffer.alloc(0)

export function frame(type: number, flag: number, stream: number, payload: Uint8Array = nothing): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flag, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A SETTINGS frame of identifiers and their values. */
export function settings(values: Readonly<Record<number, number>>): Buffer {
  const payload = Object.entries(values).map(([id, value]) => {
    const bytes = Buffer.alloc(6)
    bytes.writeUInt16BE(Number(id))
    bytes.writeUInt32BE(value, 2)
    return bytes
  })
  return frame(types.settings, flags.none, 0, Buffer.concat(payload))
}

/** The first words of a client. No table is kept for fields that come, so that they are easy to read. */
export function opening(own: Readonly<Record<number, number>> = {}): Buffer {
  return Buffer.concat([Buffer.from(preface), settings({ 1: 0, ...own })])
}

/** Fields in HPACK (RFC 7541), each a literal that is put into no table and not compressed. */
export function fieldBlock(fields: Readonly<Record<string, string>>): Buffer {
  const parts = Object.entries(fields).flatMap(([name, value]) => [Buffer.of(0), hpackText(name), hpackText(value)])
  return Buffer.concat(parts)
}

/** A string behind its length, a number with a prefix of 7 bits (RFC 7541 section 5.1). */
function hpackText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  const length: number[] = []
  let rest = bytes.length
  if (rest >= 127) {
    length.push(127)
    for (rest -= 127; rest > 127; rest >>= 7) length.push((rest & 127) | 128)
  }
  length.push(rest)
  return Buffer.concat([Buffer.from(length), bytes])
}

/** The fields of an inference request. */
export function inferFields(model: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const pseudo = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': `/v2/models/${model}/infer`,
    ':authority': 'localhost',
  }
  return { ...pseudo, 'content-type': 'application/json', ...more }
}

/** A request's HEADERS in one frame. */
export function request(stream: number, fields: Readonly<Record<string, string>>, ends = false): Buffer {
  return frame(types.headers, flags.endHeaders | (ends ? flags.endStream : 0), stream, fieldBlock(fields))
}

export function data(stream: number, payload: string | Uint8Array, ends = false): Buffer {
  return frame(types.data, ends ? flags.endStream : 0, stream, Buffer.from(payload as string))
}

export function reset(stream: number, code: number = codes.cancel): Buffer {
  return frame(types.reset, flags.none, stream, number32(code))
}

export interface Answer {
  readonly status: number
  readonly json: any
}

/** Where to connect to: a gateway, and for TLS who signed its certificate. */
export interface Place {
  readonly url: string
  readonly ca: string
}

export function placeOf({ served, ca }: Everywhere<Http2>, protocol: Http2): Place {
  return { url: served[protocol].url, ca }
}

export const http2Protocols = ['h2c', 'h2'] as const
export type Http2 = (typeof http2Protocols)[number]

/** One test for HTTP/2 without TLS, and one for it with TLS. */
export function overBoth(what: string, run: (t: TestContext, protocol: Http2) => Promise<void>): void {
  for (const protocol of http2Protocols) test(`${what}, over ${protocol}`, (t) => run(t, protocol))
}

/** Answers as many zeros as its input says, for clients that do not take what they have asked for. */
export const zeros = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: [1] }],
  outputs: [{ name: 'y', type: 'FP32', shape: ['k'] }],
  nodes: [{ op: 'ConstantOfShape', inputs: ['x'], outputs: ['y'] }],
})

export class FrameWire {
  /** What has come so far, in its order. */
  readonly frames: Frame[] = []
  readonly #socket: Socket
  #rest: Buffer = nothing
  #changed: (() => void)[] = []
  #unsent = 0
  #isGone = false
  #isStuck = false

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay()
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#isGone = true
      this.#wake()
    })
    // A test that waits for what does not come must fail, not hang.
    socket.setTimeout(10_000, () => {
      this.#isStuck = true
      socket.destroy()
    })
  }

  /** Connects and says nothing. The connection goes away with the test. */
  static async connect(t: TestContext, { url, ca }: Place): Promise<FrameWire> {
    const { protocol, hostname: host, port } = new URL(url)
    const isSecure = protocol === 'https:'
    const socket = isSecure
      ? connectTls({ host, port: Number(port), ca, ALPNProtocols: ['h2'] })
      : connect(Number(port), host)
    t.after(() => socket.destroy())
    const wire = new FrameWire(socket)
    await once(socket, isSecure ? 'secureConnect' : 'connect')
    return wire
  }

  /** Connects, and begins to speak HTTP/2; `own` are settings. */
  static async open(t: TestContext, place: Place, own: Readonly<Record<number, number>> = {}): Promise<FrameWire> {
    const wire = await FrameWire.connect(t, place)
    wire.write(opening(own))
    await wire.frame(({ type }) => type === types.settings)
    wire.write(frame(types.settings, flags.ack, 0))
    return wire
  }

  write(...parts: readonly (string | Uint8Array)[]): void {
    this.#unsent++
    this.#socket.write(Buffer.concat(parts.map((part) => Buffer.from(part as string))), () => {
      this.#unsent--
      this.#wake()
    })
  }

  /** Settles once all that was written is in the kernel's hands, or the connection gone. */
  async flushed(): Promise<void> {
    while (!this.#isGone && this.#unsent > 0) await this.#change()
  }

  hangUp(): void {
    this.#socket.destroy()
  }

  /** Takes no more of what comes. */
  pause(): void {
    this.#socket.setTimeout(0)
    this.#socket.pause()
  }

  get isGone(): boolean {
    return this.#isGone
  }

  /** Settles when the connection is gone, whoever ended it and however; rejects if it does not go. */
  async gone(): Promise<void> {
    while (!this.#isGone) await this.#change()
    if (this.#isStuck) throw new Error('the connection stayed open')
  }

  /** The first frame that fits, come already or yet to come; rejects if the connection ends without one. */
  async frame(fits: (frame: Frame) => boolean): Promise<Frame> {
    for (;;) {
      const found = this.frames.find(fits)
      if (found) return found
      if (this.#isGone) throw new Error(`the connection ended after ${this.#listed()}`)
      await this.#change()
    }
  }

  /** The code with which the server ends a stream. */
  async resetOf(stream: number): Promise<number> {
    const found = await this.frame((each) => each.type === types.reset && each.stream === stream)
    return found.payload.readUInt32BE()
  }

  /** The code of the first GOAWAY, and the last stream that it says was taken. */
  async goaway(): Promise<{ readonly code: number; readonly last: number }> {
    const { payload } = await this.frame(({ type }) => type === types.goaway)
    return { code: payload.readUInt32BE(4), last: payload.readUInt32BE() }
  }

  /** The answer on a stream, once it is complete; rejects if the stream is reset before. */
  async answer(stream: number): Promise<Answer> {
    const isOf = (each: Frame) => each.stream === stream
    const ends = ({ type, flags: flag }: Frame) => type <= types.headers && (flag & flags.endStream) !== 0
    const last = await this.frame((each) => isOf(each) && (each.type === types.reset || ends(each)))
    if (last.type === types.reset) throw new Error(`the stream was reset with code ${last.payload.readUInt32BE()}`)
    const head = this.frames.findLast((each) => isOf(each) && each.type === types.headers)!
    const body = Buffer.concat(this.frames.filter((each) => isOf(each) && each.type === types.data).map(payloadOf))
    return { status: statusIn(head.payload), json: body.length > 0 ? JSON.parse(body.toString()) : undefined }
  }

  /** Settles once the server has looked at everything that was written: it answers pings in their turn. */
  async settled(): Promise<void> {
    const mark = Buffer.alloc(8)
    mark.writeDoubleBE(Math.random())
    this.write(frame(types.ping, flags.none, 0, mark))
    await this.frame(
      ({ type, flags: flag, payload }) => type === types.ping && flag === flags.ack && payload.equals(mark),
    )
  }

  #take(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    while (this.#rest.length >= 9) {
      const end = 9 + this.#rest.readUIntBE(0, 3)
      if (this.#rest.length < end) break
      const [type, flag, stream] = [this.#rest[3]!, this.#rest[4]!, this.#rest.readUInt32BE(5)]
      this.frames.push({ type, flags: flag, stream, payload: this.#rest.subarray(9, end) })
      this.#rest = this.#rest.subarray(end)
    }
    this.#wake()
  }

  #listed(): string {
    return this.frames.map(({ type, stream, payload }) => `${type}:${stream}(${payload.length})`).join(' ') || 'nothing'
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

function payloadOf({ payload }: Frame): Buffer {
  return payload
}

/** Indexes 8 to 14 of HPACK's static table. */
const knownStatuses = [200, 204, 206, 304, 400, 404, 500]

/** The status comes first in a block, behind what is said about the table's size (RFC 7541 sections 6.1 and 6.3). */
function statusIn(block: Buffer): number {
  const at = block.findIndex((byte) => (byte & 0xe0) !== 0x20)
  const first = block[at]!
  if (first & 0x80) return knownStatuses[(first & 0x7f) - 8] ?? NaN
  const length = block[at + 1]!
  const value = block.subarray(at + 2, at + 2 + (length & 0x7f))
  return Number(length & 0x80 ? digitsIn(value) : value.toString())
}

/** Huffman's code for digits (RFC 7541 appendix B): 0 to 2 have five bits, the others six. */
function digitsIn(bytes: Buffer): string {
  let bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  let digits = ''
  while (bits.length >= 5) {
    const short = parseInt(bits.slice(0, 5), 2)
    const long = parseInt(bits.slice(0, 6).padEnd(6, '1'), 2)
    if (short > 2 && (long < 25 || long > 31)) break
    digits += short <= 2 ? short : long - 22
    bits = bits.slice(short <= 2 ? 5 : 6)
  }
  return digits
}
