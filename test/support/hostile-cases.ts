/**
 * Requests that are wrong, each with the refusal that it must get, whatever protocol it comes by. The tests send each of
 * them once over every protocol; the bench sends them again and again, and looks at what it does to others.
 */
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { byteStrings } from './client.ts'
import { tensor } from './gateway.ts'
import { identity, onnx } from './onnx.ts'
import type { Sent } from './protocols.ts'

export interface HostileCase {
  readonly name: string
  readonly sent: Sent
  /** The status, and the code in the body. */
  readonly refusal: readonly [status: number, code: string]
}

export const maxBodyBytes = 1_200_000

export const hostileSettings = {
  edge: { body: { maxBytes: maxBodyBytes, maxInflatedBytes: 4_000_000 } },
  runtime: { executors: 1 },
}

export const hostileStore = {
  'echo.onnx': identity('FP32', ['n', 2]),
  'wide.onnx': identity('INT64', ['n', 'w']),
  'small.onnx': identity('UINT8', ['n']),
  'flag.onnx': identity('BOOL', ['n']),
  'words.onnx': identity('BYTES', ['n']),
  'half.onnx': identity('FP16', ['n']),
  'pair.onnx': onnx({
    inputs: [
      { name: 'a', type: 'INT64', shape: ['n', 'len'] },
      { name: 'b', type: 'INT64', shape: ['n', 'len'] },
    ],
    outputs: [{ name: 'sum', type: 'INT64', shape: ['n', 'len'] }],
    nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['sum'] }],
  }),
}

const invalid = [400, 'invalid'] as const
const tooLarge = [413, 'too_large'] as const
const unsupported = [415, 'unsupported_media'] as const
const notFound = [404, 'not_found'] as const

const asJson = { 'content-type': 'application/json' }

/** What the neighbours send, who must not notice. */
export const goodRequest: Sent = infer('echo', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, -2])] }))

function infer(model: string, body: Sent['body'], headers: Readonly<Record<string, string>> = {}): Sent {
  return { path: `/v2/models/${model}/infer`, body: body!, headers: { ...asJson, ...headers } }
}

function bodies(
  model: string,
  refusal: HostileCase['refusal'],
  cases: Readonly<Record<string, string>>,
): HostileCase[] {
  return Object.entries(cases).map(([name, body]) => ({ name, sent: infer(model, body), refusal }))
}

const x = (data: string, shape = '[1,2]') =>
  `{"inputs":[{"name":"x","datatype":"FP32","shape":${shape},"data":${data}}]}`
const of = (datatype: string, data: string, shape: string) =>
  `{"inputs":[{"name":"x","datatype":"${datatype}","shape":${shape},"data":${data}}]}`
const good = x('[1,2]')
const deep = '['.repeat(450_000) + ']'.repeat(450_000)

const malformed = bodies('echo', invalid, {
  nothing: '',
  'white space': ' \n\t ',
  'an opening brace': '{',
  'a cut key': '{"inp',
  'a cut list': '{"inputs":[',
  'a cut number': x('[1,2').slice(0, -4),
  'a missing last brace': good.slice(0, -1),
  'a comma behind the end': `${good},`,
  'two documents': good + good,
  'a byte order mark': `\uFEFF${good}`,
  'single quotes': "{'inputs':[]}",
  'a key without quotes': '{inputs:[]}',
  'a trailing comma in a list': '{"inputs":[1,]}',
  'a trailing comma in data': x('[1,2,]'),
  'a trailing comma in an object': '{"inputs":[],}',
  'two commas in data': x('[1,,2]'),
  'no comma in data': x('[1 2]'),
  'a comment': `/* why */${good}`,
  'a leading zero': x('[01,2]'),
  'a plus': x('[+1,2]'),
  'a point without digits before': x('[.5,2]'),
  'a point without digits behind': x('[1.,2]'),
  'an exponent without digits': x('[1e,2]'),
  'a hexadecimal number': x('[0x1,2]'),
  'a misspelt literal in data': x('[tru,2]'),
  'a control character in a string': '{"id":"\u0001"}',
  'an escape that does not exist': '{"id":"\\x41"}',
  'half an escape': '{"id":"\\u12"}',
  'a NUL': '\u0000',
  'a word': 'undefined',
  'nesting of a million': '['.repeat(1_000_000),
  'nesting of 450,000 that ends': deep,
  'nesting in inputs': `{"inputs":${deep}}`,
  'nesting in data': x(deep),
  'nesting in parameters': `{"parameters":{"a":${deep}},"inputs":[]}`,
  'objects nested without end': '{"a":'.repeat(150_000),
  'a key twice': '{"inputs":[],"inputs":[]}',
  'a key twice, once escaped': '{"parameters":{"a":1,"\\u0061":1},"inputs":[]}',
  'a shape twice': '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"shape":[2,1],"data":[1,2]}]}',
  __proto__: `{"__proto__":{"inputs":[]},${good.slice(1)}`,
  '__proto__ in an input': '{"inputs":[{"__proto__":1,"name":"x"}]}',
  '__proto__, escaped': '{"\\u005f_proto__":{}}',
  'more keys than there could be a use for': `{"parameters":{${Array.from({ length: 60_000 }, (_, i) => `"k${i}":1`).join()}}}`,
  'a number of a megabyte': x(`[${'1'.repeat(900_000)},2]`),
  'a number of a megabyte as an id': `{"id":${'1'.repeat(900_000)}}`,
  'a fraction of a megabyte': x(`[0.${'3'.repeat(900_000)},2]`),
})

const noRequest = bodies('echo', invalid, {
  'a list': '[]',
  'a number': '1',
  null: 'null',
  'a string': '"text"',
  'no inputs': '{}',
  'inputs as an object': '{"inputs":{}}',
  'inputs as null': '{"inputs":null}',
  'an input that is null': '{"inputs":[null]}',
  'an input that is a list': '{"inputs":[[]]}',
  'an input without a name': '{"inputs":[{"datatype":"FP32","shape":[1,2],"data":[1,2]}]}',
  'an input that there is not': '{"inputs":[{"name":"z","datatype":"FP32","shape":[1,2],"data":[1,2]}]}',
  'an input named __proto__': '{"inputs":[{"name":"__proto__","datatype":"FP32","shape":[1,2],"data":[1,2]}]}',
  'an input of an endless name': `{"inputs":[{"name":"${'n'.repeat(500_000)}","datatype":"FP32","shape":[1,2],"data":[1,2]}]}`,
  'an input twice': `{"inputs":[${good.slice(11, -2)},${good.slice(11, -2)}]}`,
  'an input without data': '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]}',
  'no input at all': '{"inputs":[]}',
  'another datatype': of('FP64', '[1,2]', '[1,2]'),
  'a datatype that there is not': of('FP31', '[1,2]', '[1,2]'),
  'an output that there is not': `${good.slice(0, -1)},"outputs":[{"name":"z"}]}`,
  'an output twice': `${good.slice(0, -1)},"outputs":[{"name":"y"},{"name":"y"}]}`,
  'an id that is a number': `{"id":7,${good.slice(1)}`,
  'parameters as a list': `{"parameters":[],${good.slice(1)}`,
  'a reserved parameter': `{"parameters":{"triton_x":1},${good.slice(1)}`,
  'a sequence': `{"parameters":{"sequence_id":1},${good.slice(1)}`,
  'shared memory':
    '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"shared_memory_region":"r"}}]}',
})

const shapes = bodies('echo', invalid, {
  'a negative dimension': x('[1,2]', '[-1,2]'),
  'a dimension of zero': x('[]', '[0,2]'),
  'half a dimension': x('[1,2]', '[1.5,2]'),
  'a dimension in quotes': x('[1,2]', '["1",2]'),
  'a dimension of 1e300': x('[1,2]', '[1e300,2]'),
  'a dimension of 2^63': x('[1,2]', '[9223372036854775808,2]'),
  'a shape in quotes': x('[1,2]', '"1,2"'),
  'a shape of another rank': x('[1,2]', '[2]'),
  'too few elements': x('[1]'),
  'too many elements': x('[1,2,3]'),
  'far too many elements': x(`[${'1,'.repeat(400_000)}1]`),
  'ragged data': x('[[1,2],[3]]', '[2,2]'),
  'data nested too deep': x('[[[1],2]]'),
  'data that is a string': x('"1,2"'),
  'data that is an object': x('{"0":1}'),
})

const overLimits: HostileCase[] = [
  ...bodies('echo', tooLarge, {
    'more rows than are taken': x('[1,2]', '[1000000,2]'),
    'a shape whose product overflows': x('[1,2]', '[4503599627370496,2]'),
    'a shape of a thousand dimensions': x('[1,2]', `[${'2,'.repeat(999)}2]`),
  }),
  ...bodies('wide', tooLarge, { 'more elements than are taken': of('INT64', '[1]', '[1,5000000]') }),
  { name: 'a body over the limit', sent: infer('echo', good.padEnd(maxBodyBytes + 1)), refusal: tooLarge },
  {
    name: 'a body over the limit that does not say so',
    sent: infer('echo', [Buffer.from(good), ...Array.from({ length: 21 }, () => Buffer.alloc(60_000, 0x20))]),
    refusal: tooLarge,
  },
]

const elements: HostileCase[] = [
  ...bodies('echo', invalid, {
    '1e999': x('[1e999,2]'),
    '1e39 into FP32': x('[1e39,2]'),
    '-1e39 into FP32': x('[1,-1e39]'),
    NaN: x('[NaN,2]'),
    '-Infinity': x('[-Infinity,2]'),
    'null among numbers': x('[null,2]'),
    'a string among numbers': x('["1",2]'),
    'true among numbers': x('[true,2]'),
  }),
  ...bodies('wide', invalid, {
    'a whole number beyond 64 bits': of('INT64', '[9223372036854775808]', '[1,1]'),
    'a whole number far beyond 64 bits': of('INT64', `[${'9'.repeat(2_000)}]`, '[1,1]'),
    'a fraction as INT64': of('INT64', '[1.5]', '[1,1]'),
    'an unsafe double as INT64': of('INT64', '[1e19]', '[1,1]'),
    '2^53 + 1 as a double': of('INT64', '[9007199254740993.0]', '[1,1]'),
  }),
  ...bodies('small', invalid, {
    '256 as UINT8': of('UINT8', '[256]', '[1]'),
    '-1 as UINT8': of('UINT8', '[-1]', '[1]'),
    '2^32 as UINT8': of('UINT8', '[4294967296]', '[1]'),
  }),
  ...bodies('flag', invalid, {
    '1 as BOOL': of('BOOL', '[1]', '[1]'),
    '"true" as BOOL': of('BOOL', '["true"]', '[1]'),
  }),
  ...bodies('half', invalid, { 'FP16 in JSON': of('FP16', '[1]', '[1]') }),
  ...bodies('words', invalid, {
    'a number as a string': of('BYTES', '[1]', '[1]'),
    'half a surrogate pair': of('BYTES', '["\\ud800"]', '[1]'),
    'a NUL in a string': of('BYTES', '["a\\u0000b"]', '[1]'),
  }),
  {
    name: 'bytes that are not UTF-8 in a string',
    sent: infer('words', Buffer.from(of('BYTES', '["?"]', '[1]').replace('?', '\u00ff'), 'latin1')),
    refusal: invalid,
  },
  { name: 'UTF-16', sent: infer('echo', Buffer.from(good, 'utf16le')), refusal: invalid },
  ...bodies('pair', invalid, {
    'inputs of different sizes':
      '{"inputs":[{"name":"a","datatype":"INT64","shape":[1,2],"data":[1,2]},{"name":"b","datatype":"INT64","shape":[1,1],"data":[1]}]}',
  }),
]

const binaryInput = (size: number, shape = '[1,2]') =>
  `{"inputs":[{"name":"x","datatype":"FP32","shape":${shape},"parameters":{"binary_data_size":${size}}}]}`

function binary(
  name: string,
  json: string,
  tail: number | Buffer,
  jsonBytes: string = String(json.length),
): HostileCase {
  const body = Buffer.concat([Buffer.from(json), typeof tail === 'number' ? Buffer.alloc(tail) : tail])
  const headers = { 'content-type': 'application/octet-stream', 'inference-header-content-length': jsonBytes }
  return { name, sent: infer('echo', body, headers), refusal: invalid }
}

const binaries: HostileCase[] = [
  binary('binary data that is missing', binaryInput(8), 0),
  binary('binary data that is cut', binaryInput(8), 7),
  binary('binary data that nobody claims', binaryInput(8), 9),
  binary('binary data of another size than its shape', binaryInput(12), 12),
  binary('binary data of 2^53 bytes', binaryInput(2 ** 53), 8),
  binary('binary data of -8 bytes', binaryInput(-8), 8),
  binary('binary data and JSON data', x('[1,2],"parameters":{"binary_data_size":8}'), 8),
  binary('a header length that is longer than the body', binaryInput(8), 8, '5000'),
  binary('a header length that cuts the JSON', binaryInput(8), 8, '20'),
  binary('a header length in words', binaryInput(8), 8, 'many'),
  binary('a negative header length', binaryInput(8), 8, '-1'),
  binary('a header length of 20 digits', binaryInput(8), 8, '9'.repeat(20)),
  binary('a raw body of the wrong size', '', 7, '0'),
  {
    name: 'a string that is longer than all there is',
    sent: infer(
      'words',
      Buffer.concat([
        Buffer.from('{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":8}}]}'),
        Buffer.of(0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4),
      ]),
      { 'inference-header-content-length': '92' },
    ),
    refusal: invalid,
  },
  {
    name: 'a raw body of two inputs',
    sent: infer('pair', byteStrings('x'), { 'inference-header-content-length': '0' }),
    refusal: invalid,
  },
]

const huge = Buffer.from(good.padEnd(8_000_000))

function compressed(name: string, encoding: string, body: Uint8Array, refusal: HostileCase['refusal']): HostileCase {
  return { name, sent: infer('echo', body, { 'content-encoding': encoding }), refusal }
}

const bombs: HostileCase[] = [
  compressed('a gzip bomb', 'gzip', gzipSync(huge), tooLarge),
  compressed('a deflate bomb', 'deflate', deflateSync(huge), tooLarge),
  compressed('a zstd bomb', 'zstd', zstdCompressSync(huge), tooLarge),
  compressed('a gzip bomb in a bomb', 'gzip', gzipSync(gzipSync(huge)), invalid),
  compressed('a bomb by its ratio', 'gzip', gzipSync(good.padEnd(3_000_000)), tooLarge),
  compressed('gzip that is none', 'gzip', Buffer.from(good), invalid),
  compressed('gzip that is cut', 'gzip', gzipSync(good).subarray(0, -5), invalid),
  compressed('gzip with a wrong checksum', 'gzip', corrupted(gzipSync(good)), invalid),
  compressed('zstd that is none', 'zstd', Buffer.from(good), invalid),
  compressed('zstd that is cut', 'zstd', zstdCompressSync(good).subarray(0, -3), invalid),
  compressed('an empty gzip', 'gzip', Buffer.alloc(0), invalid),
  compressed('an encoding twice', 'gzip, gzip', gzipSync(gzipSync(good)), unsupported),
  compressed('an encoding that is not spoken', 'br', Buffer.from(good), unsupported),
]

function corrupted(bytes: Buffer): Buffer {
  bytes[bytes.length - 6]! ^= 1
  return bytes
}

const heads: HostileCase[] = [
  {
    name: 'a form',
    sent: infer('echo', good, { 'content-type': 'application/x-www-form-urlencoded' }),
    refusal: unsupported,
  },
  {
    name: 'a charset',
    sent: infer('echo', good, { 'content-type': 'application/json; charset=utf-16' }),
    refusal: unsupported,
  },
  {
    name: 'an Accept that nothing fits',
    sent: infer('echo', good, { accept: 'text/html' }),
    refusal: [406, 'not_acceptable'],
  },
  { name: 'a model that there is not', sent: infer('nobody', good), refusal: notFound },
  { name: 'a version that there is not', sent: infer('echo/versions/9', good), refusal: notFound },
  { name: 'a model named __proto__', sent: infer('__proto__', good), refusal: notFound },
  { name: 'a model with a slash in its name', sent: infer('a%2Fecho', good), refusal: notFound },
  { name: 'a model with a broken escape', sent: infer('%E0%A4%A', good), refusal: notFound },
  {
    name: 'a path that climbs',
    sent: { ...infer('echo', good), path: '/v2/models/../../etc/passwd' },
    refusal: notFound,
  },
  { name: 'a path of 8 KB', sent: { path: `/v2/models/${'a'.repeat(8_000)}` }, refusal: notFound },
  { name: 'a path that is none', sent: { path: '/' }, refusal: notFound },
  { name: 'a method that is not taken', sent: { ...goodRequest, method: 'PUT' }, refusal: [405, 'method_not_allowed'] },
  {
    name: 'a body where none is taken',
    sent: { method: 'GET', path: '/nope', body: 'x'.repeat(60_000) },
    refusal: notFound,
  },
]

export const hostileCases: readonly HostileCase[] = [
  ...malformed,
  ...noRequest,
  ...shapes,
  ...overLimits,
  ...elements,
  ...binaries,
  ...bombs,
  ...heads,
]
