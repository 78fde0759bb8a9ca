/** HTTPS as clients meet it: what is agreed upon, who is let in, and what those get who do not shake hands properly. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { issue } from '../src/cli/certificate.ts'
import { samples, until, wholeFile } from './support/client.ts'
import { configWith, type TestGateway } from './support/gateway.ts'
import {
  agree,
  clientHello,
  isLetIn,
  isRefused,
  put,
  serveTls,
  stall,
  tlsVersions,
  visit,
  visitHttp2,
} from './support/handshake.ts'
import { openClient } from './support/protocols.ts'
import { Wire } from './support/socket.ts'
import { authority, certificateFolder, clientCertificate, pairsIn, serverCertificate } from './support/tls.ts'

const by = authority()
const other = authority('other authority')
const ca = by.cert
const folder = await certificateFolder({
  ca: by,
  first: serverCertificate(by, 'first', 'localhost', '127.0.0.1'),
  api: serverCertificate(by, 'api.example.com'),
  wild: serverCertificate(by, '*.wild.example'),
})

function serve(t: TestContext, tls: object = {}, edge: object = {}): Promise<TestGateway> {
  return serveTls(t, { certificates: pairsIn(folder, 'first', 'api', 'wild'), ...tls }, edge)
}

const gateway = await serve(wholeFile)
const guarded = await serve(wholeFile, { clientCa: `${folder}/ca.pem` })
const hello = await clientHello()

async function servesOn(served: TestGateway = gateway): Promise<void> {
  assert.equal((await visit(served, { ca })).status, 200)
}

async function handshakes(served: TestGateway, outcome: 'ok' | 'failed'): Promise<number> {
  return (await samples(served)).get(`penstock_tls_handshakes_total{outcome="${outcome}"}`)!
}

async function openConnections(served: TestGateway): Promise<(number | undefined)[]> {
  const now = await samples(served)
  return ['http/1.1', 'h2'].map((protocol) => now.get(`penstock_connections{protocol="${protocol}"}`))
}

test('TLS 1.3 is spoken with who speaks it, and 1.2 with who does not', async (t) => {
  for (const version of tlsVersions) {
    assert.equal((await agree(t, gateway, { ca, maxVersion: version })).version, version)
    assert.equal((await visit(gateway, { ca, maxVersion: version })).status, 200)
  }
})

test('versions of TLS before 1.2 are refused', async (t) => {
  for (const version of ['TLSv1', 'TLSv1.1'] as const) {
    const old = { ca, minVersion: version, maxVersion: version, ciphers: 'DEFAULT:@SECLEVEL=0' }
    await assert.rejects(agree(t, gateway, old), { code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' })
  }
})

test('where TLS 1.3 is the oldest, 1.2 is refused', async (t) => {
  const modern = await serve(t, { minVersion: '1.3' })
  await assert.rejects(agree(t, modern, { ca, maxVersion: 'TLSv1.2' }), {
    code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  })
  assert.equal((await agree(t, modern, { ca })).version, 'TLSv1.3')
})

test('ciphers without forward secrecy or authenticated encryption are refused', async (t) => {
  const weak = ['ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA', 'AES128-GCM-SHA256:AES256-SHA']
  for (const ciphers of weak) {
    await assert.rejects(agree(t, gateway, { ca, maxVersion: 'TLSv1.2', ciphers }), /handshake failure/)
  }
  const { cipher } = await agree(t, gateway, { ca, maxVersion: 'TLSv1.2', ciphers: `${weak.join(':')}:HIGH` })
  assert.match(cipher, /^ECDHE-ECDSA-.*(GCM|POLY1305)/)
})

test('the ciphers of the configuration are those that are spoken', async (t) => {
  const chosen = 'ECDHE-ECDSA-AES256-GCM-SHA384'
  const picky = await serve(t, { ciphers: chosen })
  assert.equal((await agree(t, picky, { ca, maxVersion: 'TLSv1.2' })).cipher, chosen)
  const without = { ca, maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' } as const
  await assert.rejects(agree(t, picky, without), /handshake failure/)
  await assert.rejects(serve(t, { ciphers: 'NONSENSE' }), /^Error: [^\n]*cipher[^\n]*$/)
})

test('HTTP/2 and HTTP/1.1 are spoken on one port, as the client chooses', async (t) => {
  for (const protocol of ['https', 'h2'] as const) {
    const client = openClient(t, protocol, { url: gateway.url, ca })
    assert.equal((await client.send({ path: '/v2' })).status, 200)
  }
  const agreed = async (...ALPNProtocols: string[]) => (await agree(t, gateway, { ca, ALPNProtocols })).alpn
  assert.equal(await agreed('h2'), 'h2')
  assert.equal(await agreed('http/1.1'), 'http/1.1')
  assert.equal(await agreed('http/1.1', 'h2'), 'h2')
  assert.equal(await agreed('spdy/3', 'http/1.1'), 'http/1.1')
})

test('a client that names no protocol gets HTTP/1.1, and one that names unknown ones only is refused', async (t) => {
  const { socket, alpn } = await agree(t, gateway, { ca })
  assert.equal(alpn, false)
  socket.write('GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n')
  assert.match(String(await new Promise((resolve) => socket.once('data', resolve))), /^HTTP\/1\.1 200 /)
  await assert.rejects(agree(t, gateway, { ca, ALPNProtocols: ['spdy/3', 'http/1.0'] }), {
    code: 'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
  })
})

test('the name that a client asks for chooses the certificate, and the first one serves all other names', async () => {
  const expected: [servername: string, shown: string][] = [
    ['api.example.com', 'api.example.com'],
    ['API.Example.COM', 'api.example.com'],
    ['a.wild.example', '*.wild.example'],
    ['b.wild.example', '*.wild.example'],
    ['localhost', 'first'],
    ['a.b.wild.example', 'first'],
    ['wild.example', 'first'],
    ['nobody.example', 'first'],
    ['ÿ', 'first'],
    ['n'.repeat(255), 'first'],
    ['', 'first'],
  ]
  for (const version of tlsVersions) {
    for (const [servername, name] of expected) {
      const options = { ca, servername, maxVersion: version, checkServerIdentity: () => undefined }
      const visited = await visit(gateway, options)
      assert.deepEqual([visited.status, visited.shown], [200, name], `${version} ${servername}`)
    }
  }
})

/** How long a ticket is good for by default, in seconds, as OpenSSL writes it into a session. */
const twelveHours = Buffer.from('a905020300a8c0', 'hex')

test('a client resumes its session while nothing changes, whatever name it asked for', async () => {
  for (const maxVersion of tlsVersions) {
    for (const servername of ['', 'localhost', 'api.example.com']) {
      const options = { ca, servername, maxVersion, checkServerIdentity: () => undefined }
      const { session, resumed, ticketKey } = await visit(gateway, options)
      assert.equal(resumed, false)
      assert.ok(session.includes(twelveHours))
      const again = await visit(gateway, { ...options, session })
      assert.deepEqual([again.status, again.resumed, again.version], [200, true, maxVersion])
      assert.equal((await visit(gateway, options)).ticketKey, ticketKey)
    }
  }
})

test('session tickets are good for so long, and their key changes as often', async (t) => {
  const hasty = await serve(t, { ticketMs: 1, reloadMs: 10 })
  for (const maxVersion of tlsVersions) {
    const { session, ticketKey } = await visit(hasty, { ca, maxVersion })
    await until('the key has changed', async () => (await visit(hasty, { ca })).ticketKey !== ticketKey)
    const { status, resumed } = await visit(hasty, { ca, maxVersion, session })
    assert.deepEqual([status, resumed], [200, false])
  }
})

/** What a client shows of itself, and whom it trusts. */
function showing({ cert, key }: { readonly cert: string; readonly key: string }) {
  return { ca, cert, key }
}

test('with `clientCa` a client gets in that shows a certificate of this authority', async (t) => {
  const alice = showing(clientCertificate(by, 'alice'))
  for (const maxVersion of tlsVersions) {
    const { status, session } = await visit(guarded, { ...alice, maxVersion })
    assert.equal(status, 200)
    assert.equal(await visitHttp2(t, guarded, { ...alice, maxVersion }), 200)
    const again = await visit(guarded, { ...alice, maxVersion, session })
    assert.deepEqual([again.status, again.resumed], [200, true])
  }
})

test('with `clientCa` nobody gets in without a certificate, or with one of another authority or for servers', async (t) => {
  const strangers = [{ ca }, showing(clientCertificate(other, 'alice')), showing(serverCertificate(by, 'alice'))]
  for (const maxVersion of tlsVersions) {
    for (const stranger of strangers) {
      const before = await handshakes(guarded, 'failed')
      await assert.rejects(visit(guarded, { ...stranger, maxVersion }), isRefused)
      await assert.rejects(visitHttp2(t, guarded, { ...stranger, maxVersion }), isRefused)
      await until('both were counted', async () => (await handshakes(guarded, 'failed')) === before + 2)
    }
  }
})

test('a client whose certificate has expired gets in no more, by resuming neither', async () => {
  const threeSeconds = 3 / 86_400
  const alice = issue(
    { subject: 'alice', days: threeSeconds, issued: { by, as: 'client', names: ['alice'] } },
    Date.now(),
  )
  const visits = tlsVersions.map((maxVersion) => visit(guarded, { ...showing(alice), maxVersion }))
  const [older, newer] = (await Promise.all(visits)).map(({ session }) => session)
  await setTimeout(new X509Certificate(alice.cert).validToDate.getTime() - Date.now())
  await until('it is out', async () => !(await isLetIn(guarded, showing(alice))))
  assert.equal(await isLetIn(guarded, { ...showing(alice), maxVersion: 'TLSv1.2', session: older }), false)
  assert.equal(await isLetIn(guarded, { ...showing(alice), session: newer }), false)
})

test('`auth: none` serves beyond this machine only clients with a certificate', async () => {
  const certificates = pairsIn(folder, 'first')
  const open = (tls?: object) => configWith({ edge: { host: '0.0.0.0', ...(tls && { tls }) } })
  for (const tls of [undefined, { certificates }]) {
    await assert.rejects(open(tls), /edge\.host: `auth: none` lets everybody in.*`edge\.tls\.clientCa`/)
  }
  const { config } = await open({ certificates, clientCa: `${folder}/ca.pem` })
  assert.equal(config.edge.host, '0.0.0.0')
})

/** Without TLS on the port that speaks it. */
function openPlain(t: TestContext, { url }: TestGateway): Promise<Wire> {
  return Wire.open(t, url.replace('https:', 'http:'))
}

test('plain HTTP on the port is answered 400 with the advice to use https, and the connection ends', async (t) => {
  for (const request of ['GET /v2 HTTP/1.1', 'POST /v2/models/echo/infer HTTP/1.1', 'DELETE / HTTP/1.0']) {
    const wire = await openPlain(t, gateway)
    wire.write(`${request}\r\nhost: a\r\ncontent-length: 100000\r\n\r\n${'x'.repeat(100_000)}`)
    const { status, headers, json } = await wire.reply()
    assert.deepEqual([status, headers.get('connection'), json.code], [400, 'close', 'invalid'])
    assert.match(json.error, /https:\/\//)
    await wire.gone
  }
  await servesOn()
})

test('bytes that are no handshake end the connection', async (t) => {
  const record = (length: number) =>
    Buffer.concat([Buffer.of(22, 3, 1, length >> 8, length & 255), Buffer.alloc(length)])
  const cutShort = Buffer.from(hello)
  cutShort.writeUInt16BE(hello.length - 20, 3)
  const odd = ['SSH-2.0-OpenSSH_9.6\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'CONNECT a:1 HTTP/1.1\r\n\r\n']
  for (const bytes of [...odd, '\0'.repeat(64), record(512), record(0xffff), Buffer.concat([cutShort, cutShort])]) {
    const before = await handshakes(gateway, 'failed')
    const wire = await openPlain(t, gateway)
    wire.write(bytes)
    // What looks like a request is told so.
    if (odd.includes(String(bytes))) assert.equal((await wire.reply()).status, 400)
    await wire.gone
    await until('it was counted', async () => (await handshakes(gateway, 'failed')) === before + 1)
  }
  await servesOn()
})

test('a client that says nothing of a handshake, half of it or its beginning is cut off in time', async (t) => {
  const hasty = await serve(t, { handshakeMs: 300 })
  const slow = await Promise.all(
    [undefined, hello.subarray(0, 3), hello.subarray(0, 60), hello].map((said) => stall(t, hasty, said)),
  )
  assert.deepEqual(await Promise.all(slow.map(({ gone }) => gone)), [true, true, true, true])
  await servesOn(hasty)
})

test('handshakes over the most at once wait for their turn, unless their clients go away meanwhile', async (t) => {
  const narrow = await serve(t, { maxHandshakes: 1 })
  const first = await stall(t, narrow, hello)
  assert.ok(await first.answered)
  const second = await stall(t, narrow, hello)
  const impatient = await stall(t, narrow, hello)
  impatient.socket.resetAndDestroy()
  const third = visit(narrow, { ca })
  // Others shake hands meanwhile, so it was not for want of a turn of the event loop.
  for (let i = 0; i < 5; i++) await servesOn()
  assert.equal(second.socket.bytesRead, 0)
  first.socket.destroy()
  assert.ok(await second.answered)
  second.socket.destroy()
  assert.equal((await third).status, 200)
  await servesOn(narrow)
})

test('handshakes that are stuck keep others out for no longer than they may take', async (t) => {
  const narrow = await serve(t, { maxHandshakes: 2, handshakeMs: 500 })
  const stuck = await Promise.all([1, 2, 3, 4, 5].map(() => stall(t, narrow, hello)))
  await Promise.race(stuck.map(({ answered }) => answered))
  // As clients do, it tries again if it is cut off while it waits.
  await until('another client is served', () => isLetIn(narrow, { ca }))
  assert.deepEqual(await Promise.all(stuck.map(({ gone }) => gone)), [true, true, true, true, true])
})

test('clients that connect and say nothing keep nobody from shaking hands', async (t) => {
  const narrow = await serve(t, { maxHandshakes: 2, handshakeMs: 2_000 })
  const silent = await Promise.all([1, 2, 3, 4].map(() => stall(t, narrow)))
  await servesOn(narrow)
  assert.ok(silent.every(({ socket }) => !socket.closed))
})

test('clients that go away in the middle of a handshake leave nothing behind', async (t) => {
  const small = await serve(t, { maxHandshakes: 2 }, { connections: { max: 3 } })
  for (let i = 1; i <= 12; i++) {
    const client = await stall(t, small, hello.subarray(0, i % 3 === 0 ? 60 : hello.length))
    // Others shake hands meanwhile, so by then its handshake has begun.
    await (i % 3 === 1 ? client.answered : servesOn())
    if (i % 2 === 0) client.socket.resetAndDestroy()
    else client.socket.destroy()
    await until('it was counted', async () => (await handshakes(small, 'failed')) === i)
  }
  assert.deepEqual(await openConnections(small), [0, 0])
  await servesOn(small)
  assert.equal(await handshakes(small, 'ok'), 1)
  await until('it is gone', async () => (await openConnections(small))[0] === 0)
})

test('metrics count open connections by what is spoken on them', async (t) => {
  const served = await serve(t)
  const client = openClient(t, 'h2', { url: served.url, ca })
  await client.send({ path: '/v2' })
  const { socket } = await agree(t, served, { ca, ALPNProtocols: ['http/1.1'] })
  await until('both are open', async () => String(await openConnections(served)) === '1,1')
  socket.destroy()
  client.session!.close()
  await until('both are gone', async () => String(await openConnections(served)) === '0,0')
  assert.deepEqual([await handshakes(served, 'ok'), await handshakes(served, 'failed')], [2, 0])
})

test('metrics say when each certificate in use expires', async (t) => {
  const own = await certificateFolder({ one: serverCertificate(by, 'one'), two: serverCertificate(by, 'two') })
  const served = await serveTls(t, { certificates: pairsIn(own, 'one', 'two'), reloadMs: 10 })
  const expiry = async () => {
    const now = await samples(served)
    const label = (name: string) => `{file="${own}/${name}.pem"}`
    return ['one', 'two'].map((name) => now.get(`penstock_tls_certificate_expiry_timestamp_seconds${label(name)}`))
  }
  const expected = async () => {
    const files = await Promise.all(['one', 'two'].map((name) => readFile(`${own}/${name}.pem`)))
    return files.map((pem) => new X509Certificate(pem).validToDate.getTime() / 1_000)
  }
  const before = await expected()
  assert.deepEqual(await expiry(), before)
  const issued = { by, as: 'server', names: ['one'] } as const
  await put(own, 'one', issue({ subject: 'one', days: 60, issued }, Date.now()))
  const after = await expected()
  assert.notDeepEqual(after, before)
  await until('the new date is told', async () => String(await expiry()) === String(after))
})
