/**
 * HTTP/2 heads that never end. In a process of its own: when Node collects the session of such a client it may find memory that
 * it did not count back, and aborts (`current_nghttp2_memory_`, see nodejs/node#39951). Nothing can be done about it from here.
 */
import assert from 'node:assert/strict'
import { wholeFile } from './support/client.ts'
import {
  data,
  fieldBlock,
  flags,
  frame,
  FrameWire,
  http2Protocols,
  inferFields,
  overBoth,
  placeOf,
  request,
  types,
} from './support/frames.ts'
import { tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { startEverywhere } from './support/protocols.ts'

const edge = { head: { maxBytes: 2_048, maxFields: 20 }, http2: { cleartext: true } }
const store = { 'echo.onnx': identity('FP32', ['n', 2]) }
const strict = await startEverywhere(wholeFile, {
  store,
  settings: { runtime: { executors: 1 }, edge },
  over: http2Protocols,
})

const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const get = { ':method': 'GET', ':scheme': 'http', ':path': '/v2', ':authority': 'localhost' }
const most = 100

for (const [what, block] of [
  ['CONTINUATION frames', Buffer.alloc(0)],
  ['CONTINUATION frames with fields', fieldBlock({ x: 'y'.repeat(500) })],
] as const) {
  overBoth(`a flood of ${what} ends the session, and no other`, async (t, protocol) => {
    const other = await FrameWire.open(t, placeOf(strict, protocol))
    other.write(request(1, inferFields('echo')))
    const wire = await FrameWire.open(t, placeOf(strict, protocol))
    wire.write(request(1, inferFields('echo')), frame(types.headers, flags.none, 3, fieldBlock(get)))
    for (let sent = 0; !wire.isGone && sent < most; sent += 5) {
      wire.write(...Array.from({ length: 5 }, () => frame(types.continuation, flags.none, 3, block)))
      await wire.flushed()
    }
    await wire.gone()
    other.write(data(1, good, true))
    assert.equal((await other.answer(1)).status, 200)
  })
}
