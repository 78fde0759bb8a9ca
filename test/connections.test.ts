/** Connections over HTTP/1.1, behind TLS and without: how many there may be, what ends them, and what must not. */
import assert from 'node:assert/strict'
import { suite, test, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fixed, samples, until, wholeFile } from './support/client.ts'
import { opening, zeros } from './support/frames.ts'
import { tensor, type TestGateway } from './support/gateway.ts'
import { large, Line } from './support/line.ts'
import { identity } from './support/onnx.ts'
import {
  http1Protocols,
  isOverTls,
  overHttp1,
  protocols,
  startEverywhere,
  type Everywhere,
  type Http1,
} from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n', 2]), 'zeros.onnx': zeros }
const runtime = { executors: 1 }
const everywhere = await startEverywhere(wholeFile, { store, settings: { runtime }, over: http1Protocols })

const good = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })
const get = 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n'
function startWith(
  t: TestContext,
  edge: Record<string, unknown>,
  over: readonly Http1[] = http1Protocols,
): Promise<Everywhere<Http1>> {
  return startEverywhere(t, { store, settings: { runtime, edge }, over })
}

async function serves(t: TestContext, there: Everywhere<Http1>, protocol: Http1): Promise<Line> {
  const line = await Line.open(t, there, protocol)
  line.write(wireRequest('echo', good))
  await line.answered(1)
  assert.deepEqual(line.statuses, [200])
  return line
}

async function connections(gateway: TestGateway): Promise<[number, number]> {
  const now = await samples(gateway)
  const open = (protocol: string) => now.get(`penstock_connections{protocol="${protocol}"}`) ?? 0
  return [open('http/1.1'), open('h2')]
}

async function refused(gateway: TestGateway, reason: string): Promise<number> {
  return (await samples(gateway)).get(`penstock_connections_refused_total{reason="${reason}"}`) ?? 0
}

const caps = [
  ['in total', 'total', { max: 3 }],
  ['from one address', 'address', { maxPerAddress: 3, shared: ['10.0.0.0/8', '::1'] }],
] as const

for (const [what, reason, limits] of caps) {
  overHttp1(`a connection too many ${what} is refused, and its place comes free again`, async (t, protocol) => {
    const own = await startWith(t, { connections: limits }, [protocol])
    const gateway = own.served[protocol]
    const lines = await Promise.all([1, 2, 3].map(() => serves(t, own, protocol)))
    if (!isOverTls(protocol)) {
      const line = await Line.open(t, own, protocol)
      line.write(wireRequest('echo', good))
      await line.gone()
      assert.match(line.received, /^HTTP\/1\.1 503 .*\r\nconnection: close\r\n[^]*"code":"overloaded"/)
    } else {
      // Before a handshake there is nothing to say.
      const wire = await Wire.open(t, gateway.url.replace('https:', 'http:'))
      await wire.gone
      assert.equal(wire.unread, 0)
    }
    assert.equal(await refused(gateway, reason), 1)
    assert.deepEqual(await connections(gateway), [3, 0])
    for (const line of lines) line.write(get)
    for (const line of lines) await line.answered(2)
    lines[0]!.socket.destroy()
    await until('its place is free', async () => (await connections(gateway))[0] === 2)
    await serves(t, own, protocol)
    await assert.doesNotReject(lines[1]!.answered(2))
  })
}

overHttp1('addresses behind which many clients are have as many connections as there may be', async (t, protocol) => {
  const own = await startWith(t, { connections: { maxPerAddress: 1, shared: ['127.0.0.0/8'] } }, [protocol])
  for (let i = 0; i < 5; i++) await serves(t, own, protocol)
  assert.deepEqual(await connections(own.served[protocol]), [5, 0])
})

overHttp1('a client of IPv6 is served, and counted as one', async (t, protocol) => {
  const options = { host: '::1', connections: { maxPerAddress: 1 } }
  const own = await startWith(t, options, [protocol]).catch((error: Error) => error)
  if (own instanceof Error) {
    // A machine without IPv6 has nothing else to show.
    assert.match(own.message, /has no address|EADDRNOTAVAIL|EAFNOSUPPORT/)
    return
  }
  await serves(t, own, protocol)
  await assert.rejects(serves(t, own, protocol))
})

test('connections that were refused leave nothing behind', async (t) => {
  const own = await startWith(t, { connections: { max: 1 } }, ['http'])
  await serves(t, own, 'http')
  const open = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
  // Those of the clients that ask for metrics come and go.
  const before = open() + 5
  for (let i = 0; i < 30; i++) {
    const line = await Line.open(t, own, 'http')
    line.write(wireRequest('echo', good))
    await line.gone()
  }
  await until('they are closed on both sides', () => Promise.resolve(open() <= before))
})

overHttp1('the last request of a connection is told so, and none is lost', async (t, protocol) => {
  const own = await startWith(t, { connections: { maxRequests: 3 } }, [protocol])
  const line = await serves(t, own, protocol)
  line.write(wireRequest('echo', good))
  await line.answered(2)
  assert.doesNotMatch(line.received, /connection: close/i)
  line.write(wireRequest('echo', good))
  await line.answered(3)
  await line.gone()
  assert.equal(line.received.match(/connection: close/gi)?.length, 1)
})

overHttp1('of requests that were sent ahead as many are answered as a connection may have', async (t, protocol) => {
  const own = await startWith(t, { connections: { maxRequests: 3 } }, [protocol])
  const line = await Line.open(t, own, protocol)
  line.write(wireRequest('echo', good).repeat(5))
  await line.gone()
  assert.deepEqual(line.statuses, [200, 200, 200])
})

overHttp1('requests sent ahead are answered in their order', async (t, protocol) => {
  const line = await Line.open(t, everywhere, protocol)
  const asked = [
    wireRequest('echo', good),
    get,
    wireRequest('nobody', good),
    wireRequest('echo', '{'),
    get.replace('v2', ''),
  ]
  line.write(asked.join('').repeat(3))
  await line.answered(15)
  assert.deepEqual(
    line.statuses,
    [1, 2, 3].flatMap(() => [200, 200, 404, 400, 404]),
  )
})

overHttp1('a head with too many fields is refused with 431, and as many as may be are let in', async (t, protocol) => {
  const own = await startWith(t, { head: { maxFields: 20 } }, [protocol])
  const line = await Line.open(t, own, protocol)
  const head = (fields: number) => `GET /v2 HTTP/1.1\r\nhost: a\r\n${'x: y\r\n'.repeat(fields - 1)}\r\n`
  line.write(head(20))
  await line.answered(1)
  line.write(head(21))
  await line.answered(2)
  assert.deepEqual(line.statuses, [200, 431])
  assert.match(line.received, /"code":"header_too_large"/)
})

overHttp1(
  'a client that says nothing more after its request is answered at once, or its connection ends',
  async (t, protocol) => {
    for (const [asked, status] of [
      [get, 200],
      [wireRequest('nobody', good), 404],
    ] as const) {
      const line = await Line.open(t, everywhere, protocol, true)
      line.socket.end(asked)
      await line.over
      assert.deepEqual(line.statuses, [status])
    }
    const line = await Line.open(t, everywhere, protocol, true)
    line.socket.end(wireRequest('echo', good))
    await line.over
    assert.ok(line.hasEnded)
  },
)

/** Sends on, a little in each turn, until it is told that the connection is over; its next write may well come first. */
async function pushes(t: TestContext, protocol: Http1, head: string): Promise<string> {
  const line = await Line.open(t, everywhere, protocol)
  line.write(head)
  const piece = Buffer.alloc(65_536, ' ')
  for (let sent = 0; !line.isGone && !line.hasEnded && sent < 20_000_000; await nextTurn()) {
    if (line.socket.writableNeedDrain) continue
    line.socket.write(piece)
    sent += piece.length
  }
  await line.over
  line.socket.destroy()
  return line.received
}

const early = [
  ['413', 'too_large', wireRequest('echo', '', { 'content-length': '20000000' })],
  ['404', 'not_found', wireRequest('nobody', '', { 'content-length': '20000000' })],
] as const

overHttp1('early refusals reach clients that go on sending, fifty times out of fifty', async (t, protocol) => {
  const all = early.map(async ([status, code, head]) => {
    const whole = new RegExp(`^HTTP/1\\.1 ${status} [^]*"code":"${code}","request_id":"[^"]+"}$`)
    const answers = await Promise.all(Array.from({ length: 50 }, () => pushes(t, protocol, head)))
    for (const answer of answers) assert.match(answer, whole)
  })
  await Promise.all(all)
  await until('their connections are over', async () => (await connections(everywhere.served[protocol]))[0] === 0)
})

/** Times that a test can wait for. */
const hasty = await startWith(wholeFile, {
  head: { timeoutMs: 400 },
  body: { timeoutMs: 700 },
  connections: { idleMs: 500, stallMs: 400 },
})

overHttp1('a client that takes none of its answer is cut, and others are served', async (t, protocol) => {
  const line = await Line.open(t, hasty, protocol)
  line.socket.pause()
  line.write(wireRequest('zeros', large))
  const other = await serves(t, hasty, protocol)
  other.socket.destroy()
  await until('it is cut', async () => (await connections(hasty.served[protocol]))[0] === 0)
  line.socket.resume()
  await line.gone()
  assert.ok(line.received.length < 16_000_000)
})

/** How connections come to their end that the client does not close. */
const endings: Record<string, string | Uint8Array> = {
  'was idle': get,
  'sent half a head': 'GET /v2 HTT',
  'sent half a body': wireRequest('echo', '', { 'content-length': '50' }),
  'sent no HTTP': 'hello\r\n\r\n',
  'sent a large head': `GET /v2 HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
  'asked for a proxy': 'CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n',
  'wanted the connection to end': get.replace('host', 'connection: close\r\nhost'),
  'was refused early': wireRequest('echo', 'x'.repeat(100_000), { 'content-length': '20000000' }),
  'had an idle session of HTTP/2': opening(),
}

suite('those that take their time', { concurrency: true }, () => {
  overHttp1(
    'a connection is ended when nothing comes for too long, at first, within a head or later',
    async (t, protocol) => {
      const silent = await Line.open(t, hasty, protocol)
      const slow = await Line.open(t, hasty, protocol)
      slow.write('GET /v2 HTT')
      const idle = await Line.open(t, hasty, protocol)
      idle.write(wireRequest('echo', good) + get)
      await Promise.all([silent, slow, idle].map((line) => line.gone()))
      assert.deepEqual([slow.statuses, idle.statuses], [[408], [200, 200]])
    },
  )

  for (const protocol of ['http', 'http on node'] as const)
    test(`clients that are told that it is over and stay take no place, over ${protocol}`, async (t) => {
      const timeouts = {
        head: { timeoutMs: 300 },
        body: { timeoutMs: 300 },
        connections: { idleMs: 300, stallMs: 300 },
      }
      const own = await startWith(t, timeouts, [protocol])
      const lines: Record<string, Line> = {}
      for (const [what, sent] of Object.entries(endings)) {
        lines[what] = await Line.open(t, own, protocol, true)
        lines[what].socket.write(sent)
      }
      await Promise.all(Object.values(lines).map(({ over }) => over))
      await until('they are all cut', async () => String(await connections(own.served[protocol])) === '0,0')
    })

  test('a request that takes longer than a connection may be idle is answered, over every protocol', async (t) => {
    const edge = { http2: { cleartext: true }, connections: { idleMs: 300 }, head: { timeoutMs: 300 } }
    const own = await startEverywhere(t, { store, settings: { runtime, edge, batching: fixed(100, 2_500) } })
    const answers = protocols.map(async (protocol) => {
      const client = own.open(t, protocol)
      const headers = { 'content-type': 'application/json' }
      const { status } = await client.send({ path: '/v2/models/echo/infer', headers, body: good })
      assert.equal(status, 200, protocol)
    })
    await Promise.all(answers)
  })
})
