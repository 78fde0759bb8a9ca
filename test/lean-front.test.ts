/** Heads over HTTP/1.1 as clients see them: of answers, and of requests that come late, in parts, or with too much in them. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AnswerHead } from '../src/edge/http1/lean/answer.ts'
import { Parser } from '../src/edge/http1/lean/parser.ts'
import { wholeFile } from './support/client.ts'
import { tensor } from './support/gateway.ts'
import { StepClock } from './support/issuer.ts'
import { Line } from './support/line.ts'
import { identity } from './support/onnx.ts'
import { http1Protocols, openClient, overHttp1, startEverywhere, type Http1 } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const maxHeadBytes = 2_048
const origin = 'https://app.example.com'
const everywhere = await startEverywhere(wholeFile, {
  store: { 'echo.onnx': identity('FP32', ['n', 2]) },
  settings: {
    runtime: { executors: 1 },
    edge: { head: { maxBytes: maxHeadBytes }, connections: { idleMs: 5_500 }, cors: { origins: [origin] } },
  },
  over: http1Protocols,
})

const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const infer = wireRequest('echo', good)
const get = 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n'
const last = get.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n')

function open(t: TestContext, protocol: Http1): Promise<Wire> {
  return Wire.open(t, everywhere.served[protocol].url, everywhere.ca)
}

/** All that comes on a connection until it ends. */
async function allOf(t: TestContext, protocol: Http1, sent: string | Uint8Array): Promise<string> {
  const line = await Line.open(t, everywhere, protocol)
  line.socket.write(sent)
  await line.over
  return line.received
}

/** Fields of a head, in lower case and without their values if they differ from answer to answer. */
function fieldsOf(head: string): string[] {
  const [, ...fields] = head.split('\r\n')
  const lines = fields.map((field) => field.replace(/^[^:]+/, (name) => name.toLowerCase()))
  return lines.map((field) => field.replace(/^(date|x-request-id): .*/, '$1')).toSorted()
}

overHttp1('every answer has its date, and says how long the connection stays open', async (t, protocol) => {
  const wire = await open(t, protocol)
  for (const sent of [get, infer, get.replace('/v2', '/nothing'), get.replace('GET', 'OPTIONS'), '{}', '{}']) {
    wire.write(sent === '{}' ? wireRequest('echo', sent) : sent)
    const { headers } = await wire.reply()
    const date = headers.get('date')!
    assert.equal(new Date(date).toUTCString(), date)
    assert.ok(Math.abs(Date.parse(date) - Date.now()) < 3_600_000, date)
    assert.deepEqual([headers.get('connection'), headers.get('keep-alive')], ['keep-alive', 'timeout=5'])
  }
  wire.write(last)
  const { headers } = await wire.reply()
  assert.deepEqual([headers.get('connection'), headers.get('keep-alive')], ['close', undefined])
  assert.ok(headers.has('date'))
  await wire.gone
})

overHttp1('no field of an answer is there twice', async (t, protocol) => {
  const vary = { origin, 'accept-encoding': 'gzip' }
  for (const sent of [get, wireRequest('echo', good, vary), wireRequest('echo', '{', vary)]) {
    const received = await allOf(t, protocol, sent.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'))
    const names = fieldsOf(received.split('\r\n\r\n')[0]!).map((field) => field.replace(/:.*/, ''))
    assert.deepEqual(names, [...new Set(names)])
  }
})

overHttp1('HEAD has the head of GET, and the next answer follows it at once', async (t, protocol) => {
  for (const path of ['/v2', '/v2/models/echo', '/nothing', '/v2/models/echo/infer']) {
    const ask = (request: string) => request.replace('/v2', path)
    const received = await allOf(t, protocol, ask(get).replace('GET', 'HEAD') + ask(get) + ask(last))
    const [head = '', full = '', ...rest] = received.split('\r\n\r\n')
    assert.match(full, /^HTTP\/1\.1 /, path)
    assert.deepEqual(fieldsOf(head), fieldsOf(full), path)
    const length = Number(/content-length: (\d+)/i.exec(head)![1])
    assert.ok(length > 0)
    assert.equal(rest[0]!.indexOf('HTTP/1.1 '), length, path)
  }
})

overHttp1('HTTP/1.0 has one answer on a connection, or as many as it asks for', async (t, protocol) => {
  const old = get.replace('HTTP/1.1', 'HTTP/1.0')
  const received = await allOf(t, protocol, old + old)
  assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200'])
  assert.match(received, /\r\nconnection: close\r\n/i)
  const wire = await open(t, protocol)
  for (let i = 0; i < 3; i++) {
    wire.write(old.replace('host: a', 'connection: Keep-Alive'))
    const { status, headers } = await wire.reply()
    assert.deepEqual([status, headers.get('connection')], [200, 'keep-alive'])
  }
  wire.write(infer.replace('HTTP/1.1', 'HTTP/1.0').replace('host: localhost', 'connection: keep-alive'))
  assert.deepEqual((await wire.reply()).json.outputs[0].data, [1, 2])
  wire.write(old)
  assert.equal((await wire.reply()).headers.get('connection'), 'close')
  await wire.gone
})

overHttp1('what is sent behind the last request that a client announced is not answered', async (t, protocol) => {
  const received = await allOf(t, protocol, get + last + get)
  assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 200'])
})

overHttp1('a head that comes byte by byte is a head', async (t, protocol) => {
  const line = await Line.open(t, everywhere, protocol)
  line.socket.setNoDelay()
  for (const sent of [get, infer, `\r\n${get}`]) {
    for (const byte of sent) {
      line.write(byte)
      await nextTurn()
    }
  }
  await line.answered(3)
  assert.deepEqual(line.statuses, [200, 200, 200])
})

overHttp1('requests that are cut anywhere are the same requests', async (t, protocol) => {
  const line = await Line.open(t, everywhere, protocol)
  line.socket.setNoDelay()
  const both = infer + get
  for (let at = 1; at < both.length; at++) {
    line.write(both.slice(0, at))
    await nextTurn()
    line.write(both.slice(at))
    await line.answered(2)
    assert.deepEqual(line.statuses, [200, 200], `cut at ${at}`)
    line.received = ''
  }
})

/** A head of so many bytes. */
function headOf(bytes: number): string {
  const rest = get.replace('host: a', 'host: a\r\nx: ')
  return rest.replace('x: ', `x: ${'y'.repeat(bytes - rest.length)}`)
}

for (const protocol of ['http', 'https'] as const) {
  // Node counts names and values only, so that its limit is a little further.
  test(`a head may have so many bytes, and not one more, over ${protocol}`, async (t) => {
    const exact = headOf(maxHeadBytes)
    assert.equal(exact.length, maxHeadBytes)
    for (const cut of [0, 1, 1_000, maxHeadBytes - 1]) {
      const wire = await open(t, protocol)
      for (const before of ['', infer]) {
        await wire.sent(before + exact.slice(0, cut))
        if (before !== '') assert.equal((await wire.reply()).status, 200)
        wire.write(exact.slice(cut) + get)
        assert.deepEqual([(await wire.reply()).status, (await wire.reply()).status], [200, 200], `cut at ${cut}`)
      }
      await wire.sent(headOf(maxHeadBytes + 1).slice(0, cut))
      wire.write(headOf(maxHeadBytes + 1).slice(cut))
      const { status, headers, json } = await wire.reply()
      assert.deepEqual([status, headers.get('connection'), json.code], [431, 'close', 'header_too_large'])
      await wire.gone
      assert.equal(wire.unread, 0)
    }
  })

  test(`a head without end is refused as soon as it is too long, over ${protocol}`, async (t) => {
    const wire = await open(t, protocol)
    wire.write(headOf(maxHeadBytes + 5_000).slice(0, maxHeadBytes))
    assert.equal((await wire.reply()).status, 431)
    await wire.gone
  })
}

overHttp1('both versions of HTTP are spoken on one port, as the client chooses', async (t, protocol) => {
  const { url } = everywhere.served[protocol]
  const isSecure = url.startsWith('https:')
  const ways = isSecure ? (['https', 'h2', 'https'] as const) : (['http', 'h2c', 'http'] as const)
  const clients = ways.map((way) => openClient(t, way, { url, ca: everywhere.ca }))
  for (let round = 0; round < 3; round++) {
    const headers = { 'content-type': 'application/json' }
    const answers = clients.map((client) => client.send({ path: '/v2/models/echo/infer', headers, body: good }))
    for (const { status, json } of await Promise.all(answers))
      assert.deepEqual([status, json.outputs[0].data], [200, [1, 2]])
  }
})

const known = new Set(
  (
    'content-type content-length x-request-id date connection keep-alive vary access-control-allow-origin ' +
    'access-control-expose-headers allow'
  ).split(' '),
)

/** Every line of a head has to be a field that the gateway has written. */
function assertClean(received: string, what: string): void {
  const [head = ''] = received.split('\r\n\r\n')
  const [status = '', ...fields] = head.split('\r\n')
  assert.match(status, /^HTTP\/1\.1 [2-5]\d\d [A-Z][\w' ()-]+$/, what)
  for (const field of fields) {
    // oxlint-disable-next-line no-control-regex -- It is what is looked for.
    assert.match(field, /^[\w-]+: [^\x00-\x08\x0a-\x1f\x7f]*$/, what)
    assert.ok(known.has(field.replace(/:.*/, '').toLowerCase()), `${what}: ${field}`)
  }
  assert.equal(received.match(/HTTP\/1\.1 /g)?.length, 1, what)
}

for (const protocol of ['http', 'http on node'] as const) {
  test(`nothing that a client sends gets into a head as another field, over ${protocol}`, async (t) => {
    const ends = [...Array.from({ length: 32 }, (_, code) => code), 127, 133].map((code) => String.fromCharCode(code))
    const request = (fields: string, target = '/v2') =>
      `GET ${target} HTTP/1.1\r\nhost: a\r\n${fields}connection: close\r\n\r\n`
    const asked = ends.flatMap((end) => {
      const forged = `a${end}set-cookie: b=c`
      return [request(`x-request-id: ${forged}\r\n`), request(`origin: ${origin}${forged}\r\n`)]
    })
    const escaped = ['%0d%0aset-cookie:%20b=c', '%0aset-cookie:%20b=c', '%00', '%e5%98%8a%e5%98%8dset-cookie:%20b=c']
    for (const each of escaped) {
      asked.push(request('', `/v2/models/${each}`), request('', `/${each}?${each}`))
      asked.push(request(`x-request-id: ${each}\r\norigin: ${origin}${each}\r\n`))
    }
    const answers = asked.map((sent) => allOf(t, protocol, Buffer.from(sent, 'latin1')))
    for (const [i, answer] of (await Promise.all(answers)).entries()) assertClean(answer, JSON.stringify(asked[i]))
  })
}

test('of fields that are given twice the first counts, or all of them, as Node has it', () => {
  const given = ['Host: a', 'host: b', 'Content-Type: c ', 'content-type: d', 'x: 1', 'X:2\t', 'expect:', 'y:  z']
  const more = ['cookie: e=f', 'Cookie: g', 'set-cookie: h', 'Set-Cookie: i', 'constructor: j', '__proto__: k']
  const expected = [
    ['host', 'a'],
    ['content-type', 'c'],
    ['x', '1, 2'],
    ['expect', ''],
    ['y', 'z'],
    ['cookie', 'e=f; g'],
    ['set-cookie', ['h', 'i']],
    ['constructor', 'j'],
  ] as const
  const parser = Parser.lend()
  const outcome = parser.readHead(Buffer.from(`GET / HTTP/1.1\r\n${[...given, ...more].join('\r\n')}\r\n\r\n`))
  const { headers } = parser.head()
  assert.equal(outcome, 'whole')
  for (const [name, value] of expected) assert.deepEqual(headers[name], value, name)
  parser.giveBack()
})

suite('the head of an answer', () => {
  const headOn = (clock = new StepClock(), idleMs = 75_000) => ({ head: new AnswerHead(idleMs, clock), clock })

  test('is written with all its fields in their order, and says whether it is the last', () => {
    const { head } = headOn()
    const date = 'date: Fri, 15 Jan 2027 08:00:00 GMT\r\n'
    const fields = ['a', 'b', 'content-length', '0']
    const common = `HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n${date}`
    assert.equal(head.write(200, fields, true), `${common}connection: close\r\n\r\n`)
    assert.equal(head.write(200, fields, false), `${common}connection: keep-alive\r\nkeep-alive: timeout=75\r\n\r\n`)
    assert.match(head.write(503, [], true), /^HTTP\/1\.1 503 Service Unavailable\r\ndate: /)
  })

  test('has the date of its own second', () => {
    const { head, clock } = headOn()
    const dateNow = () => /date: (.*)\r\n/.exec(head.write(200, [], true))![1]
    const first = dateNow()
    clock.pass(999)
    assert.equal(dateNow(), first)
    clock.pass(1)
    assert.equal(dateNow(), 'Fri, 15 Jan 2027 08:00:01 GMT')
    clock.step(-1_000)
    assert.equal(dateNow(), first, 'somebody set the clock')
  })

  test('is not written with a value that would be more than one', () => {
    const { head } = headOn()
    for (const bad of ['a\r\nb: c', 'a\nb', 'a\rb', 'a\0b', 'a\u007fb', 'a\u010ab', 'a\u560a', '\r', 'b\n'])
      for (const fields of [
        ['x', bad],
        ['x', 'y', 'z', bad],
      ])
        assert.throws(() => head.write(200, fields, false), TypeError, JSON.stringify(bad))
    for (const fit of ['', ' a ', 'a\tb', 'caf\u00e9', '~', '\u0080', '\u00ff'])
      assert.ok(head.write(200, ['x', fit], false).includes(`\r\nx: ${fit}\r\n`), JSON.stringify(fit))
  })
})

suite('trailers count with all their bytes and by their names', () => {
  const head = Buffer.from('POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n')
  const trailers = Buffer.from('a:b\r\nlonger-name: \t c \r\nempty:\r\n\r\n')
  const body = Buffer.concat([Buffer.from('2\r\nok\r\n0\r\n'), trailers])
  for (const size of [1, 3, 7, body.length])
    test(`in pieces of ${size} bytes`, () => {
      const parser = Parser.lend()
      assert.equal(parser.readHead(head), 'whole')
      for (let at = 0; at < body.length; at += size) parser.readChunks(body.subarray(at, at + size))
      assert.deepEqual(parser.trailers, { bytes: trailers.length, fields: 3 })
      parser.giveBack()
      assert.deepEqual([parser.data, parser.trailers], [[], { bytes: 0, fields: 0 }], 'nothing of it is kept')
    })
})
