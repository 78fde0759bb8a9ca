/** The PROXY protocol: its header as bytes, and what it does in front of a connection. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { readProxyHeader } from '../src/edge/transport/proxy-header.ts'
import { samples, until, wholeFile } from './support/client.ts'
import { identity } from './support/onnx.ts'
import {
  http1Protocols,
  isHttp2,
  isOverTls,
  protocols,
  startEverywhere,
  type Everywhere,
  type Protocol,
} from './support/protocols.ts'

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const tcp4 = '192.0.2.1 198.51.100.1 56324 443'
const tcp6 = '2001:db8::1 2001:db8:ffff::2 56324 443'

function line(text: string): Buffer {
  return Buffer.from(`PROXY ${text}\r\n`)
}

/** A header of version 2. `kind` holds version and command, `family` addresses and transport. */
function binary(kind: number, family: number, rest: Uint8Array): Buffer {
  return Buffer.concat([signature, Buffer.of(kind, family, rest.length >> 8, rest.length & 255), rest])
}

/** Addresses and ports of version 2, out of hexadecimal digits. */
function hex(...parts: readonly string[]): Buffer {
  return Buffer.from(parts.join('').replaceAll(/[ :]/g, ''), 'hex')
}

const inet = hex('c0000201', 'c6336401', 'dc04', '01bb')
const inet6 = hex('2001:0db8:0000:0000:0000:0000:0000:0001', '2001:0db8:ffff:0000:0000:0000:0000:0002', 'dc04', '01bb')
const tlvs = hex('03 0004 a1b2c3d4', '04 0010', '00'.repeat(16), 'e0 0003 010203')

/** What stands in front, and whose connection it then is; undefined for the balancer's own. */
const whole: readonly (readonly [what: string, header: Buffer, address: string | undefined])[] = [
  ['TCP over IPv4', line(`TCP4 ${tcp4}`), '192.0.2.1'],
  ['the most that IPv4 can need', line('TCP4 255.255.255.255 255.255.255.255 65535 65535'), '255.255.255.255'],
  ['ports from the least', line('TCP4 192.0.2.1 198.51.100.1 0 1'), '192.0.2.1'],
  ['TCP over IPv6', line(`TCP6 ${tcp6}`), '2001:db8::1'],
  ['an IPv4 address in IPv6', line('TCP6 ::ffff:192.0.2.1 ::1 1 2'), '::ffff:192.0.2.1'],
  ['an unknown client', line('UNKNOWN'), undefined],
  ['an unknown client with addresses', line(`UNKNOWN ${tcp6}`), undefined],
  ['the longest line', line(`UNKNOWN ${'f'.repeat(107 - 16)}`), undefined],
  ['IPv4 in version 2', binary(0x21, 0x11, inet), '192.0.2.1'],
  ['IPv4 with more behind it', binary(0x21, 0x11, Buffer.concat([inet, tlvs])), '192.0.2.1'],
  ['IPv6 in version 2', binary(0x21, 0x21, inet6), '2001:db8:0:0:0:0:0:1'],
  ['IPv6 with more behind it', binary(0x21, 0x21, Buffer.concat([inet6, tlvs])), '2001:db8:0:0:0:0:0:1'],
  ['more that makes no sense', binary(0x21, 0x11, Buffer.concat([inet, Buffer.of(4, 255, 255, 1)])), '192.0.2.1'],
  ['as much more as there may be', binary(0x21, 0x11, Buffer.concat([inet, Buffer.alloc(4_084)])), '192.0.2.1'],
  ['the balancer itself', binary(0x20, 0x00, Buffer.alloc(0)), undefined],
  ['the balancer itself, with addresses', binary(0x20, 0x11, inet), undefined],
  ['the balancer itself, of any family', binary(0x20, 0xff, tlvs), undefined],
  ['no family', binary(0x21, 0x00, Buffer.alloc(0)), undefined],
  ['no family, with more behind it', binary(0x21, 0x00, tlvs), undefined],
  // A receiver falls back to its own address for the valid families that it does not know (section 2.2).
  ['UDP over IPv4', binary(0x21, 0x12, inet), undefined],
  ['UDP over IPv6', binary(0x21, 0x22, inet6), undefined],
  ['a UNIX stream', binary(0x21, 0x31, Buffer.alloc(216)), undefined],
  ['UNIX datagrams', binary(0x21, 0x32, Buffer.alloc(216)), undefined],
]

for (const [what, header, address] of whole) {
  test(`a whole header is read, and no byte more: ${what}`, () => {
    const bytes = header.length
    const expected = address === undefined ? { kind: 'local', bytes } : { kind: 'proxied', bytes, address }
    assert.deepEqual(readProxyHeader(header), expected)
    for (const next of ['GET / HTTP/1.1\r\n\r\n', '\r\n', 'PROXY TCP4 ', '\u0016\u0003\u0001']) {
      assert.deepEqual(readProxyHeader(Buffer.concat([header, Buffer.from(next)])), expected)
    }
  })
}

test('a header that is cut anywhere is waited for', () => {
  for (const [what, header] of whole) {
    for (let length = 0; length < header.length; length++) {
      assert.deepEqual(readProxyHeader(header.subarray(0, length)), { kind: 'partial' }, `${what}, ${length} bytes`)
    }
  }
})

const broken: Readonly<Record<string, string | Buffer>> = {
  'a request without a header': 'GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n',
  'the first byte of a request': 'G',
  'the beginning of HTTP/2': 'PRI',
  'the beginning of a TLS handshake': hex('16 0301 0200 01'),
  'empty lines': '\r\n\r\n\r\n',
  'the word in lower case': 'proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n',
  'a longer word': 'PROXYS TCP4 192.0.2.1 198.51.100.1 1 2\r\n',
  'the word alone': 'PROXY\r\n',
  'no family': 'PROXY \r\n',
  'a family in lower case': 'PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n',
  'an unknown family': 'PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n',
  'no addresses': 'PROXY TCP4\r\n',
  'one address': 'PROXY TCP4 192.0.2.1\r\n',
  'no ports': 'PROXY TCP4 192.0.2.1 198.51.100.1\r\n',
  'one port': 'PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n',
  'three ports': 'PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n',
  'a space at the end': 'PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n',
  'two spaces': 'PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n',
  'a tab': 'PROXY\tTCP4 192.0.2.1 198.51.100.1 1 2\r\n',
  'IPv6 where IPv4 is said': 'PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n',
  'IPv4 where IPv6 is said': 'PROXY TCP6 192.0.2.1 2001:db8::1 1 2\r\n',
  'an address that is none': 'PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n',
  'an address with zeros in front': 'PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n',
  'a short address': 'PROXY TCP4 192.2 198.51.100.1 1 2\r\n',
  'a name for an address': 'PROXY TCP4 localhost 198.51.100.1 1 2\r\n',
  'a target that is none': 'PROXY TCP4 192.0.2.1 198.51.100.1.1 1 2\r\n',
  'a port over the most': 'PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n',
  'a port below the least': 'PROXY TCP4 192.0.2.1 198.51.100.1 -1 2\r\n',
  'a port with a zero in front': 'PROXY TCP4 192.0.2.1 198.51.100.1 080 2\r\n',
  'a port in hexadecimal': 'PROXY TCP4 192.0.2.1 198.51.100.1 0x50 2\r\n',
  'a line that ends without a carriage return': `PROXY TCP4 ${tcp4}\n${' '.repeat(80)}`,
  'a line that is too long': `PROXY UNKNOWN ${'f'.repeat(107 - 15)}\r\n`,
  'a line that does not end': 'PROXY TCP4 '.padEnd(107, '1'),
  'a signature with a byte wrong': Buffer.concat([signature.subarray(0, 11), Buffer.of(0x0b, 0x21, 0x11, 0, 12), inet]),
  'version 1 in version 2': binary(0x11, 0x11, inet),
  'version 3': binary(0x31, 0x11, inet),
  'an unknown command': binary(0x22, 0x11, inet),
  'an unknown family in version 2': binary(0x21, 0x41, inet),
  'an unknown transport': binary(0x21, 0x13, inet),
  'too little for IPv4': binary(0x21, 0x11, inet.subarray(1)),
  'too little for IPv6': binary(0x21, 0x21, inet6.subarray(1)),
  'IPv6 with the addresses of IPv4': binary(0x21, 0x21, inet),
  'more than there may be': binary(0x21, 0x11, Buffer.alloc(4_097)),
}

for (const [what, bytes] of Object.entries(broken)) {
  test(`what is no header is told at once: ${what}`, () => {
    assert.deepEqual(readProxyHeader(Buffer.from(bytes as string, 'latin1')), { kind: 'broken' })
  })
}

const store = { 'echo.onnx': identity('FP32', ['n', 2]) }

function startWith(edge: object): Promise<Everywhere> {
  const common = { http2: { cleartext: true }, head: { timeoutMs: 400 } }
  return startEverywhere(wholeFile, { store, settings: { runtime: { executors: 1 }, edge: { ...common, ...edge } } })
}

const behind = await startWith({ proxyProtocol: ['127.0.0.1'] })
const capped = await startWith({
  proxyProtocol: ['127.0.0.0/8'],
  connections: { maxPerAddress: 2, shared: ['203.0.113.0/24'] },
})
const bare = await startWith({ proxyProtocol: ['192.0.2.0/24', '::1'] })

async function dial(t: TestContext, there: Everywhere, protocol: Protocol): Promise<Socket> {
  const { hostname, port } = new URL(there.served[protocol].url)
  const socket = connect(Number(port), hostname)
  socket.setNoDelay()
  socket.on('error', () => undefined)
  t.after(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

type Cut = 'in one piece' | 'apart' | 'byte by byte'

/** A connection that has a header in front of the first bytes that are written to it. */
function behindHeader(socket: Socket, header: Buffer, cut: Cut): Duplex {
  let before: Buffer | undefined = header
  const write = async (chunk: Buffer, _: string, done: () => void) => {
    const bytes = before ? Buffer.concat([before, chunk]) : chunk
    const step = !before || cut === 'in one piece' ? bytes.length : cut === 'apart' ? before.length : 1
    before = undefined
    for (let at = 0; at < bytes.length; at += step) {
      socket.write(bytes.subarray(at, at + step))
      await nextTurn()
    }
    done()
  }
  const duplex = new Duplex({
    read: () => undefined,
    write: (...args) => void write(...args),
    final: (done) => done(),
  })
  socket.on('data', (chunk: Buffer) => duplex.push(chunk))
  socket.on('close', () => duplex.destroy())
  duplex.on('error', () => undefined)
  return duplex
}

const asked = 'GET /v2/models/echo HTTP/1.1\r\nhost: localhost\r\n\r\n'

/** The status of an answer over a connection; NaN if it ends without one. */
async function statusOver(under: Duplex, there: Everywhere, protocol: Protocol): Promise<number> {
  const ALPNProtocols = [isHttp2(protocol) ? 'h2' : 'http/1.1']
  const over = isOverTls(protocol)
    ? connectTls({ socket: under, ca: there.ca, host: '127.0.0.1', ALPNProtocols })
    : under
  over.on('error', () => undefined)
  const { promise, resolve } = Promise.withResolvers<number>()
  over.on('close', () => resolve(NaN))
  if (isHttp2(protocol)) {
    const session = connectHttp2(there.served[protocol].url, { createConnection: () => over })
    session.on('error', () => undefined)
    const stream = session.request({ ':path': '/v2/models/echo' })
    stream.on('error', () => undefined)
    stream.on('response', (head) => resolve(Number(head[':status'])))
  } else {
    over.write(asked)
    over.on('data', (chunk: Buffer) => resolve(Number(/^HTTP\/1\.1 (\d{3}) /.exec(chunk.toString('latin1'))?.[1])))
  }
  return promise
}

async function refused(there: Everywhere, protocol: Protocol, reason = 'proxy_header'): Promise<number> {
  const name = `penstock_connections_refused_total{reason="${reason}"}`
  return (await samples(there.served[protocol])).get(name) ?? 0
}

for (const protocol of protocols) {
  test(`a header in front is taken off, however it is cut, over ${protocol}`, async (t) => {
    const headers = [line(`TCP4 ${tcp4}`), line('UNKNOWN'), binary(0x21, 0x21, Buffer.concat([inet6, tlvs]))]
    for (const header of [...headers, binary(0x20, 0, Buffer.alloc(0))]) {
      for (const cut of ['in one piece', 'apart', 'byte by byte'] as const) {
        const socket = await dial(t, behind, protocol)
        const what = `${header.toString('latin1')}, ${cut}`
        assert.equal(await statusOver(behindHeader(socket, header, cut), behind, protocol), 200, what)
        socket.destroy()
      }
    }
    assert.equal(await refused(behind, protocol), 0)
  })
}

for (const [i, protocol] of protocols.entries()) {
  test(`the address in the header is the one that counts, over ${protocol}`, async (t) => {
    const open = async (family: string, address: string) => {
      const socket = await dial(t, capped, protocol)
      const header = line(`${family} ${address} ${address} 1 2`)
      return { socket, status: await statusOver(behindHeader(socket, header, 'in one piece'), capped, protocol) }
    }
    const before = await refused(capped, protocol, 'address')
    const first = await open('TCP4', `192.0.2.${i}`)
    // As a socket for both families shows it.
    assert.deepEqual([first.status, (await open('TCP6', `::ffff:192.0.2.${i}`)).status], [200, 200])
    const tooMany = isHttp2(protocol) || isOverTls(protocol) ? NaN : 503
    assert.equal((await open('TCP4', `192.0.2.${i}`)).status, tooMany)
    assert.equal((await open('TCP4', `198.51.100.${i}`)).status, 200, 'another address')
    for (const end of ['::1', ':0:ffff::2']) assert.equal((await open('TCP6', `2001:db8:${i}${end}`)).status, 200, end)
    assert.equal((await open('TCP6', `2001:db8:${i}:0:1::3`)).status, tooMany, 'a third address of one network')
    assert.equal((await open('TCP6', `2001:db8:${i}:1::1`)).status, 200, 'another network')
    for (let n = 0; n < 4; n++) assert.equal((await open('TCP4', '203.0.113.9')).status, 200, 'a shared address')
    assert.equal((await refused(capped, protocol, 'address')) - before, 2)
    first.socket.destroy()
    await until('its place is free', async () => (await open('TCP4', `192.0.2.${i}`)).status === 200)
  })
}

test('where a header is required, who sends none or a wrong one is cut and counted, and others are served', async (t) => {
  for (const protocol of http1Protocols) {
    const before = await refused(behind, protocol)
    const all = Object.values(broken)
    for (const bytes of all) {
      const socket = await dial(t, behind, protocol)
      let received = ''
      socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')))
      socket.write(Buffer.from(bytes as string, 'latin1'))
      await once(socket, 'close')
      assert.equal(received, '')
    }
    assert.equal((await refused(behind, protocol)) - before, all.length)
    const socket = await dial(t, behind, protocol)
    assert.equal(await statusOver(behindHeader(socket, line('UNKNOWN'), 'apart'), behind, protocol), 200)
  }
})

test('a header that does not come, or not to its end, is waited for only so long', async (t) => {
  const before = await refused(behind, 'http')
  const halves = ['', 'PROXY TCP4 192.', signature.subarray(0, 7), binary(0x21, 0x11, inet).subarray(0, 20)]
  const closed = halves.map(async (half) => {
    const socket = await dial(t, behind, 'http')
    socket.write(half)
    socket.resume()
    await once(socket, 'close')
  })
  await Promise.all(closed)
  assert.equal((await refused(behind, 'http')) - before, halves.length)
})

test('who hangs up within the header leaves its place to others', async (t) => {
  const narrow = await startWith({ proxyProtocol: ['127.0.0.1'], connections: { max: 1 } })
  for (let i = 0; i < 5; i++) {
    const leaving = await dial(t, narrow, 'http')
    leaving.write('PROXY TCP4 192.')
    await nextTurn()
    leaving.destroy()
    await until('its place is free', async () => {
      const socket = await dial(t, narrow, 'http')
      const status = await statusOver(behindHeader(socket, line('UNKNOWN'), 'in one piece'), narrow, 'http')
      socket.destroy()
      return status === 200
    })
  }
})

test('a header counts once: behind the first request it is no request', async (t) => {
  const socket = await dial(t, behind, 'http')
  let received = ''
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')))
  socket.write(`PROXY UNKNOWN\r\n${asked}${asked}PROXY UNKNOWN\r\n${asked}`)
  await once(socket, 'close')
  const statuses = [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
  assert.deepEqual(statuses.slice(0, 2), [200, 200])
  assert.ok(!statuses.slice(2).includes(200))
})

test('from an address that is not listed a header is a broken request, and none is needed', async (t) => {
  for (const header of [line(`TCP4 ${tcp4}`), line('UNKNOWN'), binary(0x21, 0x11, inet)]) {
    for (const protocol of protocols) {
      const socket = await dial(t, bare, protocol)
      const status = await statusOver(behindHeader(socket, header, 'in one piece'), bare, protocol)
      const isTold = !isHttp2(protocol) && !isOverTls(protocol)
      assert.ok(isTold ? status === 400 : Number.isNaN(status), `${protocol} is answered ${status}`)
      const plain = await dial(t, bare, protocol)
      const none = Buffer.alloc(0)
      assert.equal(await statusOver(behindHeader(plain, none, 'in one piece'), bare, protocol), 200)
    }
  }
  assert.equal(await refused(bare, 'http'), 0)
})
