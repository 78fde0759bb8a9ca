/** Bodies over HTTP/1.1: where they end, what stands between their bytes, and what becomes of those that nobody wants. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { outcomes, wholeFile } from './support/client.ts'
import { tensor } from './support/gateway.ts'
import { Line } from './support/line.ts'
import { identity } from './support/onnx.ts'
import { http1Protocols, isOnNode, overHttp1, startEverywhere, type Http1 } from './support/protocols.ts'
import { Wire, wireRequest, type WireReply } from './support/socket.ts'

const maxUnreadBytes = 3_000
const everywhere = await startEverywhere(wholeFile, {
  store: { 'echo.onnx': identity('FP32', ['n', 2]) },
  settings: { runtime: { executors: 1 }, edge: { body: { maxUnreadBytes, maxBytes: 4_000_000 } } },
  over: http1Protocols,
})

const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const infer = wireRequest('echo', good)
const get = 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n'
const inChunks = wireRequest('echo', '', { 'transfer-encoding': 'chunked', 'x-request-id': 'own' })

/** A body in chunks of so many bytes, each with an extension. */
function chunked(body: string, bytes: number, extension = ''): string {
  const pieces = body.match(new RegExp(`[^]{1,${bytes}}`, 'g')) ?? []
  return pieces.map((piece) => `${piece.length.toString(16)}${extension}\r\n${piece}\r\n`).join('')
}

const end = '0\r\n\r\n'

function open(t: TestContext, protocol: Http1): Promise<Wire> {
  return Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
}

function assertGood({ status, json }: WireReply, what = ''): void {
  assert.deepEqual([status, json.outputs?.[0].data], [200, [1, 2]], what)
}

function assertRefused({ status, headers, json }: WireReply, expected: readonly [number, string, string]): void {
  assert.deepEqual([status, json.code, headers.get('connection')], expected)
}

const parts = `${inChunks}${chunked(good, 30, ';a="b;c";d')}000;e\r\nx-request-id: trailer\r\nhost: b\r\n\r\n`

overHttp1('a body in chunks is the same wherever it is cut', async (t, protocol) => {
  const line = await Line.open(t, everywhere, protocol)
  line.socket.setNoDelay()
  for (let at = inChunks.length - 3; at <= parts.length; at++) {
    line.write(parts.slice(0, at))
    await nextTurn()
    line.write(parts.slice(at) + get)
    await line.answered(2)
    assert.deepEqual(line.statuses, [200, 200], `cut at ${at}`)
    assert.match(line.received, /"data":\[1,2\][^]*"name":"penstock"/)
    line.received = ''
  }
})

overHttp1('a body in chunks may come byte by byte', async (t, protocol) => {
  const line = await Line.open(t, everywhere, protocol)
  line.socket.setNoDelay()
  for (const byte of parts + get) {
    line.write(byte)
    await nextTurn()
  }
  await line.answered(2)
  assert.deepEqual(line.statuses, [200, 200])
})

overHttp1('large bodies are read to their end, in one chunk and in many, and nothing beyond', async (t, protocol) => {
  const wire = await open(t, protocol)
  const padded = good.padEnd(300_000)
  // A number that is cut in two by the window of the parser, and one at the end of a chunk.
  const late = `${' '.repeat(65_500)}${good}`.padEnd(200_000)
  for (const body of [padded, late]) {
    wire.write(wireRequest('echo', body) + get)
    assertGood(await wire.reply())
    assert.equal((await wire.reply()).status, 200)
    for (const bytes of [body.length, 65_536, 4_099]) {
      wire.write(inChunks + chunked(body, bytes) + end + get)
      assertGood(await wire.reply(), `${bytes} bytes a chunk`)
      assert.equal((await wire.reply()).status, 200)
    }
  }
})

overHttp1(
  'as many chunks as there are bytes are taken, and what stands between them does not count',
  async (t, protocol) => {
    const wire = await open(t, protocol)
    wire.write(inChunks + chunked(good.padEnd(20_000), 1) + end)
    assertGood(await wire.reply())
  },
)

overHttp1('what follows the last chunk is no part of the head, and the next request is', async (t, protocol) => {
  const wire = await open(t, protocol)
  const trailers = ['x-request-id: theirs', 'expect: a miracle', 'authorization: Bearer nonsense']
  // Node's parser takes this one for a field of the head.
  if (!isOnNode(protocol)) trailers.push('connection: close')
  wire.write(`${inChunks}${chunked(good, 40)}0\r\n${trailers.join('\r\n')}\r\n\r\n`)
  const reply = await wire.reply()
  assertGood(reply)
  assert.equal(reply.headers.get('x-request-id'), 'own')
  wire.write(get)
  const { status, headers } = await wire.reply()
  assert.deepEqual([status, headers.get('connection')], [200, 'keep-alive'])
})

const field = (bytes: number) => `x: ${'y'.repeat(bytes)}\r\n`

overHttp1('trailers beyond the limit of heads are refused, in one field or in many', async (t, protocol) => {
  for (const trailers of [field(20_000), field(100).repeat(200), 'a:b\r\n'.repeat(102), 'a:b\r\n'.repeat(6_000)]) {
    const wire = await open(t, protocol)
    wire.write(`${inChunks}${chunked(good, 40)}0\r\n${trailers}\r\n${get}`)
    assertRefused(await wire.reply(), [431, 'header_too_large', 'close'])
    await wire.gone
    assert.equal(wire.unread, 0)
  }
  const wire = await open(t, protocol)
  // Extensions have a limit of their own.
  const trailers = field(100).repeat(99)
  wire.write(`${inChunks}${chunked(good, 20, `;${'e'.repeat(2_000)}`)}0\r\n${trailers}\r\n`)
  assertGood(await wire.reply(), 'so many are not too many')
})

overHttp1('all bytes of trailers count as such', async (t, protocol) => {
  const wire = await open(t, protocol)
  wire.write(`${inChunks}${chunked(good, 40)}0\r\nx:${' '.repeat(20_000)}y\r\n\r\n`)
  const reply = await wire.reply()
  // Node's front counts names and values only.
  if (isOnNode(protocol)) assertGood(reply)
  else {
    assertRefused(reply, [431, 'header_too_large', 'close'])
    assert.match(reply.json.error, /trailers/)
  }
})

overHttp1('extensions of chunks may be a little, and not without end', async (t, protocol) => {
  const wire = await open(t, protocol)
  const extension = `;${'e'.repeat(99)}`
  wire.write(inChunks + chunked(good, 1, extension) + end)
  assertGood(await wire.reply())
  // Node's front begins to count anew with each chunk.
  const body = isOnNode(protocol) ? `1;${'e'.repeat(17_000)}\r\n{\r\n` : chunked(good.padEnd(1_000), 1, extension)
  wire.write(inChunks + body)
  assertRefused(await wire.reply(), [413, 'too_large', 'close'])
  await wire.gone
  assert.equal(wire.unread, 0)
})

overHttp1(
  'leave to send a body is given once, before the body, and to nobody who does not wait',
  async (t, protocol) => {
    const line = await Line.open(t, everywhere, protocol)
    const [head = '', body = ''] = wireRequest('echo', good, { expect: '100-Continue' }).split(/(?<=\r\n\r\n)/)
    line.write(head)
    await line.answered(1)
    assert.equal(line.received, 'HTTP/1.1 100 Continue\r\n\r\n')
    line.write(body)
    await line.answered(2)
    line.write(infer)
    await line.answered(3)
    line.write(head.replace('HTTP/1.1', 'HTTP/1.0') + body)
    await line.over
    assert.deepEqual(line.statuses, [100, 200, 200, 200])
  },
)

overHttp1('a body in chunks may be waited for too', async (t, protocol) => {
  const line = await Line.open(t, everywhere, protocol)
  line.write(wireRequest('echo', '', { expect: '100-continue', 'transfer-encoding': 'chunked' }))
  await line.answered(1)
  line.write(chunked(good, 9) + end + get)
  await line.answered(3)
  assert.deepEqual(line.statuses, [100, 200, 200])
})

overHttp1('who waits for leave to send and is refused hears it for the last time', async (t, protocol) => {
  const expect = '100-continue'
  const refused: [string, string, number][] = [
    ['nobody', '2', 404],
    ['echo', '4000001', 413],
  ]
  for (const [model, length, status] of refused) {
    const line = await Line.open(t, everywhere, protocol)
    // It may send its body all the same, or not: what comes next could be either.
    line.write(wireRequest(model, '', { expect, 'content-length': length }))
    await line.over
    assert.deepEqual(line.statuses, [status])
    assert.match(line.received, /\r\nconnection: close\r\n/i)
  }
})

overHttp1('other expectations are refused, and the connection goes on', async (t, protocol) => {
  const wire = await open(t, protocol)
  const others = ['200-ok', '', 'x']
  // In this Node's server finds what it knows, so that it is refused for the last time.
  if (!isOnNode(protocol)) others.push('100-continue, 100-continue')
  for (const expect of others) {
    wire.write(wireRequest('echo', good, { expect }) + get)
    assertRefused(await wire.reply(), [417, 'expectation_failed', 'keep-alive'])
    assert.equal((await wire.reply()).status, 200)
  }
  wire.write(wireRequest('echo', good, { expect: 'x', connection: 'keep-alive' }).replace('HTTP/1.1', 'HTTP/1.0'))
  assertGood(await wire.reply(), 'HTTP/1.0 has no expectations')
})

overHttp1('of a body that is refused early so much is read past, and not a byte more', async (t, protocol) => {
  const wire = await open(t, protocol)
  for (const length of [1, maxUnreadBytes]) {
    wire.write(wireRequest('nobody', '', { 'content-length': String(length) }))
    assertRefused(await wire.reply(), [404, 'not_found', 'keep-alive'])
    wire.write('x'.repeat(length) + infer)
    assertGood(await wire.reply())
  }
  wire.write(wireRequest('nobody', '', { 'content-length': String(maxUnreadBytes + 1) }))
  assertRefused(await wire.reply(), [404, 'not_found', 'close'])
  wire.write('x'.repeat(maxUnreadBytes + 1) + infer)
  await wire.gone
  assert.equal(wire.unread, 0)
})

overHttp1('of a body in chunks nobody knows how much is left, and so the connection ends', async (t, protocol) => {
  const before = await outcomes(everywhere.served[protocol], 'echo', 'ok')
  const wire = await open(t, protocol)
  wire.write(wireRequest('nobody', '', { 'transfer-encoding': 'chunked' }))
  assertRefused(await wire.reply(), [404, 'not_found', 'close'])
  wire.write(chunked('x', 1) + end + infer)
  await wire.gone
  assert.equal(wire.unread, 0)
  assert.equal(await outcomes(everywhere.served[protocol], 'echo', 'ok'), before)
})

overHttp1(
  'a body that is refused before its end, and comes whole, costs nothing of the next request',
  async (t, protocol) => {
    const wire = await open(t, protocol)
    const refused = wireRequest('echo', `{"inputs":7,${' '.repeat(2_000)}}`)
    for (let i = 0; i < 20; i++) {
      wire.write(refused + infer)
      assertRefused(await wire.reply(), [400, 'invalid', 'keep-alive'])
      assertGood(await wire.reply())
    }
  },
)

test('the rest of a body that was refused may come in parts', async (t) => {
  for (const protocol of http1Protocols) {
    const line = await Line.open(t, everywhere, protocol)
    line.socket.setNoDelay()
    const rest = 'x'.repeat(500)
    line.write(wireRequest('nobody', '', { 'content-length': String(rest.length) }))
    await line.answered(1)
    for (const byte of rest + get) {
      line.write(byte)
      if (byte !== 'x') continue
      await nextTurn()
    }
    await line.answered(2)
    assert.deepEqual(line.statuses, [404, 200], protocol)
  }
})

overHttp1('a request that has no body has none, whatever follows', async (t, protocol) => {
  const wire = await open(t, protocol)
  wire.write(`DELETE /v2 HTTP/1.1\r\nhost: a\r\n\r\nPOST /v2 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n${infer}`)
  assert.equal((await wire.reply()).status, 405)
  assert.equal((await wire.reply()).status, 405)
  assertGood(await wire.reply())
})
