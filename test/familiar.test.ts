/** Bodies that say again what one before has said come to the same as if they were read in full. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lease } from '../src/core/arena.ts'
import type { InferRequest } from '../src/core/call.ts'
import { isRefusal } from '../src/core/refusal.ts'
import type { Decoder } from '../src/edge/codecs/decoder.ts'
import { Envelope } from '../src/edge/codecs/envelope.ts'
import { FamiliarDecoder } from '../src/edge/codecs/familiar.ts'
import { RequestDecoder } from '../src/edge/codecs/request.ts'
import { decodeOptions, SpoilingArena } from './support/decoding.ts'
import { drawFrom } from './support/draw.ts'

const contract = {
  inputs: [
    { name: 'x', datatype: 'FP32', shape: ['n', 2] },
    { name: 'words', datatype: 'BYTES', shape: ['n'] },
  ],
  outputs: [
    { name: 'y', datatype: 'FP32', shape: ['n'] },
    { name: 'z', datatype: 'FP32', shape: ['n'] },
  ],
} as const

const x = '{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2.5],[-3,4e2]]}'
const words = '{"name":"words","shape":[2],"datatype":"BYTES","data":["ä","\\n"],"parameters":{"id":"inner"}}'
const bodies = [
  `{"id":"first","inputs":[${x},${words}]}`,
  `{"inputs":[${words}, ${x}],"outputs":[{"name":"z"}],"id":"last","parameters":{"timeout":5000,"id":"no"}}`,
  `{"inputs":[${x},${words}] , "parameters":{"priority":2}}\n`,
  `{"id":"a\\tb","inputs":[${x},${words}]}`,
  `{"inputs":[{"data":[1,2,3,4],"name":"x","datatype":"FP32","shape":[2,2]},${words}]}`,
]

type Make = new (...parameters: ConstructorParameters<typeof RequestDecoder>) => Decoder

/** What a body comes to, copied out of memory that is spoilt then. */
function comeTo(Made: Make, text: string, options = decodeOptions): unknown {
  const memory = new SpoilingArena(2 ** 20)
  const lease = new Lease(memory)
  const body = Buffer.from(text)
  const decoder = new Made({ jsonBytes: undefined, length: body.length, options, lease }, contract)
  const refusal = decoder.write(body)
  body.fill(0xff)
  const outcome = structuredClone(refusal ?? decoder.end())
  lease.release()
  assert.equal(memory.heldBytes, 0, 'all memory is given back')
  return outcome
}

function readInFull(text: string): { readonly request: InferRequest; readonly envelope: Envelope | undefined } {
  const lease = new Lease(new SpoilingArena(2 ** 20))
  const body = Buffer.from(text)
  const decoder = new RequestDecoder(
    { jsonBytes: undefined, length: body.length, options: decodeOptions, lease },
    contract,
  )
  const request = decoder.write(body) ?? decoder.end()
  assert.ok(request && !isRefusal(request))
  const envelope = Envelope.of(body, decoder.said(request))
  // What is read next lies in the same memory.
  body.fill(0xff)
  return { request, envelope }
}

function open(envelope: Envelope, text: string, options = decodeOptions): InferRequest | undefined {
  const memory = new SpoilingArena(2 ** 20)
  const request = envelope.open(Buffer.from(text), options, new Lease(memory))
  assert.equal(memory.heldBytes > 0, request !== undefined, 'memory is held by what was read, and by nothing else')
  return request
}

test('a body is known again with other elements and another id, and comes to what it says', () => {
  const { envelope } = readInFull(bodies[1]!)
  const other = bodies[1]!.replace('"last"', '"next one"').replace('[[1,2.5],[-3,4e2]]', '[ 7, 8,9 ,10]')
  const request = open(envelope!, other.replace('"ä"', '"longer"'))
  assert.deepEqual(request, readInFull(other.replace('"ä"', '"longer"')).request)
  assert.equal(request?.id, 'next one')
  assert.deepEqual(request.inputs[0]!.data, Float32Array.of(7, 8, 9, 10))
})

test('a body that differs around its elements, or is read otherwise, is not known', () => {
  const { envelope } = readInFull(bodies[0]!)
  assert.ok(open(envelope!, bodies[0]!))
  const others = [
    bodies[0]!.replace('"name":"x"', '"name":"y"'),
    bodies[0]!.replace('"inner"', '"other"'),
    bodies[0]!.replace('}]}', '}]} '),
    bodies[0]!.replace('[2,2]', '[4,1]'),
    bodies[0]!.replace('4e2]', '4e2],[5,6]'),
    bodies[0]!.replace(',[-3,4e2]', ''),
    bodies[0]!.replace('4e2', '"4"'),
    bodies[0]!.replace('["ä","\\n"]', '["ä",1]'),
    bodies[0]!.replace('["ä","\\n"]', '["ä","\\n"],"parameters":{"id":"other"}'),
    bodies[0]!.replace('"inputs":[', '"inputs":{'),
    bodies[0]!.replace('"data":[[', '"data" [['),
    bodies[0]!.replace('}]}', '}]]'),
    bodies[0]!.replace('"first"', '""first"'),
    bodies[0]!.replace('"first"', '"fir\u0001st"'),
    bodies[0]!.replace('"first"', '"fürst"'),
    bodies[0]!.slice(0, 40),
    bodies[0]!.slice(-20),
    '',
    bodies[0]!.replace('"first"', `"${'i'.repeat(129)}"`),
    bodies[0]!.replace('"first"', '"fir\\u0073t"'),
  ]
  for (const other of others) assert.equal(open(envelope!, other), undefined, other)
  assert.equal(open(envelope!, bodies[0]!, { ...decodeOptions }), undefined)
})

test('what is not worth it, or cannot be told again, is not remembered', () => {
  assert.equal(readInFull(bodies[3]!).envelope, undefined, 'an id with an escape')
  assert.equal(readInFull(`${bodies[0]!}${' '.repeat(2_100)}`).envelope, undefined, 'more around the elements')
})

test('whatever becomes of a body, it comes to the same as when it is read in full', () => {
  const draw = drawFrom(7)
  const pieces = ['"', '\\', '}', ']', ',', '0', ' ', '\u00e4', '"id":"x",', ':', '[', '{', 'NaN', '\u0000']
  for (let i = 0; i < 6_000; i++) {
    let text = bodies[draw(bodies.length)]!
    for (let edits = draw(3); edits > 0; edits--) {
      const at = draw(text.length)
      text = text.slice(0, at) + (draw(4) > 0 ? pieces[draw(pieces.length)]! : '') + text.slice(at + draw(3))
    }
    assert.deepEqual(comeTo(FamiliarDecoder, text), comeTo(RequestDecoder, text), text)
  }
})

test('a body in pieces, or with more behind it than it should have, is read as it comes', () => {
  const body = Buffer.from(bodies[0]!)
  const pieces = [body.subarray(0, 20), body.subarray(20, 90), body.subarray(90)]
  assert.deepEqual(readBy(FamiliarDecoder, {}, ...pieces), readInFull(bodies[0]!).request)
  const spoilt = [body.subarray(0, 20), body]
  const plan = { length: body.length }
  assert.deepEqual(readBy(FamiliarDecoder, plan, ...spoilt), readBy(RequestDecoder, plan, ...spoilt))
  assert.ok(isRefusal(readBy(FamiliarDecoder, plan, ...spoilt)))
})

test('a body that is known is still read by what its head says of it', () => {
  const body = Buffer.from(bodies[0]!)
  assert.ok(!isRefusal(readBy(FamiliarDecoder, {}, body)))
  for (const plan of [{ jsonBytes: body.length - 1 }, { jsonBytes: 10 }, { length: body.length + 1 }]) {
    const outcome = readBy(FamiliarDecoder, plan, body)
    assert.deepEqual(outcome, readBy(RequestDecoder, plan, body))
    assert.ok('jsonBytes' in plan === isRefusal(outcome))
  }
})

/** What a body in pieces comes to, of which its head says what the plan says. */
function readBy(Made: Make, plan: { jsonBytes?: number; length?: number }, ...pieces: readonly Buffer[]) {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
  const lease = new Lease(new SpoilingArena(2 ** 20))
  const decoder = new Made({ jsonBytes: undefined, length, options: decodeOptions, lease, ...plan }, contract)
  for (const piece of pieces) {
    const refusal = decoder.write(piece)
    if (refusal) return refusal
  }
  return decoder.end()!
}
