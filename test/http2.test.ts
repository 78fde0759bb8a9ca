/** HTTP/2, behind TLS and without: requests, cancelled streams, limits, broken frames, and how sessions end. */
import assert from 'node:assert/strict'
import { queuedRows, samples, until, wholeFile, withBinary, binaryTensor } from './support/client.ts'
import { codes, data, fieldBlock, flags, frame, FrameWire, inferFields, number32 } from './support/frames.ts'
import { http2Protocols, overBoth, placeOf, request, reset, types, zeros } from './support/frames.ts'
import { tensor, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity } from './support/onnx.ts'
import { startEverywhere, type Got, type Sent } from './support/protocols.ts'

const store = {
  'echo.onnx': identity('FP32', ['n', 2]),
  'wide.onnx': identity('FP32', ['n', 1_000]),
  'slow.onnx': slow(20),
  'zeros.onnx': zeros,
}
const runtime = { executors: 1 }
const everywhere = await startEverywhere(wholeFile, {
  store,
  settings: { runtime },
  over: ['http', 'https', 'h2c', 'h2'] as const,
})
const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const slowly = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [5])] })
const json = { 'content-type': 'application/json' }
const get = { ':method': 'GET', ':scheme': 'http', ':path': '/v2/health/ready', ':authority': 'localhost' }

function echoOf(values: readonly number[], headers: Readonly<Record<string, string>> = {}): Sent {
  const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], values)] })
  return { path: '/v2/models/echo/infer', headers: { ...json, ...headers }, body }
}

/** A stream beside others is answered. */
async function answersOn(wire: FrameWire, stream: number): Promise<void> {
  wire.write(request(stream, inferFields('echo')), data(stream, good, true))
  assert.equal((await wire.answer(stream)).status, 200)
}

async function outcomes(gateway: TestGateway, model: string, code: string): Promise<number> {
  const name = `penstock_requests_total{route="${model}",model="${model}",version="1",code="${code}"}`
  return (await samples(gateway)).get(name) ?? 0
}

async function heldBytes(gateway: TestGateway): Promise<number> {
  return (await samples(gateway)).get('penstock_held_bytes')!
}

/** Asks for zeros in binary, four bytes each. */
function askForZeros(count: number): string {
  const outputs = [{ name: 'y', parameters: { binary_data: true } }]
  return JSON.stringify({ inputs: [tensor('x', 'INT64', [1], [count])], outputs })
}

overBoth('what HTTP/1.1 is answered, HTTP/2 is answered alike', async (t, protocol) => {
  const asked: Sent[] = [
    ...['/v2', '/v2/health/ready', '/v2/models/echo', '/nowhere', '/v2/models/echo/infer'].map((path) => ({ path })),
    { method: 'HEAD', path: '/v2/models/echo' },
    { method: 'HEAD', path: '/nowhere' },
    { method: 'OPTIONS', path: '/v2/models/echo/infer' },
    { method: 'DELETE', path: '/v2/models/echo' },
    { method: 'POST', path: '/v2', body: '' },
    echoOf([1, 2]),
    { ...echoOf([1, 2]), path: '/v2/models/nobody/infer' },
    { ...echoOf([1, 2]), body: '{' },
    { ...echoOf([1, 2]), body: '' },
    echoOf([1, 2], { 'content-type': 'text/plain' }),
    echoOf([1, 2], { accept: 'text/html' }),
    echoOf([1, 2], { 'x-request-id': 'mine' }),
    echoOf([1, 2], { 'x-request-id': 'not allowed' }),
  ]
  const ours = everywhere.open(t, protocol)
  const theirs = everywhere.open(t, protocol === 'h2' ? 'https' : 'http')
  for (const sent of asked) {
    const got = alike(await ours.send(sent))
    assert.deepEqual(got, alike(await theirs.send(sent)), JSON.stringify(sent))
  }
})

/** Without what differs between two answers to the same request, or between the protocols. */
function alike({ status, headers, json: answer, body }: Got) {
  const told = [
    'content-type',
    'content-length',
    'allow',
    'accept-encoding',
    'retry-after',
    'inference-header-content-length',
  ]
  const id = String(headers['x-request-id'])
  const own = id.includes('-')
  return {
    status,
    headers: told.map((name) => `${name}: ${String(headers[name])}`),
    id: own ? 'made here' : id,
    body:
      answer === undefined ? body.toString() : { ...answer, ...('request_id' in answer && { request_id: own || id }) },
  }
}

overBoth('a body of two megabytes in many frames is answered with as many', async (t, protocol) => {
  const values = Array.from({ length: 350_000 }, (_, i) => (i % 5_000) - 2_500.5)
  const body = Buffer.from(JSON.stringify({ inputs: [tensor('x', 'FP32', [350, 1_000], values)] }))
  assert.ok(body.length > 2_000_000)
  const pieces = Array.from({ length: Math.ceil(body.length / 12_000) }, (_, i) =>
    body.subarray(i * 12_000, (i + 1) * 12_000),
  )
  const got = await everywhere.open(t, protocol).send({ path: '/v2/models/wide/infer', headers: json, body: pieces })
  assert.equal(got.status, 200)
  assert.ok(got.body.length > 2_000_000)
  assert.deepEqual(got.json.outputs[0].data, values)
})

overBoth('binary tensors go both ways', async (t, protocol) => {
  const row = Float32Array.of(1.5, -2)
  const asked = {
    inputs: [binaryTensor('x', 'FP32', [1, 2], 8)],
    outputs: [{ name: 'y', parameters: { binary_data: true } }],
  }
  const got = await everywhere.open(t, protocol).send({ path: '/v2/models/echo/infer', ...withBinary(asked, row) })
  assert.equal(got.status, 200)
  const bytes = got.body.subarray(Number(got.headers['inference-header-content-length']))
  assert.deepEqual([bytes.readFloatLE(0), bytes.readFloatLE(4), bytes.length], [1.5, -2, 8])
})

overBoth('sixty-four requests at once on one session get each its own answer', async (t, protocol) => {
  const client = everywhere.open(t, protocol)
  const numbers = Array.from({ length: 64 }, (_, i) => i)
  const answers = await Promise.all(numbers.map((i) => client.send(echoOf([i, i + 0.5], { 'x-request-id': `n${i}` }))))
  for (const [i, { status, headers, json: answer }] of answers.entries()) {
    assert.deepEqual([status, headers['x-request-id'], answer.outputs[0].data], [200, `n${i}`, [i, i + 0.5]])
  }
})

overBoth('a client that waits for leave to send its body gets it, or gets its refusal', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
  wire.write(request(1, inferFields('echo', { expect: '100-continue' })))
  await wire.frame(
    ({ type, stream, flags: flag }) => type === types.headers && stream === 1 && flag === flags.endHeaders,
  )
  wire.write(data(1, good, true))
  assert.equal((await wire.answer(1)).status, 200)
  wire.write(request(3, inferFields('nobody', { expect: '100-continue' })))
  assert.equal((await wire.answer(3)).status, 404)
  assert.equal(wire.frames.filter(({ type, stream }) => type === types.headers && stream === 3).length, 1)
})

overBoth('an expectation other than 100-continue is refused, as in HTTP/1.1', async (t, protocol) => {
  const { status } = await everywhere.open(t, protocol).send(echoOf([1, 2], { expect: 'a-miracle' }))
  assert.equal(status, 417)
})

overBoth('trailers are let pass', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
  const trailers = frame(types.headers, flags.endHeaders | flags.endStream, 1, fieldBlock({ 'x-sum': '3', host: 'b' }))
  wire.write(request(1, inferFields('echo')), data(1, good), trailers)
  assert.equal((await wire.answer(1)).status, 200)
})

overBoth(
  'an upload need not wait for the word of the server before its window on the stream is used',
  async (t, protocol) => {
    const { session } = everywhere.open(t, protocol)
    await new Promise((resolve) => session!.once('remoteSettings', resolve))
    await new Promise((resolve) => session!.ping(resolve))
    assert.ok(session!.state.remoteWindowSize! >= session!.remoteSettings.initialWindowSize!)
  },
)

overBoth(
  'who is refused from the head need not send the body, and is told to stop who sends it',
  async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
    const refused: [string, Record<string, string>, number][] = [
      ['nobody', {}, 404],
      ['echo', { 'content-length': '20000000' }, 413],
      ['echo', { 'content-type': 'text/plain' }, 415],
      ['nobody', { 'content-length': '20000000' }, 404],
    ]
    for (const [i, [model, fields, status]] of refused.entries()) {
      const stream = 4 * i + 1
      wire.write(request(stream, inferFields(model, fields)))
      assert.equal((await wire.answer(stream)).status, status)
      await wire.settled()
      assert.ok(!wire.frames.some((each) => each.type === types.reset && each.stream === stream))
      for (let sent = 0; sent < 10; sent++) {
        wire.write(data(stream, Buffer.alloc(16_000)))
        await wire.settled()
      }
      assert.equal(await wire.resetOf(stream), codes.none)
      await answersOn(wire, stream + 2)
    }
  },
)

overBoth(
  'a body that is not as long as it said spoils its own stream only, if it is too short',
  async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
    wire.write(request(1, inferFields('echo', { 'content-length': '500' })), data(1, good, true))
    assert.equal(await wire.resetOf(1), codes.protocol)
    wire.write(request(3, inferFields('echo', { 'content-length': '7' }), true))
    assert.equal(await wire.resetOf(3), codes.protocol)
    await answersOn(wire, 5)
  },
)

overBoth('a body that is longer than it said ends its session, and no other', async (t, protocol) => {
  const other = await FrameWire.open(t, placeOf(everywhere, protocol))
  other.write(request(1, inferFields('echo')))
  const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
  wire.write(request(1, inferFields('echo', { 'content-length': '5' })), data(1, good, true))
  await wire.gone()
  other.write(data(1, good, true))
  assert.equal((await other.answer(1)).status, 200)
})

overBoth('a request without a body is refused as one that ends too early', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
  wire.write(request(1, inferFields('echo'), true), request(3, inferFields('echo')), data(3, '', true))
  for (const stream of [1, 3]) {
    const { status, json: answer } = await wire.answer(stream)
    assert.deepEqual([status, answer.code], [400, 'invalid'])
  }
  await answersOn(wire, 5)
})

/** Requests in every state before their answer: one runs, two are queued, the others are not there yet. */
async function inEveryState(wire: FrameWire, gateway: TestGateway): Promise<void> {
  for (const stream of [1, 3, 5]) wire.write(request(stream, inferFields('slow')), data(stream, slowly, true))
  await until('one of three runs', async () => (await queuedRows(gateway, 'slow')) === 2)
  wire.write(request(7, inferFields('echo')), request(9, inferFields('echo')), data(9, good))
  await until('the body that may go on holds memory', async () => (await heldBytes(gateway)) > 0)
}

overBoth(
  'cancelled streams leave the others on their session their answers, and hold no memory',
  async (t, protocol) => {
    const gateway = everywhere.served[protocol]
    const before = [await outcomes(gateway, 'slow', 'abandoned'), await outcomes(gateway, 'echo', 'abandoned')]
    const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
    await inEveryState(wire, gateway)
    wire.write(...[1, 5, 7, 9].map((stream) => reset(stream)))
    wire.write(request(11, inferFields('slow')), data(11, slowly, true))
    await answersOn(wire, 13)
    for (const stream of [3, 11]) {
      const { status, json: answer } = await wire.answer(stream)
      assert.deepEqual([status, answer.outputs[0].data], [200, [5]])
    }
    const after = [await outcomes(gateway, 'slow', 'abandoned'), await outcomes(gateway, 'echo', 'abandoned')]
    assert.deepEqual(after, [before[0]! + 2, before[1]! + 2])
    assert.equal(await heldBytes(gateway), 0)
    const answered = wire.frames.filter(({ type }) => type === types.headers).map(({ stream }) => stream)
    assert.deepEqual(
      answered.toSorted((a, b) => a - b),
      [3, 11, 13],
    )
  },
)

overBoth('a session that breaks takes its own requests along and no others', async (t, protocol) => {
  const gateway = everywhere.served[protocol]
  const before = [await outcomes(gateway, 'slow', 'abandoned'), await outcomes(gateway, 'echo', 'abandoned')]
  const wire = await FrameWire.open(t, placeOf(everywhere, protocol))
  await inEveryState(wire, gateway)
  const other = await FrameWire.open(t, placeOf(everywhere, protocol))
  other.write(request(1, inferFields('slow')), data(1, slowly, true))
  await until('the other waits behind them', async () => (await queuedRows(gateway, 'slow')) === 3)
  wire.hangUp()
  assert.equal((await other.answer(1)).status, 200)
  const after = [await outcomes(gateway, 'slow', 'abandoned'), await outcomes(gateway, 'echo', 'abandoned')]
  assert.deepEqual(after, [before[0]! + 3, before[1]! + 2])
  assert.equal(await heldBytes(gateway), 0)
})

overBoth('large answers that are not taken yet, or cancelled half way, leave room for others', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(everywhere, protocol), { 4: 20_000 })
  wire.write(frame(types.window, flags.none, 0, number32(1_000_000)))
  const large = [1, 3, 5, 7, 9]
  for (const stream of large)
    wire.write(request(stream, inferFields('zeros')), data(stream, askForZeros(1_000_000), true))
  for (const stream of large) await wire.frame((each) => each.type === types.data && each.stream === stream)
  await answersOn(wire, 11)
  wire.write(...large.map((stream) => reset(stream)))
  await answersOn(wire, 13)
  assert.equal(await heldBytes(everywhere.served[protocol]), 0)
})

overBoth(
  'a drain says that it is not ready, then takes no more, and answers what it has taken',
  async (t, protocol) => {
    const edge = { http2: { cleartext: true }, drain: { idleMs: 400, timeoutMs: 10_000 } }
    const own = await startEverywhere(t, { store, settings: { runtime, edge }, over: http2Protocols })
    const gateway = own.served[protocol]
    const [wire, fresh] = await Promise.all([1, 2].map(() => FrameWire.open(t, placeOf(own, protocol))))
    wire!.write(request(1, inferFields('echo')), data(1, good.slice(0, -5)))
    await wire!.settled()
    const stopped = gateway.stop()
    wire!.write(request(3, { ...get, ':path': '/v2/health/ready' }, true))
    assert.equal((await wire!.answer(3)).status, 503)
    assert.equal((await fetch(`${gateway.metricsUrl}/readyz`)).status, 503)
    await answersOn(wire!, 5)
    assert.deepEqual(await wire!.goaway(), { code: codes.none, last: 5 })
    assert.equal((await fresh!.goaway()).code, codes.none)
    wire!.write(request(7, inferFields('echo')), data(7, good, true), data(1, good.slice(-5), true))
    assert.equal((await wire!.answer(1)).status, 200)
    await Promise.all([wire!.gone(), fresh!.gone()])
    assert.ok(!wire!.frames.some(({ type, stream }) => stream === 7 && type !== types.reset))
    assert.deepEqual(await stopped, { areConnectionsClosed: true, areWorkersGone: true })
  },
)

overBoth('a client that follows the protocol loses no request to a drain', async (t, protocol) => {
  const own = await startEverywhere(t, { store, settings: { runtime }, over: http2Protocols })
  const client = own.open(t, protocol)
  assert.equal((await client.send(echoOf([0, 0]))).status, 200)
  let stopped: Promise<unknown> | undefined
  const answers = Array.from({ length: 100 }, async (_, i) => {
    await new Promise((resolve) => setImmediate(resolve))
    if (i === 50) stopped = own.served[protocol].stop()
    return client.send(echoOf([i, i + 0.5])).then(
      ({ status, json: answer }) => assert.deepEqual([status, answer.outputs[0].data], [200, [i, i + 0.5]]),
      ({ code, message }) => assert.match(`${code} ${message}`, /REFUSED_STREAM|ERR_HTTP2_(INVALID|GOAWAY)_SESSION/),
    )
  })
  await Promise.all(answers)
  assert.deepEqual(await stopped, { areConnectionsClosed: true, areWorkersGone: true })
})

overBoth('a session ends after its last request, and says which ones it did not take', async (t, protocol) => {
  const edge = { http2: { cleartext: true }, connections: { maxRequests: 5 } }
  const own = await startEverywhere(t, { store, settings: { runtime, edge }, over: http2Protocols })
  const wire = await FrameWire.open(t, placeOf(own, protocol))
  const streams = [1, 3, 5, 7, 9, 11, 13, 15]
  wire.write(...streams.flatMap((stream) => [request(stream, inferFields('echo')), data(stream, good, true)]))
  assert.deepEqual(await wire.goaway(), { code: codes.none, last: 9 })
  for (const stream of streams.slice(0, 5)) assert.equal((await wire.answer(stream)).status, 200)
  await wire.gone()
  const told = wire.frames.filter(({ stream, type }) => stream > 9 && type !== types.reset)
  assert.deepEqual(told, [])
  assert.equal(await outcomes(own.served[protocol], 'echo', 'ok'), 5)
})
