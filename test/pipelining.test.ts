/** Requests that are sent ahead of the answers before them: all in their order, a bounded number, and none half. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { fixed, heldBytes, outcomes, queuedRows, until, wholeFile } from './support/client.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity } from './support/onnx.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 2]), 'slow.onnx': slow(20) }
const gateway = await startGateway(wholeFile, { store, settings: { runtime: { executors: 1 } } })

const x = tensor('x', 'FP32', [1, 2], [1, 2])
const good = JSON.stringify({ inputs: [x] })

/** Takes its time, so that what is sent behind it has to wait. */
const first = wireRequest('slow', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] }))

test('requests sent ahead on one connection are answered in their order', async (t) => {
  const wire = await Wire.open(t, gateway.url)
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

test('of requests sent ahead without end only so many are run, and the connection ends with their answers', async (t) => {
  const ran = async () => (await outcomes(gateway, 'echo', 'ok')) + (await outcomes(gateway, 'slow', 'ok'))
  const before = await ran()
  const wire = await Wire.open(t, gateway.url)
  wire.write(first + wireRequest('echo', good).repeat(400))
  // The one that is run, and 16 that wait for it.
  for (let i = 0; i <= 16; i++) {
    const { status, headers } = await wire.reply()
    assert.deepEqual([status, headers.get('connection')], [200, i === 16 ? 'close' : 'keep-alive'], `answer ${i}`)
  }
  await wire.gone
  assert.equal(wire.unread, 0)
  assert.equal((await ran()) - before, 17)
})

test('what comes behind the last request that is run is not looked at, except what came with it', async (t) => {
  const wire = await Wire.open(t, gateway.url)
  let parsed = 0
  const count = () => void parsed++
  subscribe('http.server.request.start', count)
  t.after(() => unsubscribe('http.server.request.start', count))
  wire.write(first + 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(200_000))
  await wire.gone
  // About as many as there are in 64 KiB, which is what Node reads at once.
  assert.ok(parsed < 5_000, `${parsed} requests were parsed`)
})

test('garbage behind two requests lets both be answered', async (t) => {
  const wire = await Wire.open(t, gateway.url)
  wire.write(`${first}${wireRequest('echo', good)}garbage\r\n\r\n`)
  assert.deepEqual([(await wire.reply()).status, (await wire.reply()).status], [200, 200])
  await wire.gone
})

test('a request that is cut off by garbage is dropped, and those before it are answered', async (t) => {
  const wire = await Wire.open(t, gateway.url)
  wire.write(`${first}${wireRequest('echo', '5\r\n12345\r\nzz', { 'transfer-encoding': 'chunked' })}\r\n`)
  assert.equal((await wire.reply()).status, 200)
  await wire.gone
  assert.equal(wire.unread, 0)
})

test('garbage behind a request does not take the place of its answer', async (t) => {
  const wire = await Wire.open(t, gateway.url)
  wire.write(`${wireRequest('echo', good)}garbage\r\n\r\n`)
  assert.equal((await wire.reply()).status, 200)
  await wire.gone
})

test('what a client has sent ahead goes with it', async (t) => {
  const small = await startGateway(t, { store, settings: { batching: fixed(100, 10_000) } })
  for (let i = 1; i <= 3; i++) {
    const wire = await Wire.open(t, small.url)
    // The second waits for the answer to the first, which waits for its window.
    wire.write(wireRequest('echo', good) + wireRequest('echo', good.replace('}]}', '}]')))
    await until('the first is queued', async () => (await queuedRows(small, 'echo')) === 1)
    wire.hangUp()
    await until('the first is forgotten', async () => (await outcomes(small, 'echo', 'abandoned')) === i)
    await until('its memory is free', async () => (await heldBytes(small)) === 0)
    assert.equal(await outcomes(small, 'echo', 'invalid'), 0)
  }
})
