/** Caps on requests in flight at the socket: a place is given back however its request ends, and so is compute set right. */
import assert from 'node:assert/strict'
import { connect as connectHttp2 } from 'node:http2'
import { test, type TestContext } from 'node:test'
import { keyOf } from './support/api-keys.ts'
import { heldBytes, outcomes, until, wholeFile } from './support/client.ts'
import { ask, assertLimited, echo, limited, rows, standing } from './support/limited.ts'
import { liar, looping } from './support/models.ts'
import { Wire, wireRequest } from './support/socket.ts'

const models = { 'echo.onnx': echo, 'long.onnx': looping, 'liar.onnx': liar, 'spent.onnx': looping, 'both.onnx': echo }
const gateway = await limited(
  wholeFile,
  models,
  [
    { name: 'at-once', by: ['caller'], concurrency: 1, where: { models: ['echo', 'long', 'liar'] } },
    { name: 'all', by: [], concurrency: 1, where: { models: ['both'] } },
    { name: 'own', by: ['caller'], rate: 1, per: 'day', where: { models: ['both'] } },
    { name: 'rows', by: ['caller'], rate: 5, per: 'day', cost: 'row', where: { models: ['both'] } },
    { name: 'compute', by: ['caller'], rate: 100, per: 'day', cost: 'computeMs', where: { models: ['spent'] } },
  ],
  {
    edge: {
      port: 0,
      drain: { idleMs: 0, timeoutMs: 5_000 },
      http2: { cleartext: true },
      body: { maxBytes: 10_000, timeoutMs: 1_000 },
    },
  },
)

const whoIs = (id: string) => ({ 'x-api-key': keyOf(id) })
/** Far more than 100 ms of work. */
const long = rows(1, 1_000_000)

/** The one place of alice is free. */
async function isFree(): Promise<boolean> {
  return (await ask(gateway, 'alice', 'echo')).status === 200
}

/** Somebody who has sent a head and a part of a body, and so holds the place of alice. */
async function holder(t: TestContext): Promise<Wire> {
  const wire = await Wire.open(t, gateway.url)
  const whole = wireRequest('echo', rows(1), whoIs('alice'))
  const before = await heldBytes(gateway)
  wire.write(whole.slice(0, -3))
  await until('a part of it is there', async () => (await heldBytes(gateway)) > before)
  return wire
}

test('who has as many requests in flight as a cap allows is refused, and nobody else is', async (t) => {
  const wire = await holder(t)
  const refused = await ask(gateway, 'alice', 'echo')
  assert.deepEqual(assertLimited(refused, 'at-once'), { r: 0 })
  assert.match(refused.json.error, /wait for an answer/)
  assert.equal(refused.headers.get('retry-after'), '1')
  assert.equal((await ask(gateway, 'bob', 'echo')).status, 200)
  wire.write(rows(1).slice(-3))
  const { status, headers } = await wire.reply()
  assert.equal(status, 200)
  assert.deepEqual(standing(headers), { name: 'at-once', standing: { r: 0 } })
  assert.ok(await isFree())
})

test('a place is given back with every answer, good or bad', async () => {
  const ends: [what: string, status: number, model: string, sent: Parameters<typeof ask>[3]][] = [
    ['an answer', 200, 'echo', {}],
    ['not JSON', 400, 'echo', { body: '{' }],
    ['another shape', 400, 'echo', { body: JSON.stringify({ inputs: [] }) }],
    ['a bad time', 400, 'echo', { headers: { 'x-request-timeout-ms': 'soon' } }],
    ['no such version', 404, 'echo/versions/7', {}],
    ['too large', 413, 'echo', { body: rows(9_000) }],
    ['another type', 415, 'echo', { headers: { 'content-type': 'text/plain' } }],
    ['another answer', 406, 'echo', { headers: { accept: 'image/png' } }],
    ['a model that gives what it should not', 500, 'liar', { body: rows(1, 5) }],
    ['a deadline that passes in the run', 504, 'long', { body: long, headers: { 'x-request-timeout-ms': '300' } }],
  ]
  for (const [what, expected, model, sent] of ends) {
    for (let i = 0; i < 2; i++) {
      const { status, json } = await ask(gateway, 'alice', model, sent)
      assert.equal(status, expected, `${what}: ${JSON.stringify(json)}`)
    }
    assert.ok(await isFree(), what)
  }
})

test('a place is given back when a body does not come in time, and when the client hangs up in it', async (t) => {
  const slow = await holder(t)
  assert.equal((await slow.reply()).status, 408)
  assert.ok(await isFree())
  const leaving = await holder(t)
  leaving.hangUp()
  await until('the place is free', isFree)
})

test('over HTTP/2 a place is given back when a stream is reset, in the body and in the run', async (t) => {
  const session = connectHttp2(gateway.url)
  session.on('error', () => undefined)
  t.after(() => session.destroy())
  const path = (model: string) => ({ ':method': 'POST', ':path': `/v2/models/${model}/infer` })
  for (const [model, body] of [
    ['echo', rows(1).slice(0, -3)],
    ['long', long],
  ] as const) {
    const fields = { 'content-type': 'application/json', ...whoIs('alice') }
    const stream = session.request({ ...path(model), ...fields }, { endStream: false })
    stream.on('error', () => undefined)
    const before = await heldBytes(gateway)
    stream.write(body)
    if (model === 'long') stream.end()
    await until('it is there', async () => (await heldBytes(gateway)) > before)
    assertLimited(await ask(gateway, 'alice', 'echo'), 'at-once')
    stream.close(8)
    await until('the place is free', isFree)
  }
})

test('a place is given back when the client hangs up while its request runs or waits', async (t) => {
  const wires = await Promise.all(['alice', 'bob', 'carol'].map(() => Wire.open(t, gateway.url)))
  const before = await outcomes(gateway, 'long', 'abandoned')
  for (const [i, id] of ['alice', 'bob', 'carol'].entries()) {
    const held = await heldBytes(gateway)
    wires[i]!.write(wireRequest('long', long, whoIs(id)))
    await until('it is there', async () => (await heldBytes(gateway)) > held)
    assertLimited(await ask(gateway, id, 'echo'), 'at-once')
  }
  for (const wire of wires) wire.hangUp()
  await until('all were noticed', async () => (await outcomes(gateway, 'long', 'abandoned')) === before + 3)
  for (const id of ['alice', 'bob', 'carol']) assert.equal((await ask(gateway, id, 'echo')).status, 200, id)
})

test('a place is given back by who is refused because too much waits', async (t) => {
  const small = await limited(t, { 'm.onnx': looping }, [{ name: 'at-once', by: ['caller'], concurrency: 1 }], {
    batching: { maxQueueRows: 1, policy: { kind: 'fixed', maxRows: 1, windowMs: 0 } },
  })
  const wires = await Promise.all([1, 2].map(() => Wire.open(t, small.url)))
  wires[0]!.write(wireRequest('m', long, whoIs('alice')))
  wires[1]!.write(wireRequest('m', long, whoIs('bob')))
  await until('one runs and one waits', async () => (await ask(small, 'carol', 'm')).status === 503)
  // A place that was kept would be refused with 429.
  for (let i = 0; i < 3; i++) assert.equal((await ask(small, 'carol', 'm')).status, 503)
  for (const wire of wires) wire.hangUp()
  await until('there is room again', async () => (await ask(small, 'carol', 'm')).status === 200)
})

test('a place is given back by who is refused by another limit, from the head and from the body', async () => {
  assert.equal((await ask(gateway, 'alice', 'both')).status, 200)
  for (let i = 0; i < 5; i++) assertLimited(await ask(gateway, 'alice', 'both'), 'own')
  assertLimited(await ask(gateway, 'bob', 'both', { body: rows(9) }), 'rows')
  assert.equal((await ask(gateway, 'carol', 'both')).status, 200, 'there is one place for all')
})

test('compute that was taken is charged when the client has hung up meanwhile', async (t) => {
  const before = await outcomes(gateway, 'spent', 'abandoned')
  const wire = await Wire.open(t, gateway.url)
  wire.write(wireRequest('spent', long, whoIs('alice')))
  await until('it is there', async () => (await heldBytes(gateway)) > 0)
  const behind = ask(gateway, 'bob', 'spent', { body: rows(1, 1) })
  wire.hangUp()
  await until('it was noticed', async () => (await outcomes(gateway, 'spent', 'abandoned')) === before + 1)
  assert.equal((await behind).status, 200, 'the run before it is over')
  assertLimited(await ask(gateway, 'alice', 'spent', { body: rows(1, 1) }), 'compute')
})

test('compute that was taken is charged when the deadline has passed meanwhile', async () => {
  const headers = { 'x-request-timeout-ms': '300' }
  const { status } = await ask(gateway, 'carol', 'spent', { body: long, headers })
  assert.equal(status, 504)
  assert.equal((await ask(gateway, 'bob', 'spent', { body: rows(1, 1) })).status, 200, 'the run before it is over')
  assertLimited(await ask(gateway, 'carol', 'spent', { body: rows(1, 1) }), 'compute')
})
