/** Requests that are sent ahead of the answers before them: all in their order, a bounded number at once, and none half. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { fixed, heldBytes, outcomes, queuedRows, until, wholeFile } from './support/client.ts'
import { tensor } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity } from './support/onnx.ts'
import { http1Protocols, isOnNode, overHttp1, startEverywhere, type Http1 } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 2]), 'slow.onnx': slow(20) }
const everywhere = await startEverywhere(wholeFile, {
  store,
  settings: { runtime: { executors: 1 } },
  over: http1Protocols,
})

const x = tensor('x', 'FP32', [1, 2], [1, 2])
const good = JSON.stringify({ inputs: [x] })
const get = 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n'

/** Takes its time, so that what is sent behind it has to wait. */
const first = wireRequest('slow', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] }))

function open(t: TestContext, protocol: Http1): Promise<Wire> {
  return Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
}

overHttp1('requests sent ahead on one connection are answered in their order', async (t, protocol) => {
  const wire = await open(t, protocol)
  const ids = Array.from({ length: 12 }, (_, i) => `${i}`)
  const request = (id: string) => {
    if (Number(id) % 4 === 3) return wireRequest('nobody', good)
    const [model, input] =
      Number(id) % 4 === 0 ? (['slow', tensor('x', 'FP32', [1, 1], [1])] as const) : (['echo', x] as const)
    return wireRequest(model, JSON.stringify({ id, inputs: [input] }))
  }
  wire.write(ids.map(request).join(''))
  for (const id of ids) {
    const { status, json } = await wire.reply()
    if (Number(id) % 4 === 3) assert.equal(status, 404)
    else assert.deepEqual([status, json.id], [200, id])
  }
})

/** How many of many requests that are sent ahead are answered, each in its order. */
async function answeredAhead(t: TestContext, protocol: Http1, sent: number, expected: number): Promise<Wire> {
  const wire = await open(t, protocol)
  const ids = Array.from({ length: sent }, (_, i) => `${i}`)
  wire.write(first + ids.map((id) => wireRequest('echo', JSON.stringify({ id, inputs: [x] }))).join(''))
  for (let i = 0; i <= expected; i++) {
    const { status, headers, json } = await wire.reply()
    const connection = expected < sent && i === expected ? 'close' : 'keep-alive'
    assert.deepEqual([status, headers.get('connection')], [200, connection], `answer ${i}`)
    if (i > 0) assert.equal(json.id, ids[i - 1])
  }
  return wire
}

for (const protocol of ['http', 'https'] as const) {
  test(`of requests sent ahead without end one is run at a time, and all are answered, over ${protocol}`, async (t) => {
    const wire = await answeredAhead(t, protocol, 400, 400)
    wire.write(get)
    assert.equal((await wire.reply()).status, 200)
  })
}

for (const protocol of ['http on node', 'https on node'] as const) {
  // Its parser would begin all of them at once, so there has to be an end.
  test(`of requests sent ahead without end only so many are run, and then it ends, over ${protocol}`, async (t) => {
    const served = everywhere.served[protocol]
    const ran = async () => (await outcomes(served, 'echo', 'ok')) + (await outcomes(served, 'slow', 'ok'))
    const before = await ran()
    // The one that is run, and 16 that wait for it.
    const wire = await answeredAhead(t, protocol, 400, 16)
    await wire.gone
    assert.equal(wire.unread, 0)
    assert.equal((await ran()) - before, 17)
  })
}

/** The sockets on which the gateway, which is in this process, has accepted connections during a test. */
function acceptedDuring(t: TestContext): Socket[] {
  const sockets: Socket[] = []
  const keep = (message: unknown) => void sockets.push((message as { socket: Socket }).socket)
  subscribe('net.server.socket', keep)
  t.after(() => unsubscribe('net.server.socket', keep))
  return sockets
}

for (const protocol of ['http', 'https'] as const) {
  test(`what is sent ahead without end is not read, and others are served meanwhile, over ${protocol}`, async (t) => {
    // Who is not read from is not seen to hang up either, so that the end of the test is not to wait for it.
    const edge = { drain: { idleMs: 0, timeoutMs: 100 } }
    const settings = { batching: fixed(100, 20_000), edge }
    const waiting = await startEverywhere(t, { store, settings, over: [protocol] })
    const served = waiting.served[protocol]
    const accepted = acceptedDuring(t)
    const wire = await Wire.open(t, served.url, waiting.ca)
    // Waits for its window; behind it come sixteen megabytes.
    wire.write(wireRequest('echo', good))
    await until('the first is queued', async () => (await queuedRows(served, 'echo')) === 1)
    for (let i = 0; i < 64; i++) wire.write(get.repeat(8_192))
    const other = waiting.open(t, protocol)
    for (let i = 0; i < 50; i++) assert.equal((await other.send({ path: '/v2' })).status, 200)
    const own = accepted[0]!
    assert.ok(own.bytesRead < 1_000_000, `${own.bytesRead} bytes were read`)
    assert.ok(own.readableLength < 200_000, `${own.readableLength} bytes are held`)
    wire.hangUp()
  })
}

test('what comes behind the last request that is run is not looked at by the front on Node, except what came with it', async (t) => {
  const wire = await open(t, 'http on node')
  let parsed = 0
  const count = () => void parsed++
  subscribe('http.server.request.start', count)
  t.after(() => unsubscribe('http.server.request.start', count))
  wire.write(first + get.repeat(200_000))
  await wire.gone
  // About as many as there are in 64 KiB, which is what Node reads at once.
  assert.ok(parsed < 5_000, `${parsed} requests were parsed`)
})

/** Garbage in its turn: Node's parser finds it out of turn, when there is nothing to say yet, so its front says nothing. */
async function endsBehindGarbage(wire: Wire, protocol: Http1): Promise<void> {
  if (!isOnNode(protocol)) {
    const { status, headers, json } = await wire.reply()
    assert.deepEqual([status, headers.get('connection'), json.code], [400, 'close', 'invalid'])
  }
  await wire.gone
  assert.equal(wire.unread, 0)
}

overHttp1('garbage behind two requests lets both be answered', async (t, protocol) => {
  const wire = await open(t, protocol)
  wire.write(`${first}${wireRequest('echo', good)}garbage\r\n\r\n`)
  assert.deepEqual([(await wire.reply()).status, (await wire.reply()).status], [200, 200])
  await endsBehindGarbage(wire, protocol)
})

overHttp1(
  'a request that is cut off by garbage is no request, and those before it are answered',
  async (t, protocol) => {
    const before = await outcomes(everywhere.served[protocol], 'echo', 'ok')
    const wire = await open(t, protocol)
    const cut = wireRequest('echo', '5\r\n12345\r\nzz', { 'transfer-encoding': 'chunked' })
    wire.write(`${first}${cut}\r\n${wireRequest('echo', good)}`)
    assert.equal((await wire.reply()).status, 200)
    await endsBehindGarbage(wire, protocol)
    assert.equal(await outcomes(everywhere.served[protocol], 'echo', 'ok'), before, 'nothing behind it is run')
  },
)

overHttp1('garbage behind a request does not take the place of its answer', async (t, protocol) => {
  const wire = await open(t, protocol)
  wire.write(`${wireRequest('echo', good)}garbage\r\n\r\n`)
  assert.equal((await wire.reply()).status, 200)
  await endsBehindGarbage(wire, protocol)
})

overHttp1('what a client has sent ahead goes with it', async (t, protocol) => {
  const own = await startEverywhere(t, { store, settings: { batching: fixed(100, 10_000) }, over: [protocol] })
  const small = own.served[protocol]
  for (let i = 1; i <= 3; i++) {
    const wire = await Wire.open(t, small.url, own.ca)
    // The second waits for the answer to the first, which waits for its window.
    wire.write(wireRequest('echo', good) + wireRequest('echo', good.replace('}]}', '}]')))
    await until('the first is queued', async () => (await queuedRows(small, 'echo')) === 1)
    for (let piece = 0; piece < 5; piece++) {
      wire.write(wireRequest('echo', good))
      await wait(5)
    }
    wire.hangUp()
    await until('the first is forgotten', async () => (await outcomes(small, 'echo', 'abandoned')) === i)
    await until('its memory is free', async () => (await heldBytes(small)) === 0)
    assert.equal(await outcomes(small, 'echo', 'invalid'), 0)
  }
})
