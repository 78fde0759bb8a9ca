/** Connections over HTTP/1.1 that take long, stop in the middle or end there, on both sides of a request. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { Parser } from '../src/edge/http1/lean/parser.ts'
import { fixed, heldBytes, outcomes, queuedRows, samples, until, wholeFile } from './support/client.ts'
import { zeros } from './support/frames.ts'
import { tensor, type TestGateway } from './support/gateway.ts'
import { large, Line } from './support/line.ts'
import { identity } from './support/onnx.ts'
import {
  http1Protocols,
  isOverTls,
  overHttp1,
  startEverywhere,
  type Everywhere,
  type Http1,
} from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 2]), 'zeros.onnx': zeros }
const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const infer = wireRequest('echo', good)
const get = 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n'
const inChunks = (body: string) => wireRequest('echo', body, { 'transfer-encoding': 'chunked' })
const last = (request: string) => request.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n')
const hour = 3_600_000

interface Started extends Everywhere<Http1> {
  readonly gateway: TestGateway
}

/** A gateway of its own. */
async function startWith(t: TestContext, protocol: Http1, edge: object, settings: object = {}): Promise<Started> {
  const all = { runtime, edge, ...settings }
  const there = await startEverywhere(t, { store, settings: all, over: [protocol] as readonly Http1[] })
  return { ...there, gateway: there.served[protocol] }
}

/** A connection on which something was sent at once. */
async function opened(t: TestContext, there: Everywhere<Http1>, protocol: Http1, sent: string): Promise<Line> {
  const line = await Line.open(t, there, protocol)
  line.write(sent)
  return line
}

async function connections(gateway: TestGateway): Promise<number> {
  return (await samples(gateway)).get('penstock_connections{protocol="http/1.1"}')!
}

async function servesOn(t: TestContext, there: Started, protocol: Http1): Promise<void> {
  const wire = await Wire.open(t, there.gateway.url, there.ca)
  wire.write(infer)
  assert.equal((await wire.reply()).status, 200, protocol)
  wire.hangUp()
}

/** Times that a test can wait for: of idle connections, and of all but idle ones. */
const runtime = { executors: 1 }
const soonIdle = await startEverywhere(wholeFile, {
  store,
  settings: { runtime, edge: { connections: { idleMs: 400 }, head: { timeoutMs: hour } } },
  over: http1Protocols,
})
const short = { connections: { idleMs: hour, stallMs: 2_000 }, head: { timeoutMs: 500 }, body: { timeoutMs: 300 } }
const hasty = await startEverywhere(wholeFile, { store, settings: { runtime, edge: short }, over: http1Protocols })

suite('times', { concurrency: true }, () => {
  overHttp1('a connection may be idle for so long, and longer before its first request', async (t, protocol) => {
    const open = (sent: string) => opened(t, soonIdle, protocol, sent)
    const [silent, begun, idle] = await Promise.all([open(''), open(get.slice(0, 20)), open(get)])
    await idle.gone()
    assert.deepEqual(idle.statuses, [200], 'it is told nothing more')
    silent.write(get)
    begun.write(get.slice(20))
    await Promise.all([silent.answered(1), begun.answered(1)])
    assert.deepEqual([silent.statuses, begun.statuses], [[200], [200]])
  })

  overHttp1('a head has its own time, on a fresh connection and on an old one', async (t, protocol) => {
    const open = (sent: string) => opened(t, hasty, protocol, sent)
    const half = get.slice(0, 20)
    const [silent, begun, again, idle] = await Promise.all([open(''), open(half), open(get + half), open(get)])
    await Promise.all([silent, begun, again].map((line) => line.gone()))
    assert.deepEqual([begun.statuses, again.statuses], [[408], [200, 408]])
    for (const { received } of [begun, again]) assert.match(received, /\r\nconnection: close\r\n[^]*"code":"too_slow"/i)
    idle.write(get)
    await idle.answered(2)
    assert.deepEqual(idle.statuses, [200, 200])
  })

  overHttp1('the rest of a body that was refused is waited for only so long', async (t, protocol) => {
    const line = await opened(t, hasty, protocol, wireRequest('nobody', '{', { 'content-length': '1000' }))
    await line.gone()
    assert.equal(line.statuses[0], 404)
  })

  for (const [what, fields] of [
    ['', {}],
    [' behind its last request', { connection: 'close' }],
  ] as const) {
    overHttp1(`who takes none of an answer is cut though it goes on sending${what}`, async (t, protocol) => {
      const line = await Line.open(t, hasty, protocol)
      line.socket.pause()
      line.write(wireRequest('zeros', large, fields))
      await until('it is cut', async () => {
        if (!line.socket.destroyed) line.write('x')
        await sleep(50)
        return line.isGone
      })
      const other = await opened(t, hasty, protocol, get)
      await other.answered(1)
    })
  }

  overHttp1('who takes a large answer slowly gets all of it', async (t, protocol) => {
    const line = await Line.open(t, hasty, protocol)
    line.socket.removeAllListeners('data')
    line.socket.on('readable', () => undefined)
    line.write(wireRequest('zeros', large))
    let taken = 0
    while (taken < 16_000_000 && !line.isGone) {
      await sleep(20)
      taken += takeSome(line.socket, 65_536)
    }
    assert.ok(taken >= 16_000_000, `it was cut after ${taken} bytes`)
  })
})

/** Takes so many bytes at most of what is there, and says how many. */
function takeSome(socket: Socket, most: number): number {
  let left = most
  while (left > 0 && socket.readableLength > 0) {
    const piece = socket.read(Math.min(left, socket.readableLength)) as Buffer | null
    if (!piece) break
    left -= piece.length
  }
  return most - left
}

/** What the gateway, which is in this process, has accepted during a test. */
function acceptedDuring(t: TestContext): Socket[] {
  const sockets: Socket[] = []
  const keep = (message: unknown) => void sockets.push((message as { socket: Socket }).socket)
  subscribe('net.server.socket', keep)
  t.after(() => unsubscribe('net.server.socket', keep))
  return sockets
}

test('answers that are taken slowly leave nothing behind on their connection', async (t) => {
  const there = await startWith(t, 'http', { head: { timeoutMs: 50 } })
  const accepted = acceptedDuring(t)
  const line = await opened(t, there, 'http', get)
  await line.answered(1)
  const socket = accepted[0]!
  const listeners = () => socket.eventNames().map((name) => `${String(name)} ${socket.listenerCount(name)}`)
  const before = listeners().toSorted()
  for (let i = 1; i <= 3; i++) {
    line.received = ''
    line.socket.pause()
    line.write(wireRequest('zeros', large))
    await until('it is answered', async () => (await outcomes(there.gateway, 'zeros', 'ok')) === i)
    // Somebody looks at it meanwhile.
    await sleep(200)
    line.socket.resume()
    await until('it is taken', () => Promise.resolve(line.isGone || line.received.length > 16_000_000))
  }
  line.received = ''
  line.write(get)
  await line.answered(1)
  assert.deepEqual(listeners().toSorted(), before)
})

/** Requests that end in every way that there is; and whether the client has to hang up to end them. */
const ends: readonly (readonly [what: string, sent: string, hangsUp: boolean])[] = [
  ['without a body', last(get), false],
  ['with a body of known length', last(infer), false],
  ['with a body in chunks', last(inChunks(`46\r\n${good}\r\n0\r\n\r\n`)), false],
  ['refused before its chunks', inChunks('').replace('echo', 'nobody'), false],
  ['broken in its chunks', inChunks('z\r\n'), false],
  ['with endless trailers', inChunks(`0\r\nx: ${'y'.repeat(20_000)}`), false],
  ['no request', 'hello\r\n\r\n', false],
  ['with an endless head', `GET /${'a'.repeat(20_000)}`, false],
  ['with garbage behind', `${infer}hello\r\n\r\n`, false],
  ['left in its head', get.slice(0, 20), true],
  ['left in its body', infer.slice(0, -4), true],
  ['left in its chunks', inChunks('46\r\n{'), true],
]

test('what reads a request is given back, however that ends', async (t) => {
  const there = await startWith(t, 'http', {})
  for (const [what, sent, hangsUp] of ends) {
    const parser = Parser.lend()
    parser.giveBack()
    const wire = await Wire.open(t, there.gateway.url)
    await wire.sent(sent)
    if (hangsUp) {
      await until('it is there', async () => (await connections(there.gateway)) === 1)
      await servesOn(t, there, 'http')
      wire.hangUp()
    }
    await wire.gone
    await until('it is gone', async () => (await connections(there.gateway)) === 0)
    // The one that was given back last.
    assert.equal(Parser.lend(), parser, what)
    parser.giveBack()
  }
})

overHttp1('a large answer comes whole, in text and in binary, and the next one behind it', async (t, protocol) => {
  const wire = await Wire.open(t, hasty.served[protocol].url, hasty.ca)
  const count = 200_000
  const asked = { inputs: [tensor('x', 'INT64', [1], [count])] }
  const inBinary = { ...asked, outputs: [{ name: 'y', parameters: { binary_data: true } }] }
  wire.write(wireRequest('zeros', JSON.stringify(asked)) + wireRequest('zeros', JSON.stringify(inBinary)) + get)
  const [text, binary, next] = [await wire.reply(), await wire.reply(), await wire.reply()]
  assert.deepEqual([text.status, binary.status, next.status], [200, 200, 200])
  assert.ok(text.json.outputs[0].data.length === count)
  assert.deepEqual([binary.json.outputs[0].shape, binary.binary.length], [[count], 4 * count])
})

interface Breakable {
  readonly socket: Socket
  /** Ends the connection with a reset. */
  reset(): void
}

async function openBreakable(t: TestContext, { gateway, ca }: Started, protocol: Http1): Promise<Breakable> {
  const { hostname, port } = new URL(gateway.url)
  const under = connect(Number(port), hostname)
  t.after(() => under.destroy())
  under.on('error', () => undefined)
  await once(under, 'connect')
  const socket = isOverTls(protocol) ? connectTls({ socket: under, ca, host: hostname }) : under
  socket.on('error', () => undefined)
  if (socket !== under) await once(socket, 'secureConnect')
  return { socket, reset: () => void under.resetAndDestroy() }
}

overHttp1('a reset in a head, body, run or answer ends that request and nothing else', async (t, protocol) => {
  const there = await startWith(t, protocol, {}, { models: { echo: { batching: fixed(100, 400) } } })
  const { gateway } = there
  const sent = (socket: Socket, text: string) => new Promise((resolve) => socket.write(text, resolve))
  for (const [what, text, code] of [
    ['head', infer.slice(0, 50), undefined],
    ['body', infer.slice(0, -4), 'abandoned'],
    ['chunks', inChunks(`40\r\n${good.slice(0, 64)}\r\n6\r\n`), 'abandoned'],
    ['run', infer, 'abandoned'],
  ] as const) {
    const before = await outcomes(gateway, 'echo', 'abandoned')
    const one = await openBreakable(t, there, protocol)
    await sent(one.socket, text)
    if (what !== 'head') await until('it holds memory', async () => (await heldBytes(gateway)) > 0)
    one.reset()
    await until(`the connection is gone: ${what}`, async () => (await connections(gateway)) === 0)
    if (code) await until(`it was noticed: ${what}`, async () => (await outcomes(gateway, 'echo', code)) === before + 1)
    await until(`nothing is held: ${what}`, async () => (await heldBytes(gateway)) === 0)
  }
  const one = await openBreakable(t, there, protocol)
  one.socket.write(wireRequest('zeros', large))
  await once(one.socket, 'data')
  one.reset()
  await until('the connection is gone', async () => (await connections(gateway)) === 0)
  await until('nothing is held', async () => (await heldBytes(gateway)) === 0)
  await servesOn(t, there, protocol)
})

overHttp1('who says within a body that nothing more comes has sent no request', async (t, protocol) => {
  const there = await startWith(t, protocol, {})
  const line = await Line.open(t, there, protocol, true)
  line.socket.end(infer.slice(0, -4))
  await line.over
  assert.ok(!line.statuses.includes(200))
  await until('it was noticed', async () => (await outcomes(there.gateway, 'echo', 'abandoned')) === 1)
  await until('nothing is held', async () => (await heldBytes(there.gateway)) === 0)
  assert.equal(await outcomes(there.gateway, 'echo', 'ok'), 0)
})

function isClosed(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  return new Promise((resolve) => {
    socket.on('error', () => resolve(true))
    socket.on('connect', () => {
      socket.destroy()
      resolve(false)
    })
  })
}

for (const [what, tail] of [
  ['', ''],
  [', but for what is not whole', get.slice(0, 10)],
  [', and empty lines are none of it', '\r\n\r\n'],
] as const) {
  overHttp1(`what was sent ahead when a drain begins is answered${what}`, async (t, protocol) => {
    const there = await startWith(t, protocol, {}, { batching: fixed(2, 20_000) })
    const { gateway } = there
    const [ahead, other] = [await Wire.open(t, gateway.url, there.ca), await Wire.open(t, gateway.url, there.ca)]
    other.write(infer.slice(0, -4))
    await until('a part of it is there', async () => (await heldBytes(gateway)) > 0)
    ahead.write(infer + get.repeat(5) + tail)
    await until('it waits', async () => (await queuedRows(gateway, 'echo')) === 1)
    const stopped = gateway.stop()
    await until('nobody gets in any more', () => isClosed(gateway.url))
    other.write(infer.slice(-4))
    for (let i = 0; i <= 5; i++) {
      const { status, headers } = await ahead.reply()
      const connection = i === 5 ? 'close' : 'keep-alive'
      assert.deepEqual([status, headers.get('connection')], [200, connection], `answer ${i}`)
    }
    assert.equal((await other.reply()).headers.get('connection'), 'close')
    await Promise.all([ahead.gone, other.gone])
    assert.equal(ahead.unread, 0)
    assert.deepEqual(await stopped, { areConnectionsClosed: true, areWorkersGone: true })
  })
}
