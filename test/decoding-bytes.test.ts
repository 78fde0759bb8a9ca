/** Bodies byte by byte: words, strings and binary tensors that are cut, odd or huge, and the memory that they hold. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { numerics, type NumericDatatype } from '../src/core/datatype.ts'
import type { Signature } from '../src/core/signature.ts'
import { binaryTensor, byteStrings, bytesOf } from './support/client.ts'
import {
  bodyOf,
  contractOf,
  cutAnywhere,
  decodeOptions,
  inJson,
  measure,
  named,
  outcomeOf,
  taken,
  valuesIn,
  type Outcome,
} from './support/decoding.ts'
import { drawFrom } from './support/draw.ts'

const floats = contractOf('FP32')
const texts = contractOf('BYTES')

test('a long word that is no number is refused in the same words, however it is cut', () => {
  for (const start of ['', '-', '0', '1e+', 'N', 'tru', '"', '[', '{']) {
    const word = start.length === 1 && '"[{'.includes(start) ? start.repeat(2_100) : `${start}${'x'.repeat(2_100)}`
    for (const datatype of ['FP32', 'INT64', 'BOOL', 'BYTES'] as const)
      assert.match(cutAnywhere(bodyOf(datatype, [1], `[${word},1]`), contractOf(datatype)) as string, /^invalid/)
    assert.match(cutAnywhere(Buffer.from(`{"odd":${word}}`), floats) as string, /^invalid/)
  }
  for (const word of [`0${'1'.repeat(2_100)}`, `${'1'.repeat(2_100)}x`, `"${'x'.repeat(2_100)}"`])
    assert.match(cutAnywhere(bodyOf('FP32', [1], `[${word},1]`), floats) as string, /^invalid/)
})

const notFinite = [NaN, Infinity, -Infinity, NaN]
const nonFinite = { FP32: Float32Array.from(notFinite), FP64: Float64Array.from(notFinite) }

test('NaN and infinities are taken for floats where the policy takes them, in these words only', () => {
  const options = { ...decodeOptions, nonFinite: true }
  const data = '[NaN, Infinity,-Infinity ,NaN]'
  for (const datatype of ['FP32', 'FP64'] as const) {
    const contract = contractOf(datatype)
    for (const isHeld of [false, true]) {
      const values = valuesIn(cutAnywhere(bodyOf(datatype, [4], data, isHeld), contract, { options }))
      assert.deepStrictEqual(values, [nonFinite[datatype]])
      assert.match(
        cutAnywhere(bodyOf(datatype, [4], data, isHeld), contract) as string,
        /NaN and Infinity have no form/,
      )
    }
    for (const word of '-NaN nan Inf -Inf +Infinity infinity Nan NaN1 Infinityx --Infinity 1NaN'.split(' '))
      assert.match(
        cutAnywhere(bodyOf(datatype, [1], `[${word}]`), contract, { options }) as string,
        /^invalid: .*not JSON/,
      )
    const huge = datatype === 'FP32' ? '1e39' : '1e309'
    const outcome = cutAnywhere(bodyOf(datatype, [1], `[${huge}]`), contract, { options })
    assert.equal(outcome, `invalid: input "x": element 0 is outside the range of ${datatype}`)
  }
  for (const datatype of inJson.filter((each) => !each.startsWith('FP')))
    for (const word of ['NaN', 'Infinity', '-Infinity'])
      assert.match(
        cutAnywhere(bodyOf(datatype, [1], `[${word}]`), contractOf(datatype), { options }) as string,
        /^invalid/,
      )
  assert.match(cutAnywhere(Buffer.from('{"odd":NaN}'), floats, { options }) as string, /^invalid/)
})

test('strings are cut inside escapes and characters without a trace, in keys, values and elements', () => {
  const string = '\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00fcü字😀\\uD83D\\ude00\\ud800x'
  const id = JSON.parse(`"${string}"`) as string
  const element = string.replace('\\ud800', '')
  const data = `"d\\u0061ta":["${element}","${element}"]`
  for (const keys of [
    `"nam\\u0065":"x","datatype":"BYTES","shape":[2],${data}`,
    `${data},"name":"x","datatype":"BYTES","shape":[2]`,
  ]) {
    const request = taken(
      cutAnywhere(Buffer.from(`{"id":"${string}","${string}":{"${string}":1},"inputs":[{${keys}}]}`), texts),
    )
    assert.equal(request.id, id)
    assert.deepEqual(request.inputs[0]!.values, Array(2).fill(JSON.parse(`"${element}"`)))
  }
  const element0 = 'invalid: input "x": element 0'
  assert.equal(cutAnywhere(bodyOf('BYTES', [1], '["\\ud83d"]'), texts), `${element0} holds half of a surrogate pair`)
  assert.equal(
    cutAnywhere(bodyOf('BYTES', [1], '["a\\u0000"]'), texts),
    `${element0} holds a NUL character, where ONNX Runtime would cut it`,
  )
  for (const escape of ['\\x', '\\u12G4', '\\u-123', '\\U0041', '\\u123', '\\'])
    for (const body of [`{"${escape}":1}`, `{"id":"${escape}"}`, bodyOf('BYTES', [1], `["${escape}"]`)])
      assert.match(cutAnywhere(Buffer.from(body), texts) as string, /^invalid: the body is not JSON/)
})

test('strings that are not UTF-8 are refused, in keys, values and elements, wherever they are cut', () => {
  const broken = ['80', 'c3', 'c328', 'c080', 'eda080', 'edb080', 'e282', 'f09f98', 'f4908080', 'f8888080', 'ff', 'fe']
  const unmark = (text: string, hex: string) =>
    Buffer.from(Buffer.from(text).toString('hex').replace('e29aa1', hex), 'hex')
  for (const hex of broken) {
    for (const text of ['{"a⚡":1}', '{"id":"⚡"}', '{"id":"\\n⚡ü"}', '{"\\u0061⚡":[]}'])
      assert.match(
        cutAnywhere(unmark(text, hex), texts) as string,
        /^invalid: the body is not JSON: a string is not UTF-8/,
      )
    for (const isHeld of [false, true])
      for (const data of ['["a","⚡"]', '["a","\\n⚡b"]'])
        assert.equal(
          cutAnywhere(unmark(bodyOf('BYTES', [2], data, isHeld).toString(), hex), texts),
          'invalid: input "x": element 1 is not UTF-8',
        )
  }
})

test('a string outside of tensor data has 65,536 bytes at most, quotes included, and a shorter one is judged by itself', () => {
  const cutHere = (body: string): Outcome => {
    const bytes = Buffer.from(body)
    const whole = outcomeOf(bytes, texts)
    for (const bytesOfPiece of [7_000, 16_384, 65_536, 65_546]) {
      const cuts = Array.from({ length: Math.ceil(bytes.length / bytesOfPiece) - 1 }, (_, i) => (i + 1) * bytesOfPiece)
      assert.equal(outcomeOf(bytes, texts, { cuts }), whole)
    }
    return whole
  }
  const tooLong = 'invalid: the body is not JSON as it is taken here: a string has more than 65536 bytes, at byte '
  for (const string of ['x'.repeat(65_534), 'ü'.repeat(32_767), '\\n'.repeat(32_767)]) {
    assert.match(cutHere(`{"id":"${string}"}`) as string, /"inputs" must be a list/)
    assert.equal(cutHere(`{"id":"${string}x"}`), `${tooLong}6`)
    assert.match(cutHere(`{"${string}":1}`) as string, /"inputs" must be a list/)
    assert.equal(cutHere(`{"${string}x":1}`), `${tooLong}1`)
  }
  const spaces = ' '.repeat(70_000)
  assert.match(cutHere(`{"id":"a\\x"${spaces}}`) as string, /: a string has an escape that does not exist, at byte 8$/)
  assert.match(cutHere(`{"id":"a\n"${spaces}}`) as string, /: a string has a control character, at byte 8$/)
})

test('an element of a megabyte comes whole out of many pieces, with escapes and without', () => {
  const draw = drawFrom(7)
  for (const part of ['a', 'ü😀', '\\u00fc\\n\\"', '字\\t']) {
    const string = part.repeat(Math.ceil(1_000_000 / part.length))
    const body = bodyOf('BYTES', [3], `["","${string}","b"]`)
    const cuts = Array.from({ length: 40 }, () => 1 + draw(body.length - 1)).toSorted((a, b) => a - b)
    for (const each of [[], cuts, Array.from({ length: body.length >> 14 }, (_, i) => (i + 1) << 14)]) {
      const { outcome, mostHeldBytes } = measure(body, texts, { cuts: each })
      assert.deepEqual(valuesIn(outcome), [['', JSON.parse(`"${string}"`), 'b']])
      assert.ok(mostHeldBytes <= 8 * body.length, `${mostHeldBytes} for ${body.length}`)
    }
  }
})

/** JSON that describes inputs, followed by their bytes. */
function behind(inputs: readonly object[], ...tails: Parameters<typeof bytesOf>[0][]) {
  const json = Buffer.from(JSON.stringify({ inputs }))
  return { body: Buffer.concat([json, ...tails.map(bytesOf)]), jsonBytes: json.length }
}

test('binary tensors of every datatype are read to the bit wherever they are cut, whether their length is known or not', () => {
  for (const datatype of Object.keys(numerics) as NumericDatatype[]) {
    const { array, bytes } = numerics[datatype]
    const data = new array(
      Uint8Array.from({ length: 6 * bytes }, (_, i) => (datatype === 'BOOL' ? i & 1 : i * 41)).buffer,
    )
    const contract = contractOf(datatype, named(2))
    const { body, jsonBytes } = behind([binaryTensor('x', datatype, [2, 3], data.byteLength)], data)
    for (const isChunked of [false, true]) {
      assert.deepStrictEqual(valuesIn(cutAnywhere(body, contract, { jsonBytes, isChunked })), [data])
      const raw = taken(cutAnywhere(Buffer.from(bytesOf(data)), contract, { jsonBytes: 0, isChunked }))
      assert.deepStrictEqual([raw.inputs[0]!.shape, raw.inputs[0]!.values], [[1, 6], data])
      assert.deepStrictEqual(raw.wanted, [{ name: 'y', binary: true }])
    }
  }
})

const pair: Signature = {
  inputs: [
    { name: 'a', datatype: 'BYTES', shape: ['n'] },
    { name: 'b', datatype: 'INT16', shape: ['n'] },
    { name: 'c', datatype: 'BOOL', shape: ['n'] },
  ],
  outputs: [{ name: 'y', datatype: 'BOOL', shape: ['n'] }],
}
const [a, b, c] = [byteStrings('', 'grüße', ''), new Int16Array([1, -2, 3]), Uint8Array.of(1, 0, 1)]
const inA = (bytes: number = a.length) => binaryTensor('a', 'BYTES', [3], bytes)
const inB = (bytes: number = b.byteLength) => binaryTensor('b', 'INT16', [3], bytes)
const inC = { name: 'c', datatype: 'BOOL', shape: [3], data: [true, false, true] }

test('binary and JSON inputs mix in any order, and too few or too many bytes behind them are refused', () => {
  const all = [['', 'grüße', ''], b, c]
  const attempt = (...parts: Parameters<typeof behind>): Outcome => {
    const { body, jsonBytes } = behind(...parts)
    const known = cutAnywhere(body, pair, { jsonBytes })
    const chunked = cutAnywhere(body, pair, { jsonBytes, isChunked: true })
    if (typeof known !== 'string') assert.deepStrictEqual(chunked, known)
    else assert.equal(typeof chunked, 'string')
    return known
  }
  assert.deepStrictEqual(valuesIn(attempt([inA(), inB(), inC], a, b)), all)
  assert.deepStrictEqual(valuesIn(attempt([inC, inB(), inA()], b, a)), all)
  const binaryC = binaryTensor('c', 'BOOL', [3], 3)
  assert.deepStrictEqual(valuesIn(attempt([binaryC, inA(), inB()], c, a, b)), all)
  const tooShort = (name: string) => `invalid: input "${name}": the body ends before its binary data`
  assert.equal(attempt([inA(), inB(), inC], a, b.subarray(1)), tooShort('b'))
  assert.equal(attempt([inA(), inB(), inC]), tooShort('a'))
  assert.equal(
    attempt([inA(), inB(2 ** 40), inC], a),
    'invalid: input "b": its binary data holds 1099511627776 bytes but its shape needs 6',
  )
  assert.equal(attempt([inA(2 ** 40), inB(), inC], a), tooShort('a'))
  assert.equal(
    attempt([inA(), inB(), inC], a, b, Uint8Array.of(0)),
    'invalid: the body holds 1 bytes of binary data that no input claims',
  )
  assert.equal(
    attempt([binaryC, inA(), inB()], Uint8Array.of(1, 2, 0), a, b),
    'invalid: input "c": a BOOL element is neither 0 nor 1',
  )
})

test('BYTES elements behind their lengths are taken as they are, empty ones too, and refused by number if they do not fit', () => {
  const attempt = (count: number, wire: Buffer) => {
    const { body, jsonBytes } = behind([binaryTensor('x', 'BYTES', [count], wire.length)], wire)
    return body.length < 500 ? cutAnywhere(body, texts, { jsonBytes }) : outcomeOf(body, texts, { jsonBytes })
  }
  const many = Array.from({ length: 1_000 }, (_, i) => (i % 300 === 299 ? `${i}ü` : ''))
  assert.deepStrictEqual(valuesIn(attempt(1_000, byteStrings(...many))), [many])
  assert.deepStrictEqual(valuesIn(attempt(2, byteStrings('', ''))), [['', '']])
  const long = ['x'.repeat(70_000), '', '字'.repeat(70_000)]
  assert.deepStrictEqual(valuesIn(attempt(3, byteStrings(...long))), [long])
  const refused = (count: number, wire: Buffer, what: string) =>
    assert.equal(attempt(count, wire), `invalid: input "x": ${what}`)
  refused(2, byteStrings(''), 'its binary data holds 4 bytes, which are too few for its shape')
  refused(2, byteStrings('aaaa'), 'its binary data holds 1 BYTES elements but its shape needs 2')
  refused(1, Buffer.alloc(0), 'its binary data holds 0 bytes, which are too few for its shape')
  refused(1, byteStrings('', ''), 'its binary data holds more BYTES elements but its shape needs 1')
  refused(2, byteStrings('', 'abc').subarray(0, -1), 'BYTES element 1 is cut short')
  refused(2, Buffer.concat([byteStrings('a'), Buffer.of(0, 0, 0)]), 'BYTES element 1 is cut short')
  refused(2, Buffer.concat([byteStrings('a'), Buffer.alloc(4, 0xff)]), 'BYTES element 1 is cut short')
  refused(2, byteStrings('a', 'b\0'), 'BYTES element 1 holds a NUL character, where ONNX Runtime would cut it')
  // UTF-8 together only.
  refused(
    2,
    byteStrings(Buffer.of(0xc3), Buffer.of(0xbc)),
    'BYTES element 0 is not UTF-8, which is all that a model can take',
  )
})

test('the raw form of a string is the body, and it must be a string', () => {
  const raw = (body: Buffer) => cutAnywhere(body, texts, { jsonBytes: 0 })
  assert.deepStrictEqual(valuesIn(raw(Buffer.from('grüße 😀'))), [['grüße 😀']])
  assert.equal(
    raw(Buffer.of(0xc3, 0x28)),
    'invalid: input "x": the body is not UTF-8, which is all that a model can take',
  )
  assert.match(raw(Buffer.from('a\0')) as string, /holds a NUL character/)
  assert.match(
    cutAnywhere(Buffer.from('ab'), contractOf('BYTES', ['n', 2]), { jsonBytes: 0 }) as string,
    /its shape needs more/,
  )
  assert.match(cutAnywhere(Buffer.from('ab'), pair, { jsonBytes: 0 }) as string, /one input only/)
})
