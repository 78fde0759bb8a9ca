/** Compressed bodies, their limits, and compressed answers. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, deflateSync, gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { binaryTensor, edgeWith, samples, until, wholeFile, withBinary } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import {
  openClient,
  overHttp1,
  protocols,
  startEverywhere,
  type Client,
  type Got,
  type Protocol,
} from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const maxInflatedBytes = 1_200_000
const store = { 'echo.onnx': identity('FP32', ['n', 'w']) }
// Answers vary by origin too, which must not get lost.
const edge = { body: { maxInflatedBytes }, cors: { origins: ['https://app.example.com'] } }
const everywhere = await startEverywhere(wholeFile, { store, settings: { edge } })

/** With a checksum, which zstd can do without. */
const zstd = (bytes: string | Uint8Array) => zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })
const encoders = { gzip: gzipSync, deflate: deflateSync, zstd }
type Encoding = keyof typeof encoders
const encodings = Object.keys(encoders) as Encoding[]

const path = '/v2/models/echo/infer'
const numbers = Array.from({ length: 1_000 }, (_, i) => i + 0.5)
const request = { inputs: [tensor('x', 'FP32', [2, 500], numbers)] }
const json = JSON.stringify(request)
const draw = drawFrom(5)
/** Four kinds of white space at random: JSON does not mind it behind its end, and it shrinks to a quarter at best. */
const noise = Buffer.from(Array.from({ length: maxInflatedBytes + 1 }, () => ' \t\n\r'.charCodeAt(draw(4))))

type Run = (client: Client, protocol: Protocol) => Promise<void>

/** Makes one test for each protocol. */
function everyProtocol(name: string, run: Run): void {
  for (const protocol of protocols)
    test(`${name}, over ${protocol}`, (t) => run(everywhere.open(t, protocol), protocol))
}

function padded(bytes: number, spaces: Uint8Array = noise): Buffer {
  return Buffer.concat([Buffer.from(json), spaces.subarray(0, bytes - json.length)])
}

function infer(client: Client, body: string | Uint8Array | readonly Uint8Array[], headers: Record<string, string>) {
  return client.send({ path, body, headers })
}

function cut(bytes: Uint8Array, size: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
}

function refused({ status, json: said }: Got, code: string, what: string): void {
  const expected = { invalid: 400, too_large: 413, unsupported_media: 415 }[code]
  assert.deepEqual([status, said.code], [expected, code], what)
}

everyProtocol('a compressed body means what it means uncompressed, in one piece or in many', async (client) => {
  const expected = (await infer(client, json, {})).json
  assert.deepEqual(expected.outputs[0].data, numbers)
  for (const encoding of encodings) {
    const bytes = encoders[encoding](json)
    const headers = { 'content-encoding': encoding, 'content-type': 'application/json' }
    for (const body of [bytes, cut(bytes, 100), cut(bytes.subarray(0, 40), 1).concat(bytes.subarray(40))])
      assert.deepEqual((await infer(client, body, headers)).json, expected, `${encoding} ${body.length}`)
  }
  for (const [name, bytes] of [
    ['identity', json],
    ['GZIP', gzipSync(json)],
    ['x-gzip', gzipSync(json)],
  ] as const)
    assert.deepEqual((await infer(client, bytes, { 'content-encoding': name })).json, expected, name)
})

everyProtocol('the JSON of a compressed body with binary tensors is counted as it was before', async (client) => {
  const floats = Float32Array.from(numbers)
  const inputs = [binaryTensor('x', 'FP32', [2, 500], floats.byteLength)]
  const { body, headers } = withBinary({ inputs }, floats)
  for (const encoding of encodings) {
    const bytes = encoders[encoding](body)
    for (const pieces of [bytes, cut(bytes, 333)]) {
      const got = await infer(client, pieces, { ...headers, 'content-encoding': encoding })
      assert.deepEqual(got.json.outputs?.[0].data, numbers, encoding)
    }
    const beyond = { ...headers, 'inference-header-content-length': `${body.length + 1}` }
    refused(await infer(client, bytes, { ...beyond, 'content-encoding': encoding }), 'invalid', encoding)
    const raw = { 'inference-header-content-length': '0', 'content-encoding': encoding }
    const bare = new Uint8Array(floats.buffer)
    assert.equal((await infer(client, encoders[encoding](bare), raw)).status, 200, encoding)
    refused(await infer(client, encoders[encoding](bare.subarray(1)), raw), 'invalid', encoding)
  }
})

everyProtocol('a body in several members of gzip or frames of zstd is one body', async (client) => {
  for (const encoding of ['gzip', 'zstd'] as const) {
    const bytes = Buffer.concat([json.slice(0, 700), json.slice(700)].map((half) => encoders[encoding](half)))
    const got = await infer(client, bytes, { 'content-encoding': encoding })
    assert.deepEqual(got.json.outputs?.[0].data, numbers, encoding)
  }
})

everyProtocol('a body that is not what it says, or not all of it, is refused', async (client) => {
  for (const encoding of encodings) {
    const bytes = encoders[encoding](json)
    const broken = Buffer.from(bytes)
    broken.fill(0xff, 60, 90)
    const others = encodings.filter((each) => each !== encoding).map((each) => encoders[each](json))
    const short = [1, 4, 9, bytes.length >> 1, bytes.length - 1, bytes.length].map((less) => bytes.subarray(0, -less))
    const twice = encoders[encoding](bytes)
    for (const body of [json, broken, ...others, ...short, twice, encoders[encoding]('')]) {
      const got = await infer(client, body, { 'content-encoding': encoding })
      refused(got, 'invalid', `${encoding}, ${body.length} of ${bytes.length} bytes`)
      refused(await infer(client, [Buffer.from(body)], { 'content-encoding': encoding }), 'invalid', encoding)
    }
  }
  assert.equal((await infer(client, json, {})).status, 200)
})

test('what follows the end of a compressed body is refused', async (t) => {
  const client = everywhere.open(t, 'http')
  for (const encoding of encodings) {
    const body = Buffer.concat([encoders[encoding](json), Buffer.from('more')])
    refused(await infer(client, body, { 'content-encoding': encoding }), 'invalid', encoding)
  }
})

test('zstd may ask for a window of 8 MiB and no more', async (t) => {
  const client = everywhere.open(t, 'http')
  /** A frame of one block that is not compressed (RFC 8878 section 3.1.1), with a window of so many bits. */
  const frame = (windowLog: number) => {
    const block = Buffer.alloc(3)
    block.writeUIntLE((json.length << 3) | 1, 0, 3)
    return Buffer.concat([Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3), block, Buffer.from(json)])
  }
  assert.equal((await infer(client, frame(23), { 'content-encoding': 'zstd' })).status, 200)
  refused(await infer(client, frame(24), { 'content-encoding': 'zstd' }), 'invalid', '16 MiB')
})

everyProtocol('an encoding that is not spoken here is refused, with those that are', async (client) => {
  const twice = gzipSync(gzipSync(json))
  for (const name of [
    'br',
    'compress',
    'gzip, gzip',
    'deflate, gzip',
    'gzip;q=1',
    'gzip2',
    'zip',
    '*',
    'aws-chunked',
  ]) {
    const got = await infer(client, twice, { 'content-encoding': name })
    refused(got, 'unsupported_media', name)
    assert.equal(got.headers['accept-encoding'], 'gzip, deflate, zstd')
  }
  assert.equal((await infer(client, json, {})).status, 200)
})

const beyond = padded(maxInflatedBytes + 1)
const limits = encodings.map((encoding) => {
  const compress = encoders[encoding]
  return { encoding, within: compress(beyond.subarray(0, -1)), over: compress(beyond) }
})

everyProtocol('a body that grows beyond the limit is refused, and one that grows up to it is taken', async (client) => {
  for (const { encoding, within, over } of limits) {
    const headers = { 'content-encoding': encoding }
    assert.equal((await infer(client, within, headers)).status, 200, encoding)
    const got = await infer(client, over, headers)
    refused(got, 'too_large', encoding)
    assert.match(got.json.error, /larger than 1200000 bytes/)
  }
  assert.equal((await infer(client, json, {})).status, 200)
})

everyProtocol('a bomb is refused, and a body that only compresses well is taken', async (client) => {
  const spaces = Buffer.alloc(maxInflatedBytes, ' ')
  for (const encoding of encodings) {
    const send = (bytes: number, size: number) => {
      const small = encoders[encoding](padded(bytes, spaces))
      assert.ok(bytes / small.length > 100)
      return infer(client, cut(small, size), { 'content-encoding': encoding })
    }
    for (const size of [1_000, 1_000_000]) {
      assert.equal((await send(2 ** 20, size)).status, 200, encoding)
      const got = await send(2 ** 20 + 65_536, size)
      refused(got, 'too_large', encoding)
      assert.match(got.json.error, /more than 20 times its size/)
    }
  }
  assert.equal((await infer(client, json, {})).status, 200)
})

const bombs = Object.fromEntries(
  encodings.map((encoding) => [encoding, encoders[encoding](Buffer.alloc(3 * maxInflatedBytes, ' '))]),
)
const garbage = Buffer.from(Array.from({ length: 400_000 }, () => draw(256)))

/** Bodies of some size that are refused before their end; two of them as soon as a quarter is there. */
function earlyRefused(encoding: Encoding, bytes: number): [code: string, body: Buffer, soon: boolean][] {
  const random = garbage.subarray(0, bytes)
  const bomb = bombs[encoding]!
  return [
    ['invalid', random, true],
    ['invalid', encoders[encoding](random), false],
    // What is behind a bomb makes no difference.
    ['too_large', Buffer.concat([bomb, random.subarray(bomb.length)]), true],
  ]
}

overHttp1('after a short compressed body that was refused the connection goes on', async (t, protocol) => {
  for (const encoding of encodings) {
    for (const [code, body, soon] of [20_000, 64_000].flatMap((bytes) => earlyRefused(encoding, bytes))) {
      const wire = await Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
      const first = soon ? body.length / 4 : body.length
      wire.write(wireRequest('echo', '', { 'content-length': `${body.length}`, 'content-encoding': encoding }))
      wire.write(body.subarray(0, first))
      assert.equal((await wire.reply()).json.code, code, `${encoding} ${body.length}`)
      wire.write(body.subarray(first))
      wire.write(wireRequest('echo', json))
      assert.equal((await wire.reply()).status, 200, `${encoding} ${body.length}`)
      wire.hangUp()
    }
  }
})

for (const protocol of ['h2c', 'h2'] as const) {
  test(`whatever compressed body is refused, the session goes on, over ${protocol}`, async (t) => {
    const client = everywhere.open(t, protocol)
    for (const encoding of encodings) {
      for (const [code, body] of [40_000, 400_000].flatMap((bytes) => earlyRefused(encoding, bytes))) {
        const [got, other] = await Promise.all([
          infer(client, cut(body, 10_000), { 'content-encoding': encoding }),
          infer(client, json, {}),
        ])
        refused(got, code, encoding)
        assert.equal(other.status, 200)
        assert.equal(client.session!.closed, false)
      }
    }
  })
}

const decoders = { gzip: gunzipSync, zstd: zstdDecompressSync } as const

/** Checks that an answer is compressed as it should be and otherwise the same as another. */
function sameAnswer(got: Got, plain: Got, encoding: keyof typeof decoders | undefined, what: string): void {
  assert.equal(got.status, 200, what)
  assert.equal(got.headers['content-encoding'], encoding, what)
  assert.equal(got.headers['content-length'], String(got.body.length), what)
  const bytes = encoding ? decoders[encoding](got.body) : got.body
  assert.ok(bytes.equals(plain.body), what)
  for (const field of ['content-type', 'inference-header-content-length'])
    assert.equal(got.headers[field], plain.headers[field], what)
  assert.equal(got.headers.vary, encoding ? 'origin, accept-encoding' : 'origin', what)
}

const large = Array.from({ length: 4_000 }, (_, i) => i / 8)
const largeRequest = { inputs: [tensor('x', 'FP32', [4, 1_000], large)] }
const inBinary = { ...largeRequest, parameters: { binary_data_output: true } }
const accepted: [accept: string, encoding: 'gzip' | 'zstd' | undefined][] = [
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['GZIP', 'gzip'],
  ['zstd', 'zstd'],
  ['gzip, deflate, br, zstd', 'zstd'],
  ['gzip;q=0.5, zstd;q=0.4', 'gzip'],
  ['gzip ; q=0.4 , zstd ; q=0.5', 'zstd'],
  ['gzip;q=0.001', 'gzip'],
  ['gzip;q=0, zstd;q=0', undefined],
  ['gzip;q=0', undefined],
  ['zstd;q=0, gzip', 'gzip'],
  ['identity', undefined],
  ['deflate, br', undefined],
  ['*;q=0', undefined],
  ['', undefined],
  ['gzipped', undefined],
]

everyProtocol('a large answer is compressed as the client would have it, and is otherwise the same', async (client) => {
  for (const sent of [largeRequest, inBinary]) {
    const body = JSON.stringify(sent)
    const plain = await infer(client, body, {})
    assert.deepEqual([plain.status, plain.headers['content-encoding']], [200, undefined])
    assert.ok(plain.body.length > 8_192)
    for (const [accept, encoding] of accepted)
      sameAnswer(await infer(client, body, { 'accept-encoding': accept }), plain, encoding, accept)
  }
})

everyProtocol('a small answer and a refusal stay as they are', async (client) => {
  const headers = { 'accept-encoding': 'gzip, zstd' }
  const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 3], [1, 2, 3])] })
  sameAnswer(await infer(client, body, headers), await infer(client, body, {}), undefined, 'small')
  const got = await infer(client, '{', headers)
  assert.deepEqual([got.status, got.headers['content-encoding'], got.json.code], [400, undefined, 'invalid'])
})

test('a small answer in binary stays as it is', async (t) => {
  const client = everywhere.open(t, 'http')
  const inputs = [tensor('x', 'FP32', [1, 3], [1, 2, 3])]
  const body = JSON.stringify({ inputs, parameters: { binary_data_output: true } })
  const got = await infer(client, body, { 'accept-encoding': 'gzip' })
  sameAnswer(got, await infer(client, body, {}), undefined, 'small')
})

test('the size from which answers are compressed can be set, and 0 leaves all as they are', async (t) => {
  const lengths = [1, 10, 100, 1_000].map((count) =>
    JSON.stringify({ inputs: [tensor('x', 'FP32', [1, count], large.slice(0, count))] }),
  )
  const encodingsAt = async (compressBytes: number) => {
    const { url } = await startGateway(t, { store, settings: edgeWith({ compressBytes }) })
    const client = openClient(t, 'http', { url, ca: '' })
    const got = await Promise.all(lengths.map((body) => infer(client, body, { 'accept-encoding': 'gzip' })))
    return got.map(({ headers }) => headers['content-encoding'])
  }
  assert.deepEqual(await encodingsAt(0), [undefined, undefined, undefined, undefined])
  assert.deepEqual(await encodingsAt(1), ['gzip', 'gzip', 'gzip', 'gzip'])
  assert.deepEqual(await encodingsAt(500), [undefined, undefined, 'gzip', 'gzip'])
})

test('a client that hangs up while its answer is compressed disturbs nobody', async (t) => {
  const served = everywhere.served.http
  const client = everywhere.open(t, 'http')
  const count = 500_000
  const floats = Float32Array.from({ length: count }, () => draw(2 ** 30) / 7)
  const { body, headers } = withBinary({ inputs: [binaryTensor('x', 'FP32', [1, count], 4 * count)] }, floats)
  const ok = 'penstock_requests_total{route="echo",model="echo",version="1",code="ok"}'
  const open = 'penstock_connections{protocol="http/1.1"}'
  const seen = async (name: string) => (await samples(served)).get(name) ?? 0
  for (const encoding of ['gzip', 'zstd']) {
    const [answered, connected] = [await seen(ok), await seen(open)]
    const wire = await Wire.open(t, served.url)
    wire.write(wireRequest('echo', '', { ...headers, 'content-length': `${body.length}`, 'accept-encoding': encoding }))
    wire.write(body)
    await until('its answer is there', async () => (await seen(ok)) > answered)
    wire.hangUp()
    assert.equal((await infer(client, json, {})).status, 200)
    await until('it is forgotten', async () => (await seen(open)) <= connected + 1)
    assert.equal(await seen('penstock_held_bytes'), 0)
  }
})
