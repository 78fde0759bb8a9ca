/** What clients do that mean harm, each until it is told to stop. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import {
  data,
  fieldBlock,
  flags,
  frame,
  inferFields,
  number32,
  request,
  reset,
  settings,
  types,
} from '../../test/support/frames.ts'
import { goodRequest, hostileCases } from '../../test/support/hostile-cases.ts'
import { hostileHeads } from '../../test/support/hostile-heads.ts'
import { openClient, type Protocol } from '../../test/support/protocols.ts'
import { wireRequest } from '../../test/support/socket.ts'
import { ownerOf } from './owner.ts'

export interface Victim {
  readonly port: number
  /** Who signed its certificate, if it speaks TLS. */
  readonly ca?: string | undefined
}

export interface Attack {
  readonly name: string
  /** Does it once, in one of many that go on at the same time. `until` is in ms of `performance.now()`. */
  readonly run: (victim: Victim, until: number) => Promise<unknown>
  readonly atOnce: number
  /** Only against servers that speak TLS. */
  readonly needsTls?: boolean
}

/** Attackers have an address of their own, so that what is kept from them is not kept from the neighbours. */
const localAddress = '127.0.0.66'

async function open({ port, ca }: Victim, alpn: string): Promise<Socket> {
  const to = { host: '127.0.0.1', port, localAddress }
  const socket = ca === undefined ? connect(to) : connectTls({ ...to, ca, ALPNProtocols: [alpn] })
  await connected(socket, ca === undefined ? 'connect' : 'secureConnect')
  return socket
}

function openBare({ port }: Victim): Promise<Socket> {
  return connected(connect({ host: '127.0.0.1', port, localAddress }), 'connect')
}

async function connected(socket: Socket, event: string): Promise<Socket> {
  socket.on('error', () => undefined)
  await Promise.race([once(socket, event), once(socket, 'close')])
  return socket
}

/** Settles when the connection is gone or the time is over, and then it is gone. */
async function goneBy(socket: Socket, until: number): Promise<void> {
  socket.resume()
  while (!socket.destroyed && performance.now() < until) await pause(10)
  socket.destroy()
}

/** Writes as fast as the other side takes it, until it is over. */
async function flood(socket: Socket, until: number, piece: () => Uint8Array): Promise<void> {
  socket.resume()
  while (!socket.destroyed && performance.now() < until) {
    if (!socket.write(piece())) await Promise.race([once(socket, 'drain'), once(socket, 'close'), pause(1_000)])
    else await pause(0)
  }
  socket.destroy()
}

/** Writes one byte after another, slowly. */
async function drip(socket: Socket, until: number, bytes: Uint8Array): Promise<void> {
  socket.resume()
  for (let at = 0; !socket.destroyed && performance.now() < until; at++) {
    socket.write(bytes.subarray(at % bytes.length, (at % bytes.length) + 1))
    await pause(200)
  }
  socket.destroy()
}

const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings({})])

async function openHttp2(victim: Victim, own: Uint8Array = preface): Promise<Socket> {
  const socket = await open(victim, 'h2')
  if (!socket.destroyed) socket.write(own)
  return socket
}

/** Many of a frame, again and again, on new connections when the old ones are closed. */
function framesAttack(name: string, piece: () => () => Uint8Array): Attack {
  const run = async (victim: Victim, until: number) => flood(await openHttp2(victim), until, piece())
  return { name, atOnce: 4, run }
}

function repeated(bytes: Uint8Array, count = 500): () => () => Uint8Array {
  const all = Buffer.concat(Array.from({ length: count }, () => bytes))
  return () => () => all
}

function casesAttack(name: string, overTls: Protocol, plain: Protocol): Attack {
  const run = async ({ port, ca }: Victim, until: number) => {
    await using ends = new AsyncDisposableStack()
    const place = { url: `${ca === undefined ? 'http' : 'https'}://localhost:${port}`, ca: ca ?? '' }
    const client = openClient(ownerOf(ends), ca === undefined ? plain : overTls, place)
    for (const { sent } of hostileCases) {
      if (performance.now() >= until) break
      await client.send(sent).catch(() => undefined)
    }
  }
  return { name, atOnce: 4, run }
}

const good = goodRequest.body as string
const head = wireRequest('echo', good)
const beginning = wireRequest('echo', '', { 'content-length': '100000' })
/** Its answer is some hundred kilobytes. */
const large = wireRequest('wide', integers(30_000))

function integers(count: number): string {
  const values = Array.from({ length: count }, () => 1_234_567_890)
  return JSON.stringify({ inputs: [{ name: 'x', datatype: 'INT64', shape: [1, count], data: values }] })
}

function randomBytes(count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, () => Math.floor(Math.random() * 256)))
}

/** Streams that are asked for and taken back at once (CVE-2023-44487). */
function resets(): () => Uint8Array {
  const fields = inferFields('echo')
  let stream = -1
  return () => Buffer.concat(Array.from({ length: 200 }, () => [request((stream += 2), fields), reset(stream)]).flat())
}

/** A head that never ends (VU#421644). */
function continuations(): () => Uint8Array {
  const more = frame(types.continuation, flags.none, 1, fieldBlock({ 'x-more': 'y'.repeat(1_000) }))
  const all = Buffer.concat(Array.from({ length: 50 }, () => more))
  let isFirst = true
  return () => {
    const first = frame(types.headers, flags.none, 1, fieldBlock(inferFields('echo')))
    const piece = isFirst ? Buffer.concat([first, all]) : all
    isFirst = false
    return piece
  }
}

/** A large field that is put into the table once, and then named a thousand times with one byte (a HPACK bomb). */
function tableBombs(): () => Uint8Array {
  // The name is one byte; 3,900 bytes of value are 127 + 61 + 29 * 128 (RFC 7541 section 5.1).
  const put = Buffer.concat([Buffer.of(0x40, 1, 0x78, 127, 0x80 | 61, 29), Buffer.alloc(3_900, 0x79)])
  const common = fieldBlock(inferFields('echo'))
  let stream = -1
  return () => {
    stream += 2
    // The newest entry of the table has number 62.
    const block = Buffer.concat([common, stream === 1 ? put : Buffer.of(), Buffer.alloc(4_000, 0x80 | 62)])
    return frame(types.headers, flags.endHeaders | flags.endStream, stream, block)
  }
}

/** Streams that ask for nothing and stay. */
function openStreams(): () => Uint8Array {
  const fields = inferFields('echo')
  let stream = -1
  return () => Buffer.concat(Array.from({ length: 50 }, () => request((stream += 2), fields)))
}

/** Bodies without end in frames of no byte (CVE-2019-9518). */
function emptyData(): () => Uint8Array {
  const all = Buffer.concat(Array.from({ length: 500 }, () => data(1, '')))
  let isFirst = true
  return () => {
    const piece = isFirst ? Buffer.concat([request(1, inferFields('echo')), all]) : all
    isFirst = false
    return piece
  }
}

export const attacks: readonly Attack[] = [
  casesAttack('wrong requests over HTTP/1.1', 'https', 'http'),
  casesAttack('wrong requests over HTTP/2', 'h2', 'h2c'),
  {
    name: 'broken heads',
    atOnce: 4,
    run: async (victim, until) => {
      for (const { bytes } of hostileHeads) {
        const socket = await open(victim, 'http/1.1')
        if (!socket.destroyed) socket.write(Buffer.from(bytes, 'latin1'))
        await goneBy(socket, Math.min(until, performance.now() + 500))
      }
    },
  },
  {
    name: 'heads that never end',
    atOnce: 500,
    run: async (victim, until) =>
      drip(await open(victim, 'http/1.1'), until, Buffer.from(`${head.slice(0, 40)}x: y\r\n`)),
  },
  {
    name: 'bodies that never end',
    atOnce: 500,
    run: async (victim, until) => {
      const socket = await open(victim, 'http/1.1')
      socket.write(beginning)
      await drip(socket, until, Buffer.from(' '))
    },
  },
  {
    name: 'answers that nobody takes',
    atOnce: 100,
    run: async (victim, until) => {
      const socket = await open(victim, 'http/1.1')
      socket.pause()
      for (let i = 0; i < 5 && !socket.destroyed; i++) socket.write(large)
      while (!socket.destroyed && performance.now() < until) await pause(50)
      socket.destroy()
    },
  },
  {
    name: 'clients that go away, at any byte',
    atOnce: 16,
    run: async (victim, until) => {
      const socket = await open(victim, 'http/1.1')
      socket.write(large.slice(0, Math.floor(Math.random() * (Math.random() < 0.5 ? 300 : large.length))))
      await pause(Math.min(Math.random() * 20, Math.max(0, until - performance.now())))
      socket.resetAndDestroy()
    },
  },
  {
    name: 'requests sent ahead without end',
    atOnce: 4,
    run: async (victim, until) => flood(await open(victim, 'http/1.1'), until, repeated(Buffer.from(head), 200)()),
  },
  {
    name: 'connections that say nothing and go',
    atOnce: 32,
    run: async (victim) => {
      const socket = await openBare(victim)
      socket.destroy()
    },
  },
  {
    name: 'connections over the limit, that stay',
    atOnce: 1_500,
    run: async (victim, until) => goneBy(await openBare(victim), until),
  },
  {
    name: 'garbage instead of TLS',
    needsTls: true,
    atOnce: 32,
    run: async (victim, until) => {
      const socket = await openBare(victim)
      const greeting = Buffer.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3)
      socket.write(Buffer.concat([Math.random() < 0.5 ? greeting : Buffer.of(), randomBytes(600)]))
      await goneBy(socket, Math.min(until, performance.now() + 200))
    },
  },
  {
    name: 'handshakes that are left',
    needsTls: true,
    atOnce: 32,
    run: async (victim) => {
      const to = { host: '127.0.0.1', port: victim.port, localAddress }
      const socket = connectTls({ ...to, ca: victim.ca })
      await connected(socket, 'connect')
      await pause(Math.random() * 5)
      socket.destroy()
    },
  },
  framesAttack('HTTP/2 rapid resets', resets),
  framesAttack('HTTP/2 heads that never end', continuations),
  framesAttack('HTTP/2 fields that unpack to more', tableBombs),
  framesAttack('HTTP/2 streams that stay open', openStreams),
  framesAttack('HTTP/2 empty frames', emptyData),
  framesAttack('HTTP/2 pings', repeated(frame(types.ping, flags.none, 0, Buffer.alloc(8)))),
  framesAttack('HTTP/2 settings', repeated(settings({ 4: 65_535 }))),
  framesAttack('HTTP/2 priorities', repeated(frame(types.priority, flags.none, 1, Buffer.of(0, 0, 0, 0, 15)))),
  framesAttack('HTTP/2 window updates', repeated(frame(types.window, flags.none, 0, number32(1)))),
  {
    name: 'HTTP/2 answers that nobody takes',
    atOnce: 50,
    run: async (victim, until) => {
      const socket = await openHttp2(victim, Buffer.concat([preface.subarray(0, 24), settings({ 4: 0 })]))
      // As much as the stream's first window takes.
      const body = integers(5_000)
      const sent = [0, 1, 2, 3].map((i) => data(1, body.slice(i * 16_000, (i + 1) * 16_000), i === 3))
      if (!socket.destroyed) socket.write(Buffer.concat([request(1, inferFields('wide')), ...sent]))
      await goneBy(socket, until)
    },
  },
]
