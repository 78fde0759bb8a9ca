/** HTTP/2, behind TLS and without, for clients that do not behave: limits, floods, broken frames, and those that stall. */
import assert from 'node:assert/strict'
import { suite, type TestContext } from 'node:test'
import { samples, until, wholeFile } from './support/client.ts'
import { codes, data, fieldBlock, flags, frame, FrameWire, inferFields, number32, opening } from './support/frames.ts'
import {
  http2Protocols,
  overBoth,
  placeOf,
  request,
  reset,
  settings,
  types,
  zeros,
  type Http2,
} from './support/frames.ts'
import { tensor, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { startEverywhere, type Everywhere } from './support/protocols.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 2]), 'zeros.onnx': zeros }
/** Limits that a few frames reach. */
const strict = await startWith({
  head: { maxBytes: 2_048, maxFields: 20 },
  http2: { maxStreams: 4, maxResets: 10, resetsPerSecond: 1, maxBadFrames: 10, maxControlFrames: 50 },
})
/** Times that a test can wait for. */
const hasty = await startWith({
  head: { timeoutMs: 400 },
  body: { timeoutMs: 700 },
  connections: { stallMs: 400, idleMs: 1_200 },
  http2: { maxStrayBytes: 1, maxControlFrames: 50 },
})

function startWith({ http2, ...edge }: { http2: object } & Record<string, object>): Promise<Everywhere<Http2>> {
  const whole = { ...edge, http2: { cleartext: true, ...http2 } }
  return startEverywhere(wholeFile, {
    store,
    settings: { runtime: { executors: 1 }, edge: whole },
    over: http2Protocols,
  })
}

const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const get = { ':method': 'GET', ':scheme': 'http', ':path': '/v2', ':authority': 'localhost' }

/** A session of its own is served, whatever happened on others. */
async function servesOn(t: TestContext, there: Everywhere<Http2>, protocol: Http2): Promise<void> {
  const wire = await FrameWire.open(t, placeOf(there, protocol))
  await answersOn(wire, 1)
  wire.hangUp()
}

/** A stream beside others is answered. */
async function answersOn(wire: FrameWire, stream: number): Promise<void> {
  wire.write(request(stream, inferFields('echo')), data(stream, good, true))
  assert.equal((await wire.answer(stream)).status, 200)
}

async function sessions(gateway: TestGateway): Promise<number> {
  return (await samples(gateway)).get('penstock_connections{protocol="h2"}')!
}

function times(count: number, each: (i: number) => Uint8Array): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => each(i))
}

overBoth(
  'the most streams are announced, and who did not know yet is to try again with those beyond',
  async (t, protocol) => {
    const wire = await FrameWire.connect(t, placeOf(strict, protocol))
    wire.write(opening(), ...times(6, (i) => request(2 * i + 1, inferFields('echo'))))
    assert.deepEqual([await wire.resetOf(9), await wire.resetOf(11)], [codes.refused, codes.refused])
    const announced = wire.frames.find(({ type }) => type === types.settings)!.payload
    const at = announced.indexOf(Buffer.from('0003', 'hex'))
    assert.equal(announced.readUInt32BE(at + 2), 4)
    for (const stream of [1, 3, 5, 7]) wire.write(data(stream, good, true))
    for (const stream of [1, 3, 5, 7]) assert.equal((await wire.answer(stream)).status, 200)
    await answersOn(wire, 13)
  },
)

overBoth('who knows the most streams and opens more loses the session, and nobody else does', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(strict, protocol))
  wire.write(...times(5, (i) => request(2 * i + 1, inferFields('echo'))))
  assert.equal((await wire.goaway()).code, codes.protocol)
  await wire.gone()
  await servesOn(t, strict, protocol)
})

overBoth('a few cancelled requests are let pass, and many in a burst end the session', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(strict, protocol))
  const cancelled = (i: number) => Buffer.concat([request(2 * i + 1, inferFields('echo')), reset(2 * i + 1)])
  for (let i = 0; i < 8; i++) {
    wire.write(cancelled(i))
    await wire.settled()
  }
  await answersOn(wire, 101)
  wire.write(...times(8, (i) => cancelled(100 + i)))
  assert.notEqual((await wire.goaway()).code, codes.none)
  await wire.gone()
  await servesOn(t, strict, protocol)
})

const control: Record<string, Uint8Array> = {
  PING: frame(types.ping, flags.none, 0, Buffer.alloc(8)),
  SETTINGS: settings({ 4: 70_000 }),
}

for (const [name, each] of Object.entries(control)) {
  overBoth(`a few ${name} frames are let pass, and many end the session with a word why`, async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(strict, protocol))
    wire.write(...times(20, () => each))
    await answersOn(wire, 1)
    wire.write(...times(40, () => each))
    assert.equal((await wire.goaway()).code, codes.calm)
    await wire.gone()
    await servesOn(t, strict, protocol)
  })
}

/** What is sent without end on a session that has a stream open, and how many of it end the session at the latest. */
const floods: Record<string, readonly [most: number, make: (i: number) => Uint8Array]> = {
  'PRIORITY frames': [20_000, (i) => frame(types.priority, flags.none, 2 * i + 3, Buffer.of(0, 0, 0, 0, 1))],
  'frames of unknown types': [20_000, () => frame(0xee, flags.none, 0, Buffer.alloc(10))],
  'DATA frames without data': [100, () => data(1, '')],
  'requests that are malformed': [100, (i) => request(2 * i + 3, inferFields('echo', { UPPER: 'x' }))],
  'streams that are let stall': [100, (i) => request(2 * i + 3, inferFields('echo'))],
}

for (const [what, [most, make]] of Object.entries(floods)) {
  overBoth(`a flood of ${what} ends the session, and no other`, async (t, protocol) => {
    const other = await FrameWire.open(t, placeOf(strict, protocol))
    other.write(request(1, inferFields('echo')))
    const wire = await FrameWire.open(t, placeOf(strict, protocol))
    wire.write(request(1, inferFields('echo')))
    const step = most / 20
    for (let sent = 0; !wire.isGone && sent < most; sent += step) {
      wire.write(...times(step, (i) => make(sent + i)))
      await wire.flushed()
    }
    await wire.gone()
    other.write(data(1, good, true))
    assert.equal((await other.answer(1)).status, 200)
  })
}

overBoth('many WINDOW_UPDATE frames and cut-up bodies cost the client more than the gateway', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(strict, protocol))
  wire.write(request(1, inferFields('echo')))
  wire.write(...times(5_000, (i) => frame(types.window, flags.none, i % 2, number32(1))))
  wire.write(...times(2_000, () => data(1, ' ')), data(1, good, true))
  assert.equal((await wire.answer(1)).status, 200)
})

overBoth('a head with too many bytes or fields costs its stream and not the session', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(strict, protocol))
  const fields = (count: number) => Object.fromEntries(times(count, () => Buffer.of()).map((_, i) => [`x${i}`, 'y']))
  wire.write(request(1, inferFields('echo', { x: 'y'.repeat(2_048) })))
  wire.write(request(3, inferFields('echo', fields(21))))
  assert.deepEqual([await wire.resetOf(1), await wire.resetOf(3)], [codes.calm, codes.calm])
  wire.write(request(5, inferFields('echo', fields(18))), data(5, good, true))
  assert.equal((await wire.answer(5)).status, 200)
})

/** Requests that are malformed (RFC 9113 section 8.1.1). */
const malformed: Record<string, Uint8Array> = {
  'a name in upper case': request(3, inferFields('echo', { Accept: '*/*' })),
  'a field of the connection': request(3, inferFields('echo', { connection: 'close' })),
  'a transfer coding': request(3, inferFields('echo', { 'transfer-encoding': 'chunked' })),
  'two lengths': frame(
    types.headers,
    flags.endHeaders,
    3,
    Buffer.concat([fieldBlock(inferFields('echo', { 'content-length': '9' })), fieldBlock({ 'content-length': '8' })]),
  ),
  'a length that is none': request(3, inferFields('echo', { 'content-length': '-1' })),
  'no path': request(3, { ':method': 'GET', ':scheme': 'http', ':authority': 'a' }),
  'an empty path': request(3, inferFields('echo', { ':path': '' })),
  'a path with a space': request(3, inferFields('echo', { ':path': '/v2 /x' })),
  'a method with a space': request(3, inferFields('echo', { ':method': 'G ET' })),
  'no authority': request(3, { ':method': 'GET', ':scheme': 'http', ':path': '/v2' }),
  'an unknown pseudo-field': request(3, inferFields('echo', { ':x': 'y' })),
  'a pseudo-field twice': frame(
    types.headers,
    flags.endHeaders,
    3,
    Buffer.concat([fieldBlock(get), fieldBlock({ ':path': '/v2' })]),
  ),
  'a pseudo-field after others': request(3, { ':method': 'GET', ':scheme': 'http', x: 'y', ':path': '/v2' }),
}

overBoth('a malformed request is reset, and its neighbour on the session is answered', async (t, protocol) => {
  for (const [what, bytes] of Object.entries(malformed)) {
    const wire = await FrameWire.open(t, placeOf(strict, protocol))
    wire.write(request(1, inferFields('echo')), bytes)
    assert.equal(await wire.resetOf(3), codes.protocol, what)
    wire.write(data(1, good, true))
    assert.equal((await wire.answer(1)).status, 200, what)
    wire.hangUp()
  }
})

/** What breaks the protocol for the whole session: the code that it ends with, and the bytes. */
const broken: Record<string, readonly [code: number, ...parts: Uint8Array[]]> = {
  'a frame over the size': [codes.size, frame(types.data, flags.none, 1, Buffer.alloc(16_385))],
  'DATA on a stream that nobody opened': [codes.protocol, data(9, 'x')],
  'RST_STREAM on a stream that nobody opened': [codes.protocol, reset(9)],
  'HEADERS on a stream that has ended': [codes.closed, data(1, good, true), request(1, inferFields('echo'))],
  'DATA on a stream that has ended': [codes.closed, data(1, good, true), data(1, 'x')],
  'a stream with an even number': [codes.protocol, request(2, inferFields('echo'))],
  'a stream that waits for itself': [
    codes.protocol,
    frame(types.headers, flags.endHeaders | 0x20, 3, Buffer.concat([number32(3), Buffer.of(1), fieldBlock(get)])),
  ],
  'fields that are not HPACK': [codes.compression, frame(types.headers, 5, 3, Buffer.alloc(5, 0xff))],
  'CONTINUATION behind nothing': [codes.protocol, frame(types.continuation, flags.endHeaders, 3, fieldBlock(get))],
  'DATA between HEADERS and CONTINUATION': [
    codes.protocol,
    frame(types.headers, flags.none, 3, fieldBlock(get)),
    data(1, 'x'),
  ],
  'a PUSH_PROMISE': [codes.protocol, frame(types.push, flags.endHeaders, 1, number32(2))],
  'a PING of seven bytes': [codes.size, frame(types.ping, flags.none, 0, Buffer.alloc(7))],
  'a RST_STREAM of three bytes': [codes.size, frame(types.reset, flags.none, 1, Buffer.alloc(3))],
  'SETTINGS of five bytes': [codes.size, frame(types.settings, flags.none, 0, Buffer.alloc(5))],
  'SETTINGS with a window over the most': [codes.flow, settings({ 4: 0xffffffff })],
  'a window that grows by nothing': [codes.protocol, frame(types.window, flags.none, 0, number32(0))],
  'a window over the most': [codes.flow, frame(types.window, flags.none, 0, number32(0x7fffffff))],
}

overBoth('broken frames end their session with a word why, and no other', async (t, protocol) => {
  const other = await FrameWire.open(t, placeOf(strict, protocol))
  other.write(request(1, inferFields('echo')))
  for (const [what, [code, ...parts]] of Object.entries(broken)) {
    const wire = await FrameWire.open(t, placeOf(strict, protocol))
    wire.write(request(1, inferFields('echo')), ...parts)
    assert.equal((await wire.goaway()).code, code, what)
    await wire.gone()
  }
  other.write(data(1, good, true))
  assert.equal((await other.answer(1)).status, 200)
})

overBoth('frames of unknown types and for streams that are over are let pass', async (t, protocol) => {
  const wire = await FrameWire.open(t, placeOf(strict, protocol))
  await answersOn(wire, 5)
  wire.write(frame(0xee, 0xff, 7, Buffer.alloc(50)), request(5, inferFields('echo')), request(3, inferFields('echo')))
  wire.write(reset(5), frame(types.window, flags.none, 5, number32(1)), data(5, 'x'))
  await answersOn(wire, 9)
  const answered = wire.frames.filter(({ type }) => type === types.headers).map(({ stream }) => stream)
  assert.deepEqual(answered, [5, 9])
})

suite('those that stall', { concurrency: true }, () => {
  overBoth('a client that begins half way and stops is cut', async (t, protocol) => {
    const wires = await Promise.all(
      ['', 'PRI * HTTP', 'PRI * HTTP/2.0\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'].map(async (sent) => {
        const wire = await FrameWire.connect(t, placeOf(hasty, protocol))
        wire.write(sent)
        return wire
      }),
    )
    await Promise.all(wires.map((wire) => wire.gone()))
  })

  overBoth('a client that stops within the head of a request is cut', async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(hasty, protocol))
    wire.write(frame(types.headers, flags.none, 1, fieldBlock(inferFields('echo'))))
    await wire.gone()
  })

  overBoth('a client that keeps the gateway busy with nothing is cut, and others are served', async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(hasty, protocol))
    wire.write(request(1, inferFields('echo')))
    // The window of the session is free.
    wire.write(...times(100_000, () => frame(types.window, flags.none, 0, number32(1))))
    assert.equal((await wire.goaway()).code, codes.calm)
    await wire.gone()
    await servesOn(t, hasty, protocol)
  })

  overBoth('a body that does not come in time is answered 408, and its neighbours go on', async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(hasty, protocol))
    wire.write(request(1, inferFields('echo')), data(1, good.slice(0, -5)))
    const { status, json } = await wire.answer(1)
    assert.deepEqual([status, json.code], [408, 'too_slow'])
    await answersOn(wire, 3)
    assert.equal(await wire.resetOf(1), codes.cancel)
  })

  overBoth('an answer that is not taken is cut, and its neighbours go on', async (t, protocol) => {
    const wire = await FrameWire.open(t, placeOf(hasty, protocol), { 4: 0 })
    wire.write(request(1, inferFields('echo')), data(1, good, true))
    const opened = frame(types.window, flags.none, 3, number32(10_000))
    wire.write(request(3, inferFields('echo')), opened, data(3, good, true))
    assert.equal((await wire.answer(3)).status, 200)
    assert.equal(await wire.resetOf(1), codes.cancel)
  })

  overBoth('an idle session is ended, also if it sends a PING now and then', async (t, protocol) => {
    const quiet = await FrameWire.open(t, placeOf(hasty, protocol))
    const restless = await FrameWire.open(t, placeOf(hasty, protocol))
    await answersOn(restless, 1)
    for (let i = 0; i < 100 && !restless.isGone; i++) {
      await restless.settled().catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    await Promise.all([quiet.gone(), restless.gone()])
    assert.deepEqual(await restless.goaway(), { code: codes.none, last: 1 })
    assert.deepEqual(await quiet.goaway(), { code: codes.none, last: 0 })
  })
})

/** Asks for sixteen megabytes and does not take them. */
async function takeNothing(t: TestContext, protocol: Http2): Promise<FrameWire> {
  const wire = await FrameWire.open(t, placeOf(hasty, protocol), { 4: 2 ** 30 })
  const ask = JSON.stringify({
    inputs: [tensor('x', 'INT64', [1], [4_000_000])],
    outputs: [{ name: 'y', parameters: { binary_data: true } }],
  })
  wire.write(
    frame(types.window, flags.none, 0, number32(2 ** 30)),
    request(1, inferFields('zeros')),
    data(1, ask, true),
  )
  await wire.frame(({ type }) => type === types.headers)
  wire.pause()
  return wire
}

overBoth('a client that takes nothing at all off its connection is cut', async (t, protocol) => {
  await takeNothing(t, protocol)
  await until('its session is over', async () => (await sessions(hasty.served[protocol])) === 0)
})

overBoth('a client that is told to be calm and does not take the word is cut', async (t, protocol) => {
  const wire = await takeNothing(t, protocol)
  wire.write(...times(60, () => control['PING']!))
  await until('its session is over', async () => (await sessions(hasty.served[protocol])) === 0)
})
