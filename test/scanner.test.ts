/** The scanner against `JSON.parse` and the rules for storing, on documents that are generated, and then broken. */
import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import { test } from 'node:test'
import type { InferRequest } from '../src/core/call.ts'
import { numerics, type Datatype, type NumericArray } from '../src/core/datatype.ts'
import { isRefusal, type Refusal } from '../src/core/refusal.ts'
import type { Signature } from '../src/core/signature.ts'
import { bytesOf, stringAt, stringCount, type Strings } from '../src/core/tensor.ts'
import { decode, decodeOptions, scan } from './support/decoding.ts'
import { seeded } from './support/draw.ts'

const draw = seeded(20_261_122)
const below = (limit: number): number => Math.floor(draw() * limit)
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)]!
const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make)

const oddNumbers = (
  '-0 0 -0.0 0e0 -0E-0 1e-400 -1e-400 1E+5 0.1e1 01 -01 00 1. .5 -.5 -  + +1 1e 1e+ 1e- 0x1 1.e1 1_0 1e999 -1e999 1e39' +
  ' 3.4028235e38 3.4028235677973366e38 3.4028235677973365e38 3.5e38 1e-45 7.006492321624085e-46 7.006492321624086e-46' +
  ' 1.401298464324817e-45 5e-324 2.4703282292062327e-324 2.4703282292062328e-324 1.7976931348623159e308 1e22 1e23 1e-22' +
  ' 9007199254740991 9007199254740992 9007199254740993 9007199254740993.0 90071992547409.93e2 9223372036854775807' +
  ' 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616 1e3 7.0' +
  ' 12345678901234567e2 4294967295 4294967296 999999999 1000000000 0.000000000000000000000001 16777217 16777217.000000001' +
  ' 1.00000017881393421514957253748434595763683319091796875 1.00000017881393432617187499 1.00000017881393432617187501' +
  ' NaN Infinity -Infinity null true false "1" [1] {}'
).split(' ')

const bits = new DataView(new ArrayBuffer(8))
function randomBits(): DataView {
  bits.setUint32(0, below(2 ** 32))
  bits.setUint32(4, below(2 ** 32))
  return bits
}

/** The shortest form of a random double or float32 as a double; or of one whose bits are near a float32's middle. */
function printed(): string {
  const kind = below(4)
  if (kind === 0) return String(randomBits().getFloat64(0))
  if (kind === 1) return String(randomBits().getFloat32(0))
  if (kind === 2) return String(Math.fround(draw() * 2 - 1))
  // Half way between two float32, and one unit of a double beside.
  const middle = randomBits()
  const low = oneOf([0x0f_ff_ff_ff, 0x10_00_00_00, 0x10_00_00_01])
  middle.setUint32(4, low)
  middle.setUint32(0, ((1023 - 20 + below(40)) << 20) | (below(2 ** 20) & ~1))
  return String(middle.getFloat64(0))
}

function digits(most: number): string {
  return times(1 + below(most), () => below(10)).join('')
}

function number(): string {
  const kind = below(10)
  if (kind === 0) return oneOf(oddNumbers)
  if (kind <= 3) return printed()
  if (kind === 4) return `${oneOf(['', '-'])}${digits(40)}.${digits(40)}${oneOf(['', '', `e${below(80) - 40}`])}`
  if (kind === 5) return `${oneOf(['', '-'])}${digits(22)}${oneOf(['', `e${oneOf(['', '+', '-'])}${below(40)}`])}`
  if (kind === 6) return String(below(600) - 200)
  if (kind === 7) return `0.${'0'.repeat(below(30))}${digits(25)}`
  return (draw() * 200 - 100).toFixed(below(12))
}

const space = (): string => oneOf(['', '', '', '', ' ', '\n\t', '\r '])
const words = [
  '',
  'a',
  'key',
  'ü',
  '😀',
  '\\n',
  '\\u00e9',
  '\\ud83d\\ude00',
  '\\ud800',
  '\\"',
  '\\/',
  'long'.repeat(20),
]
const string = (): string => `"${times(below(3), () => oneOf(words)).join('')}"`

function value(depth: number): string {
  const kind = below(depth > 3 ? 4 : 7)
  if (kind === 0) return oneOf(['true', 'false', 'null'])
  if (kind <= 2) return number()
  if (kind === 3) return string()
  const parts = times(below(5), () => `${space()}${value(depth + 1)}${space()}`)
  if (kind === 4) return `[${parts.join()}]`
  return `{${parts.map((part, i) => `${space()}"k${below(50) === 0 ? '' : i}"${space()}:${part}`).join()}}`
}

const inserted = '{ } [ ] " , : - + . e E 0 1 5 9 \n \t \\ / u t f n N \u0000 \u0001 ü'.split(' ')

function broken(text: string): Buffer {
  const bytes = Buffer.from(text)
  const at = below(bytes.byteLength + 1)
  const kind = below(4)
  if (kind === 0) return bytes.subarray(0, at)
  if (kind === 1) return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + below(3))])
  if (kind === 2) return Buffer.concat([bytes.subarray(0, at), Buffer.from(oneOf(inserted)), bytes.subarray(at)])
  if (at < bytes.byteLength) bytes[at]! ^= 1 << below(7)
  return bytes
}

function tried<T>(run: () => T): { readonly value: T } | { readonly error: Error } {
  try {
    return { value: run() }
  } catch (error) {
    return { error: error as Error }
  }
}

/** Up to five places at which a body is cut; every byte of a short one now and then. */
function cutsOf(bytes: Buffer): number[] {
  if (bytes.length < 200 && below(8) === 0)
    return Array.from({ length: Math.max(0, bytes.length - 1) }, (_, i) => i + 1)
  return times(below(6), () => below(bytes.length + 1)).toSorted((a, b) => a - b)
}

test('the scanner takes what JSON.parse takes and finds the same in it, in 60,000 documents', () => {
  let taken = 0
  let stricter = 0
  for (let i = 0; i < 60_000; i++) {
    const text = `${space()}${value(0)}${space()}`
    const bytes = i % 2 === 0 ? Buffer.from(text) : broken(text)
    if (!isUtf8(bytes)) continue
    const expected = tried(() => JSON.parse(bytes.toString()) as unknown)
    const got = scan(bytes)
    const cuts = cutsOf(bytes)
    assert.deepStrictEqual(scan(bytes, cuts), got, `${JSON.stringify(bytes.toString())} cut at ${cuts.join()}`)
    if (isRefusal(got)) {
      const at = Number(/at byte (\d+)$/.exec(got.message)![1])
      assert.ok(at <= bytes.byteLength)
      if (/same key/.test(got.message)) stricter++
      else assert.ok('error' in expected, `${bytes.toString()} is refused: ${got.message}`)
    } else {
      assert.ok('value' in expected, `${bytes.toString()} is taken`)
      assert.deepStrictEqual(got.value, expected.value, bytes.toString())
      taken++
    }
  }
  assert.ok(taken > 15_000 && stricter < 3_000, `${taken} taken, ${stricter} refused for a key`)
})

const datatypes = [...Object.keys(numerics).filter((type) => type !== 'FP16'), 'BYTES'] as Datatype[]

function contractOf(datatype: Datatype): Signature {
  return { inputs: [{ name: 'x', datatype, shape: ['n'] }], outputs: [{ name: 'y', datatype, shape: ['n'] }] }
}
const contracts = new Map(datatypes.map((datatype) => [datatype, contractOf(datatype)]))

const isBig = (datatype: Datatype): boolean => datatype === 'INT64' || datatype === 'UINT64'

/** What the elements come to by `JSON.parse` and a store into the array; undefined if they must be refused. */
function stored(datatype: Datatype, text: string): NumericArray | string[] | undefined {
  const exactly = (_: string, each: unknown, context?: { source?: string }): unknown =>
    isBig(datatype) && typeof each === 'number' && /^-?\d+$/.test(context!.source!) ? BigInt(context!.source!) : each
  const parsed = tried(() => JSON.parse(text, exactly) as unknown[])
  if ('error' in parsed) return undefined
  const list = parsed.value
  if (datatype === 'BYTES') {
    const good = list.every((each) => typeof each === 'string' && each.isWellFormed() && !each.includes('\0'))
    return good ? (list as string[]) : undefined
  }
  const { array, float, min, max } = numerics[datatype]
  const data = new array(list.length)
  for (const [i, each] of list.entries()) {
    if (datatype === 'BOOL' ? typeof each !== 'boolean' : typeof each !== 'number' && typeof each !== 'bigint') return
    if (isBig(datatype) && typeof each === 'number' && !Number.isSafeInteger(each)) return
    if (!float && datatype !== 'BOOL' && typeof each === 'number' && !Number.isInteger(each)) return
    if (!float && ((each as number) < min || (each as number) > max)) return
    data[i] = isBig(datatype) ? BigInt(each as number) : Number(each)
    if (float && !Number.isFinite(data[i])) return
  }
  return data
}

function element(datatype: Datatype): string {
  if (below(60) === 0) return value(4)
  if (datatype === 'BYTES') return string()
  if (datatype === 'BOOL') return oneOf(['true', 'false'])
  if (datatype === 'FP32' || datatype === 'FP64' || below(8) === 0) return number()
  const { min, max } = numerics[datatype]
  const ends = [min, max, min - 1n, max + 1n, 0n, 7n].map(String)
  return below(6) === 0 ? oneOf(ends) : String(below(Math.min(Number(max), 2 ** 53)))
}

/** What is left of a request once its memory is used for another. */
function copyOf(got: InferRequest | Refusal): unknown {
  return isRefusal(got) ? got : structuredClone({ ...got, inputs: got.inputs.map(({ data }) => data) })
}

test('tensor data comes to the same bits as by JSON.parse and a store, in 60,000 requests', () => {
  let taken = 0
  for (let i = 0; i < 60_000; i++) {
    const datatype = oneOf(datatypes)
    const count = 1 + below(4)
    const list = times(count, () => `${space()}${element(datatype)}${space()}`)
    const data = below(4) === 0 ? broken(`[${list.join()}]`).toString() : `[${list.join()}]`
    const head = `"name":"x","datatype":"${datatype}","shape":[${count}]`
    const body = `{"inputs":[{${below(3) === 0 ? `"data":${data},${head}` : `${head},"data":${data}`}}]}`
    const expected = stored(datatype, data)
    const fits = expected?.length === count
    const bytes = Buffer.from(body)
    const contract = contracts.get(datatype)!
    const cuts = cutsOf(bytes)
    const cut = copyOf(decode(bytes, contract, { cuts }))
    const got = decode(bytes, contract)
    assert.deepStrictEqual(cut, copyOf(got), `${JSON.stringify(body)} cut at ${cuts.join()}`)
    if (isRefusal(got) === fits) assert.fail(`${body}: ${isRefusal(got) ? got.message : 'taken'}`)
    if (isRefusal(got)) continue
    taken++
    const tensor = got.inputs[0]!.data
    if (datatype !== 'BYTES') {
      const wanted = Buffer.from(bytesOf(expected as NumericArray))
      assert.ok(wanted.equals(bytesOf(tensor as NumericArray)), `${body} becomes ${(tensor as NumericArray).join()}`)
    } else {
      const strings = tensor as Strings
      const texts = times(stringCount(strings), () => '').map((_, at) => Buffer.from(stringAt(strings, at)).toString())
      assert.deepStrictEqual(texts, expected)
    }
  }
  assert.ok(taken > 25_000, `${taken} taken`)
})

test('a million floats come to the same bits as by Number', () => {
  const single = new Float32Array(1)
  const many = { ...decodeOptions, tensors: { ...decodeOptions.tensors, maxRows: 5_000 } }
  for (let i = 0; i < 100; i++) {
    const texts = times(5_000, () => (below(4) === 0 ? (draw() * 200 - 100).toFixed(below(20)) : printed())).filter(
      (text) => !/[NI]/.test(text) && Number.isFinite(Math.fround(Number(text))),
    )
    for (const datatype of ['FP32', 'FP64'] as const) {
      const head = `"name":"x","datatype":"${datatype}","shape":[${texts.length}]`
      const bytes = Buffer.from(`{"inputs":[{${head},"data":[${texts.join()}]}]}`)
      const got = decode(bytes, contracts.get(datatype)!, { cuts: i % 2 === 0 ? [] : cutsOf(bytes), options: many })
      assert.ok(!isRefusal(got), JSON.stringify(got))
      const data = got.inputs[0]!.data as Float32Array
      for (const [at, text] of texts.entries()) {
        single[0] = Number(text)
        const wanted = datatype === 'FP32' ? single[0] : Number(text)
        if (!Object.is(data[at], wanted)) assert.fail(`${text} as ${datatype} becomes ${data[at]}`)
      }
    }
  }
})

const good = '"name":"x","datatype":"FP32","shape":[2]'
const refusals: [body: string, message: string][] = [
  ['', 'the body is not JSON: it ends too early, at byte 0'],
  ['{"inputs":[', 'the body is not JSON: it ends too early, at byte 11'],
  ['{"inputs":[1 2]}', 'the body is not JSON: a comma or a closing bracket is missing, at byte 13'],
  ['{"inputs":[01]}', 'the body is not JSON: a value is missing or misspelt, at byte 11'],
  ['{"ü":.5}', 'the body is not JSON: a value is missing or misspelt, at byte 6'],
  ['{"id":"\\x"}', 'the body is not JSON: a string has an escape that does not exist, at byte 7'],
  ['{} {}', 'the body is not JSON: nothing may follow its end, at byte 3'],
  ['{"id":"1","id":"2"}', 'the body is not JSON as it is taken here: an object has the same key twice, at byte 10'],
  [
    '{"parameters":{"a":1,"\\u0061":1}}',
    'the body is not JSON as it is taken here: an object has the same key twice, at byte 21',
  ],
  ['{"__proto__":{}}', 'the body is not JSON as it is taken here: the key "__proto__" is not taken, at byte 1'],
  [
    `{"a":${'['.repeat(32)}${']'.repeat(32)}}`,
    'the body is not JSON as it is taken here: it nests deeper than 32, at byte 36',
  ],
  [
    `{"inputs":[{${good},"data":[1,NaN]}]}`,
    'the body is not JSON: NaN and Infinity have no form in it, send such tensors as binary data, at byte 63, in the data' +
      ' of input "x"',
  ],
]

test('what is wrong with a body is said with the byte at which it is', () => {
  for (const [body, message] of refusals) {
    const got = decode(Buffer.from(body), contracts.get('FP32')!)
    assert.ok(isRefusal(got))
    assert.equal(got.message, message)
  }
  const deepest = `${'['.repeat(32)}${']'.repeat(32)}`
  assert.deepEqual(scan(Buffer.from(deepest)), { value: JSON.parse(deepest) })
})

test('a key that objects have anyway is a key like others', () => {
  const text = '{"constructor":1,"toString":2,"hasOwnProperty":3}'
  assert.deepEqual(scan(Buffer.from(text)), { value: JSON.parse(text) })
})
