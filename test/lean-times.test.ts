/** What the lean front waits for and how long, on real sockets and by a clock that is moved by hand. */
import assert from 'node:assert/strict'
import { connect, createServer, type AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import type { Exchange } from '../src/edge/exchange.ts'
import { LeanFront } from '../src/edge/http1/lean/front.ts'
import { edgeOptions } from '../src/edge/options.ts'
import { Connections } from '../src/edge/transport/connections.ts'
import { Intake } from '../src/edge/transport/intake.ts'
import { EdgeCounts } from '../src/telemetry/edge-counts.ts'
import { until } from './support/client.ts'
import { StepClock } from './support/issuer.ts'

const options = edgeOptions.parse({
  connections: { idleMs: 60_000, stallMs: 20_000 },
  head: { timeoutMs: 10_000 },
  body: { timeoutMs: 5_000, maxUnreadBytes: 1_000 },
})
const get = 'GET /now HTTP/1.1\r\nhost: a\r\n\r\n'
/** Refused from its head. */
const unwanted = 'POST /now HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n'

/** The front with one connection to it. */
async function start(t: TestContext) {
  const clock = new StepClock()
  const counts = new EdgeCounts()
  const connections = new Connections(options.connections, clock)
  const intake = new Intake(60_000, clock, counts)
  const exchanges: Exchange[] = []
  const handle = (exchange: Exchange) => {
    exchanges.push(exchange)
    if (exchange.target !== '/later') exchange.answer(200, ['content-length', '0'], [])
    if (exchange.target !== '/now') exchange.read({ data: () => undefined, end: () => undefined })
  }
  const front = new LeanFront(options, { connections, intake, counts, clock, handle })
  const server = createServer((accepted) => {
    accepted.on('error', () => accepted.destroy())
    front.accept(connections.open(accepted)!, accepted)
  })
  t.after(() => {
    server.close()
    front.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // It stays until the other side has closed the connection.
  const { port } = server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.after(() => socket.destroy())
  const more = () => {
    const another = connect({ port, host: '127.0.0.1' })
    t.after(() => another.destroy())
    return another.on('error', () => undefined)
  }
  const client = { clock, counts, connections, intake, exchanges, socket, more, received: '', isOver: false, error: '' }
  socket.on('data', (chunk: Buffer) => (client.received += chunk.toString('latin1')))
  for (const event of ['end', 'close'] as const) socket.on(event, () => (client.isOver = true))
  socket.on('error', ({ message }) => (client.error = message))
  await until('it is accepted', () => Promise.resolve(counts.open['http/1.1'] === 1))
  return client
}

type Client = Awaited<ReturnType<typeof start>>

/** Sends, and waits until that has been read: there is an answer, or something that is not taken yet. */
async function send(client: Client, text: string, answers: number): Promise<void> {
  client.socket.write(text)
  const enough = () => client.received.split('HTTP/1.1 ').length > answers
  await until(`there are ${answers} answers`, () => Promise.resolve(enough()))
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** Whether the connection is ended within a time, a second at a time; and not in the time before that. */
async function endsAfter(client: Client, ms: number): Promise<void> {
  for (let passed = 1_000; passed < ms; passed += 1_000) client.clock.pass(1_000)
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(client.isOver, false, `it ended before ${ms} ms`)
  // Somebody looks once a second.
  client.clock.pass(1_000)
  client.clock.pass(1_000)
  await until(`it ends after ${ms} ms`, () => Promise.resolve(client.isOver))
}

test('a connection that says nothing has the time for a head', async (t) => {
  await endsAfter(await start(t), options.head.timeoutMs)
})

test('a head that has begun has its own time from its first byte, however long nothing came before', async (t) => {
  const client = await start(t)
  await send(client, get, 1)
  for (let second = 0; second < 30; second++) client.clock.pass(1_000)
  await send(client, get.slice(0, 10), 1)
  await endsAfter(client, options.head.timeoutMs)
  assert.match(client.received, /^HTTP\/1\.1 200 [^]*HTTP\/1\.1 408 /)
})

test('the bytes of a head do not win it time', async (t) => {
  const client = await start(t)
  for (const byte of get.slice(0, 9)) {
    await send(client, byte, 0)
    client.clock.pass(1_000)
  }
  await endsAfter(client, 1_000)
  assert.match(client.received, /^HTTP\/1\.1 408 /)
})

test('a connection without a request may be idle from its last answer on', async (t) => {
  const client = await start(t)
  await send(client, get, 1)
  for (let second = 0; second < 50; second++) client.clock.pass(1_000)
  await send(client, get, 2)
  await endsAfter(client, options.connections.idleMs)
  assert.doesNotMatch(client.received, /408/)
})

test('empty lines behind a request begin none', async (t) => {
  const client = await start(t)
  await send(client, `${get}\r\n\n\r\n`, 1)
  await send(client, '\r\n', 1)
  await endsAfter(client, options.connections.idleMs)
  assert.doesNotMatch(client.received, /408/)
})

test('whatever is behind a request, its connection may be left alone once it is answered', async (t) => {
  const client = await start(t)
  let answered = 0
  client.intake.answered = () => void answered++
  for (const [i, tail] of ['', '\r\n', '\r\n\r\n', get.slice(0, 8)].entries()) {
    await send(client, get + tail, i + 1)
    assert.equal(answered, i + 1, JSON.stringify(tail))
  }
})

test('who has begun a request when the connection ends may still send it, and is not cut off', async (t) => {
  const client = await start(t)
  await send(client, get + get.slice(0, 8), 1)
  void client.connections.drain({ idleMs: 0, timeoutMs: 60_000 }, () => undefined)
  client.clock.pass(0)
  await until('it is ended', () => Promise.resolve(client.isOver))
  for (let i = 0; i < 5; i++) await send(client, 'x'.repeat(1_000), 1)
  assert.equal(client.error, '')
})

test('what is left of a body is not taken for requests that are still to be answered', async (t) => {
  const client = await start(t)
  void client.connections.drain({ idleMs: 60_000, timeoutMs: 120_000 }, () => undefined)
  await send(client, `${unwanted}GET\r\n\r\n`, 1)
  assert.match(client.received, /\r\nconnection: close\r\n/)
})

test('behind a body that was still coming when the connection ended no request is taken', async (t) => {
  const client = await start(t)
  await send(client, 'POST /later HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab', 0)
  await until('it has begun', () => Promise.resolve(client.exchanges.length === 1))
  void client.connections.drain({ idleMs: 0, timeoutMs: 60_000 }, () => undefined)
  client.clock.pass(0)
  await send(client, `cd${get}`, 0)
  client.exchanges[0]!.answer(200, ['content-length', '0'], [])
  await until('it is ended', () => Promise.resolve(client.isOver))
  assert.match(client.received, /^HTTP\/1\.1 200 [^]*\r\nconnection: close\r\n\r\n$/)
  assert.equal(client.exchanges.length, 1)
})

test('who asks for a body whose request is answered does not let its client send it', async (t) => {
  const client = await start(t)
  await send(client, unwanted.replace('now', 'both').replace('\r\n\r\n', '\r\nexpect: 100-continue\r\n\r\n'), 1)
  assert.doesNotMatch(client.received, / 100 /)
})

test('of heads that are overdue together only some are refused before others have their turn', async (t) => {
  const client = await start(t)
  for (let i = 0; i < 99; i++) client.more().write('GET')
  await until('all are there', () => Promise.resolve(client.counts.open['http/1.1'] === 100))
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  for (let second = 0; second < 10; second++) client.clock.pass(1_000)
  const refused = () => client.counts.brokenOff.get('too_slow') ?? 0
  assert.equal(refused(), 0)
  client.clock.pass(1_000)
  assert.equal(refused(), 32)
  await until('all are refused', () => Promise.resolve(refused() === 100))
})

test('what is left of a body that was refused has the time of a head and a body', async (t) => {
  const client = await start(t)
  await send(client, unwanted, 1)
  await endsAfter(client, options.head.timeoutMs + options.body.timeoutMs)
})

test('what is left of a body that was refused is read past, whoever had no room for it', async (t) => {
  const client = await start(t)
  await send(client, unwanted, 1)
  client.exchanges[0]!.pause()
  await send(client, 'x'.repeat(100) + get, 2)
})

test('a request that runs is waited for as long as it takes, and its connection then has all its time', async (t) => {
  const client = await start(t)
  await send(client, get.replace('now', 'later'), 0)
  await until('it has begun', () => Promise.resolve(client.exchanges.length === 1))
  for (let second = 0; second < 600; second++) client.clock.pass(1_000)
  client.exchanges[0]!.answer(200, ['content-length', '0'], [])
  await send(client, '', 1)
  await endsAfter(client, options.connections.idleMs)
})

test('a body that is broken ends its request at once, though the client stays', async (t) => {
  const client = await start(t)
  let gone = 0
  await send(client, 'POST /later HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n', 0)
  await until('it has begun', () => Promise.resolve(client.exchanges.length === 1))
  client.exchanges[0]!.onGone(() => gone++)
  await send(client, 'zz\r\n', 1)
  assert.deepEqual([client.exchanges[0]!.gone, gone], [true, 1])
  assert.match(client.received, /^HTTP\/1\.1 400 /)
})

const pieceBytes = 4_000_000
const pieces = Array.from({ length: 12 }, () => new Uint8Array(pieceBytes))

/** Asks for far more than the kernel keeps, and does not read. */
async function askForMuch(client: Client): Promise<void> {
  client.socket.removeAllListeners('data')
  client.socket.on('readable', () => undefined)
  client.socket.write(get.replace('now', 'later'))
  await until('it has begun', () => Promise.resolve(client.exchanges.length === 1))
  client.exchanges[0]!.answer(200, ['content-length', String(pieces.length * pieceBytes)], pieces)
}

test('who takes some of an answer now and then is left to it', async (t) => {
  const client = await start(t)
  await askForMuch(client)
  for (let taken = 0; taken < pieces.length * pieceBytes;) {
    for (let second = 0; second < 15; second++) client.clock.pass(1_000)
    // More than the kernel keeps has to go before more can be written.
    for (let wanted = pieceBytes; wanted > 0 && taken < pieces.length * pieceBytes;) {
      const piece = client.socket.read() as Buffer | null
      if (!piece) await new Promise((resolve) => setImmediate(resolve))
      else wanted -= piece.length
      taken += piece?.length ?? 0
      assert.equal(client.isOver, false, `it was cut after ${taken} bytes`)
    }
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
})

test('who takes nothing of an answer is cut, whatever it sends', async (t) => {
  const client = await start(t)
  let isClosed = false
  await askForMuch(client)
  client.exchanges[0]!.onGone(() => (isClosed = true))
  for (let second = 0; second < 19; second++) {
    client.socket.write('x')
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    client.clock.pass(1_000)
  }
  assert.equal(isClosed, false)
  for (let second = 0; second < 3; second++) client.clock.pass(1_000)
  await until('it is cut', () => Promise.resolve(isClosed))
})
