/** Clients that are wrong, rude or gone. After each the gateway answers the others as ever. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { edgeWith, heldBytes, outcomes, post, queuedRows, until, wholeFile } from './support/client.ts'
import { folderWith, tensor } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity, onnx } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { http1Protocols, overHttp1, startEverywhere, type Client } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const pair = onnx({
  inputs: [
    { name: 'a', type: 'INT64', shape: ['n', 'len'] },
    { name: 'b', type: 'INT64', shape: ['n', 'len'] },
  ],
  outputs: [{ name: 'sum', type: 'INT64', shape: ['n', 'len'] }],
  nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['sum'] }],
})
const echo = identity('FP32', ['n', 2])
const store = { 'echo.onnx': echo, 'pair.onnx': pair, 'slow.onnx': slow(20), 'other.onnx': echo }

const everywhere = await startEverywhere(wholeFile, {
  store,
  settings: { ...edgeWith({ body: { maxBytes: 1_000_000 } }), runtime: { executors: 1 } },
  over: http1Protocols,
})
const { ca } = everywhere
const gateway = everywhere.served.http

const x = tensor('x', 'FP32', [1, 2], [1, 2])
const good = JSON.stringify({ inputs: [x] })

const asJson = { 'content-type': 'application/json' }

async function servesOn(client: Client): Promise<void> {
  const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [3, -4])] })
  const { status, json } = await client.send({ path: '/v2/models/other/infer', headers: asJson, body })
  assert.deepEqual([status, json.outputs[0].data], [200, [3, -4]])
}

const neighbour = everywhere.open(wholeFile, 'http')

/** Each body must be refused as invalid, in words that match. */
async function allRefused(model: string, bodies: readonly [body: unknown, words: RegExp][]): Promise<void> {
  for (const [body, words] of bodies) {
    const { status, json } = await gateway.infer(model, body)
    const shown = JSON.stringify(body).slice(0, 200)
    assert.deepEqual([status, json.code], [400, 'invalid'], shown)
    assert.match(json.error, words, shown)
    assert.ok(json.error.length < 400)
  }
  await servesOn(neighbour)
}

test('a body that is not JSON is refused', async () => {
  const broken = ['', ' ', '{', '{"inputs":', good.slice(0, -1), `${good},`, `${good}${good}`, `\uFEFF${good}`]
  const loose = [`{'inputs':[]}`, '{inputs:[]}', '{"inputs":[1,]}', `/* why */${good}`, '{"inputs":[01]}', '{"a":+1}']
  const odd = ['{"a":.5}', '{"a":0x1}', '{"a":"\u0001"}', '{"a":"\\x41"}', '{"a":"\\u12"}', 'undefined', '\u0000']
  const deep = ['['.repeat(200_000), `{"inputs":${'['.repeat(200_000)}${']'.repeat(100_000)}}`]
  const bodies = [...broken, ...loose, ...odd, ...deep]
  await allRefused(
    'echo',
    bodies.map((body) => [body, /not JSON/]),
  )
})

test('a body that is not UTF-8 is refused', async () => {
  for (const body of [Buffer.from(good, 'utf16le'), Buffer.concat([Buffer.from(good), Buffer.of(0xc3)])]) {
    const { status, json } = await post(gateway, 'echo', body)
    assert.equal(status, 400)
    assert.match(json.error, /not (UTF-8|JSON)/)
  }
})

test('JSON that nests without end is refused, by models with whole numbers too', async () => {
  const deep = '['.repeat(100_000) + ']'.repeat(100_000)
  const big = '12345678901234567890'
  await allRefused('echo', [
    [`{"inputs":${deep}}`, /./],
    [`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":${deep}}]}`, /"x"/],
  ])
  await allRefused('pair', [[`{"id":${big},"inputs":${deep}}`, /./]])
})

test('JSON that is no inference request is refused', async () => {
  const noObject = [[], 1, null, true, '"text"'].map((body): [unknown, RegExp] => [body, /must be a JSON object/])
  const noList = [{}, { inputs: {} }, { inputs: null }, { inputs: 'x' }].map((body): [unknown, RegExp] => [
    body,
    /"inputs" must be a list/,
  ])
  const noTensor = [[null], [1], ['x'], [[]]].map((inputs): [unknown, RegExp] => [{ inputs }, /each of "inputs"/])
  await allRefused('echo', [...noObject, ...noList, ...noTensor])
})

test('inputs that the model does not have, has once or needs are refused by name', async () => {
  const a = tensor('a', 'INT64', [1, 1], [1])
  await allRefused('pair', [
    [{ inputs: [a] }, /"b" is missing/],
    [{ inputs: [] }, /"a" is missing.*"a", "b"/],
    [{ inputs: [a, a] }, /"a" is given twice/],
    [{ inputs: [a, { ...a, name: 'c' }] }, /no input "c".*"a", "b"/],
    [{ inputs: [{ ...a, name: 7 }] }, /without a name/],
    [{ inputs: [{ ...a, name: undefined }] }, /without a name/],
    [{ inputs: [{ ...a, name: '__proto__' }] }, /no input "__proto__"/],
    [{ inputs: [{ ...a, name: 'n'.repeat(10_000) }] }, /no input "nnn/],
    [{ inputs: [{ ...a, datatype: 'INT99' }] }, /"a": its datatype must be INT64/],
    [{ inputs: [{ ...a, datatype: undefined }] }, /"a": its datatype must be INT64/],
    [{ inputs: [{ ...a, parameters: 5 }] }, /"a": its parameters/],
  ])
})

test('outputs that cannot be given are refused before anything is run', async () => {
  const ask = (outputs: unknown): unknown => ({ inputs: [x], outputs })
  await allRefused('echo', [
    [ask([{ name: 'z' }]), /no output "z".*"y"/],
    [ask([{}]), /no output without a name/],
    [ask([{ name: 'y' }, { name: 'y' }]), /"y" is asked for twice/],
    [ask({}), /"outputs" must be a list/],
    [ask(['y']), /each of "outputs"/],
    [ask([{ name: 'y', parameters: 1 }]), /"y": its parameters/],
    [ask([{ name: 'y', parameters: { binary_data: 'yes' } }]), /"binary_data" must be true or false/],
    [ask([{ name: 'y', parameters: { classification: 3 } }]), /classification/],
  ])
})

test('a body of a type or in an encoding that is not spoken here is refused', async () => {
  const types = ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=b', 'json']
  for (const headers of [
    ...types.map((type) => ({ 'content-type': type })),
    { 'content-type': 'application/json; charset=utf-16' },
    { 'content-encoding': 'br' },
    { 'content-encoding': 'gzip, gzip' },
  ]) {
    const { status, json } = await post(gateway, 'echo', good, headers)
    assert.deepEqual([status, json.code], [415, 'unsupported_media'], JSON.stringify(headers))
  }
  for (const headers of [{ 'content-type': 'application/json; charset=utf-8' }, { 'content-encoding': 'identity' }]) {
    assert.equal((await post(gateway, 'echo', good, headers)).status, 200)
  }
})

overHttp1(
  'a body that says it is too large is refused before it is sent, and the connection ends if it comes all the same',
  async (t, protocol) => {
    const wire = await Wire.open(t, everywhere.served[protocol].url, ca)
    wire.write(wireRequest('echo', '', { 'content-length': '1000001' }))
    const { status, json } = await wire.reply()
    assert.deepEqual([status, json.code], [413, 'too_large'])
    for (let sent = 0; sent < 1_000_001; sent += 100_000) wire.write(Buffer.alloc(100_000))
    await wire.gone
    await servesOn(everywhere.open(t, protocol))
  },
)

overHttp1('a body of exactly the most bytes is taken, and a chunked one of more is refused', async (t, protocol) => {
  const { url } = everywhere.served[protocol]
  const exact = await Wire.open(t, url, ca)
  exact.write(wireRequest('echo', good.padEnd(1_000_000)))
  assert.equal((await exact.reply()).status, 200)
  const wire = await Wire.open(t, url, ca)
  wire.write(wireRequest('echo', '', { 'transfer-encoding': 'chunked' }))
  wire.write(`f4241\r\n${good.padEnd(1_000_001)}\r\n`)
  assert.equal((await wire.reply()).status, 413)
  for (let i = 0; i < 3; i++) wire.write(`fffff\r\n${' '.repeat(0xfffff)}\r\n`)
  await wire.gone
  await servesOn(everywhere.open(t, protocol))
})

overHttp1('after an early refusal a small body is read past, and the connection goes on', async (t, protocol) => {
  const wire = await Wire.open(t, everywhere.served[protocol].url, ca)
  const refusedFirst: [string, number][] = [
    [wireRequest('nobody', 'x'.repeat(60_000)), 404],
    [wireRequest('echo/versions/9', 'x'), 404],
    [wireRequest('echo', 'x'.repeat(60_000), { 'content-type': 'text/plain' }), 415],
    [wireRequest('echo', good).replace('POST', 'DELETE'), 405],
  ]
  for (const [request, status] of refusedFirst) {
    wire.write(request)
    assert.equal((await wire.reply()).status, status)
    wire.write(wireRequest('echo', good))
    assert.equal((await wire.reply()).status, 200)
  }
})

overHttp1('a client that waits for leave to send its body gets it, or gets its refusal', async (t, protocol) => {
  const { url } = everywhere.served[protocol]
  const wire = await Wire.open(t, url, ca)
  const [head = '', body = ''] = wireRequest('echo', good, { expect: '100-continue' }).split(/(?<=\r\n\r\n)/)
  wire.write(head)
  assert.equal((await wire.reply()).status, 100)
  wire.write(body)
  assert.equal((await wire.reply()).status, 200)
  const refusedAtOnce: [string, string, number][] = [
    ['nobody', '50', 404],
    ['echo', '1000001', 413],
  ]
  for (const [model, length, status] of refusedAtOnce) {
    const other = await Wire.open(t, url, ca)
    other.write(wireRequest(model, '', { expect: '100-continue', 'content-length': length }))
    assert.equal((await other.reply()).status, status)
  }
})

overHttp1(
  'bytes that are not HTTP are answered 400, a huge head 431, and both connections end',
  async (t, protocol) => {
    const garbage = ['\u0016\u0003\u0001\u0002\u0000\u0001', 'hello\r\n\r\n', 'GET /v2 HTTP/1.1\r\nno colon\r\n\r\n']
    const framings = [
      'content-length: 1\r\ncontent-length: 2',
      'content-length: 1\r\ntransfer-encoding: chunked',
      'content-length: -1',
    ]
    const heads = framings.map((fields) => `POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\n${fields}\r\n\r\n{}`)
    const huge = `GET /v2 HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`
    for (const [bytes, status] of [
      ...[...garbage, ...heads].map((each) => [each, 400] as const),
      [huge, 431] as const,
    ]) {
      const wire = await Wire.open(t, everywhere.served[protocol].url, ca)
      wire.write(bytes)
      const reply = await wire.reply()
      assert.equal(reply.status, status, bytes.slice(0, 80))
      assert.deepEqual(Object.keys(reply.json), ['error', 'code'])
      await wire.gone
    }
    await servesOn(everywhere.open(t, protocol))
  },
)

const input = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [5])] })

overHttp1('clients that hang up in the head or in the body disturb nobody and hold no memory', async (t, protocol) => {
  const settings = edgeWith({ body: { maxHeldBytes: 8_192 } })
  const own = await startEverywhere(t, { store, settings, over: [protocol] })
  const small = own.served[protocol]
  const client = own.open(t, protocol)
  const whole = wireRequest('echo', good)
  const headEnd = whole.indexOf('\r\n\r\n') + 4
  const sent = { path: '/v2/models/echo/infer', headers: asJson, body: good }
  for (const length of [0, 20, headEnd, whole.length - 4, whole.length - 1]) {
    const before = await outcomes(small, 'echo', 'abandoned')
    const wire = await Wire.open(t, small.url, own.ca)
    await wire.sent(whole.slice(0, length))
    if (length === whole.length - 4) {
      await until('its tensor holds memory', async () => (await heldBytes(small)) > 0)
      const { status, json } = await client.send(sent)
      assert.deepEqual([status, json.code], [503, 'overloaded'])
    }
    wire.hangUp()
    if (length >= headEnd)
      await until('it was noticed', async () => (await outcomes(small, 'echo', 'abandoned')) > before)
    assert.equal((await client.send(sent)).status, 200)
    assert.equal(await heldBytes(small), 0)
  }
})

overHttp1(
  'clients that hang up while their requests run or wait leave the others their answers',
  async (t, protocol) => {
    const served = everywhere.served[protocol]
    const wires = await Promise.all([1, 2, 3, 4].map(() => Wire.open(t, served.url, ca)))
    const [running, waiting, leaving, staying] = wires
    const before = await outcomes(served, 'slow', 'abandoned')
    running!.write(wireRequest('slow', input))
    waiting!.write(wireRequest('slow', input))
    leaving!.write(wireRequest('slow', input))
    await until('one of three runs', async () => (await queuedRows(served, 'slow')) === 2)
    running!.hangUp()
    leaving!.hangUp()
    staying!.write(wireRequest('slow', input))
    await until('both were noticed', async () => (await outcomes(served, 'slow', 'abandoned')) === before + 2)
    for (const wire of [waiting!, staying!]) {
      const { status, json } = await wire.reply()
      assert.deepEqual([status, json.outputs[0].data], [200, [5]])
    }
    await servesOn(everywhere.open(t, protocol))
  },
)

overHttp1(
  'a head or a body that does not come in time is answered 408, and the connection ends',
  async (t, protocol) => {
    const settings = edgeWith({ head: { timeoutMs: 300 }, body: { timeoutMs: 600 } })
    const own = await startEverywhere(t, { store, settings, over: [protocol] })
    const client = own.open(t, protocol)
    const started = wireRequest('echo', good).slice(0, -5)
    const replies = [started, 'POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\n'].map(async (sent) => {
      const wire = await Wire.open(t, own.served[protocol].url, own.ca)
      wire.write(sent)
      const { status, json } = await wire.reply()
      assert.deepEqual([status, json.code], [408, 'too_slow'])
      await wire.gone
    })
    await Promise.all([...replies, servesOn(client)])
    await servesOn(client)
  },
)

test('a time for the body that is shorter than the usual one for the head is served', async (t) => {
  const config = { auth: 'none', ...edgeWith({ body: { timeoutMs: 5_000 } }), metrics: { port: 0 }, admin: { port: 0 } }
  const folder = await folderWith({ 'penstock.yaml': stringify(config), 'models/echo.onnx': echo })
  await penstock(t, ['serve', `${folder}/penstock.yaml`]).said(/penstock serves/)
})
