/** Connections that are open when authorities or revocation lists change, or when certificates expire. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { Agent } from 'node:https'
import { connect as connectTcp, type Socket } from 'node:net'
import { duplexPair } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { connect, type SecureVersion } from 'node:tls'
import { http1Fronts } from '../src/edge/http1/options.ts'
import { authorityExtensions, issue, nameOf, type Issued } from '../src/cli/certificate.ts'
import { edgeWith, fixed, queuedRows, samples, until } from './support/client.ts'
import { startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { isLetIn, put, replace, tlsVersions, visit, type VisitOptions } from './support/handshake.ts'
import { identity } from './support/onnx.ts'
import {
  authority,
  behind,
  certificateFolder,
  clientCertificate,
  forged,
  intermediate,
  pairsIn,
  revocationList,
  serverCertificate,
} from './support/tls.ts'

const by = authority()
const other = authority('other authority')
const middle = intermediate(by, 'intermediate authority')
const alice = clientCertificate(by, 'alice')
const mallory = clientCertificate(by, 'mallory')
const carol = behind(clientCertificate(middle, 'carol'), middle)
const row = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] })

interface Site {
  readonly served: TestGateway
  readonly caFile: string
  readonly listFile: string
  readonly folder: string
}

/** A gateway that runs two rows at once, and never one. */
async function serve(t: TestContext, authorities = by.cert, http1 = 'lean'): Promise<Site> {
  const folder = await certificateFolder({ server: serverCertificate(by) })
  const [caFile, listFile] = [`${folder}/ca.pem`, `${folder}/crl.pem`]
  await writeFile(caFile, authorities)
  await writeFile(listFile, listsOf())
  const tls = { certificates: pairsIn(folder, 'server'), clientCa: caFile, crl: listFile, reloadMs: 10 }
  const settings = { runtime: { executors: 1 }, batching: fixed(2, 20_000), ...edgeWith({ tls, http1 }) }
  const served = await startGateway(t, { store: { 'echo.onnx': identity('FP32', ['n', 1]) }, settings })
  return { served, caFile, listFile, folder }
}

/** Of every authority, with these certificates on that of the first. */
function listsOf(...revoked: readonly Issued[]): string {
  return [revocationList(by, revoked), revocationList(middle, []), revocationList(other, [])].join('')
}

function showing({ cert, key }: Issued) {
  return { ca: by.cert, cert, key }
}

interface Kept {
  /** Sends a request on the connection, or on a new one if that is gone. */
  readonly ask: () => Promise<{ readonly status: number; readonly onOpenConnection: boolean }>
  readonly isOpen: () => boolean
}

/** A client with a connection of HTTP/1.1 open. */
async function keepHttp1(t: TestContext, { served }: Site, shown: Issued, options: VisitOptions = {}): Promise<Kept> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, maxCachedSessions: 0 })
  t.after(() => agent.destroy())
  const ask = () => visit(served, { ...showing(shown), ...options, agent })
  assert.equal((await ask()).status, 200)
  const [socket] = Object.values(agent.freeSockets).flat() as Socket[]
  return { ask, isOpen: () => !socket!.destroyed }
}

/** A client with a connection of HTTP/2 open. */
async function keepHttp2(t: TestContext, { served }: Site, shown: Issued): Promise<Kept> {
  const session = openHttp2(t, served, shown)
  const ask = async () => ({ status: await send(session, '/v2'), onOpenConnection: true })
  assert.equal((await ask()).status, 200)
  return { ask, isOpen: () => !session.closed }
}

function openHttp2(t: TestContext, { url }: TestGateway, shown: Issued): ClientHttp2Session {
  const session = connectHttp2(url, showing(shown))
  session.on('error', () => undefined)
  t.after(() => session.destroy())
  return session
}

/** The status of a request, with a body if it is for inference; rejects if it gets none. */
function send(session: ClientHttp2Session, path: string, body?: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const head = { ':path': path, ...(body !== undefined && { ':method': 'POST', 'content-type': 'application/json' }) }
  const stream = session.request(head)
  stream.on('response', ({ ':status': status }) => resolve(status!))
  stream.on('error', reject)
  stream.on('close', () => reject(new Error('no answer')))
  stream.resume()
  stream.end(body)
  return promise
}

async function refused({ served }: Site, reason: string): Promise<number> {
  return (await samples(served)).get(`penstock_tls_client_certificates_refused_total{reason="${reason}"}`)!
}

/** A connection in each protocol for each certificate. */
async function keepAll(t: TestContext, site: Site, ...shown: readonly Issued[]): Promise<Kept[]> {
  return Promise.all(shown.flatMap((each) => [keepHttp1(t, site, each), keepHttp2(t, site, each)]))
}

async function assertServed(kept: readonly Kept[]): Promise<void> {
  for (const { ask } of kept) {
    const { status, onOpenConnection } = await ask()
    assert.deepEqual([status, onOpenConnection], [200, true])
  }
}

function untilGone(kept: readonly Kept[]): Promise<void> {
  return until('their connections are gone', async () => kept.every(({ isOpen }) => !isOpen()))
}

test('when a certificate is revoked its open connections end, and others go on', async (t) => {
  const site = await serve(t)
  const good = await keepAll(t, site, alice, carol)
  const bad = await keepAll(t, site, mallory)
  await replace(site.listFile, listsOf(mallory))
  await untilGone(bad)
  assert.equal(await refused(site, 'revoked'), 2)
  await assertServed(good)
})

test('an intermediate authority revokes certificates of its own', async (t) => {
  const site = await serve(t)
  const good = await keepAll(t, site, alice)
  const bad = await keepAll(t, site, carol)
  await replace(site.listFile, revocationList(by, []) + revocationList(middle, [carol]))
  await untilGone(bad)
  assert.equal(await refused(site, 'revoked'), 2)
  await assertServed(good)
})

test('when an intermediate authority is revoked the open connections of its clients end, and others go on', async (t) => {
  const site = await serve(t)
  const good = await keepAll(t, site, alice)
  const bad = await keepAll(t, site, carol)
  await replace(site.listFile, listsOf(middle))
  await untilGone(bad)
  await assertServed(good)
})

test('when an authority is trusted no more the open connections of its clients end, and others go on', async (t) => {
  const site = await serve(t, by.cert + other.cert)
  const bob = clientCertificate(other, 'bob')
  const good = await keepAll(t, site, alice, carol)
  const bad = await keepAll(t, site, bob)
  await replace(site.caFile, by.cert)
  await untilGone(bad)
  assert.equal(await refused(site, 'authority'), 2)
  await assertServed(good)
  assert.equal(await isLetIn(site.served, showing(bob)), false)
})

test('an authority that is renewed with the same key keeps its clients, and another of its name does not', async (t) => {
  const site = await serve(t)
  const kept = await keepAll(t, site, alice, carol)
  await replace(site.caFile, renewed(by).cert)
  await replace(site.listFile, listsOf(mallory))
  await until('the new list holds', async () => !(await isLetIn(site.served, showing(mallory))))
  await assertServed(kept)
  const twin = renewed({ ...other, subject: by.subject })
  await replace(site.listFile, listsOf() + revocationList(twin, []))
  await replace(site.caFile, twin.cert)
  await untilGone(kept)
})

/** A certificate of a root as new, with the key and the name that it has. */
function renewed(root: Issued): Issued {
  return forged({ by: root, keyOf: root, subject: nameOf(root.subject), extensions: authorityExtensions() })
}

test('of many connections all are looked at', async (t) => {
  const site = await serve(t)
  const clients = Array.from({ length: 60 }, (_, i) => clientCertificate(by, `client ${i}`))
  const kept = await Promise.all(clients.map((shown) => keepHttp1(t, site, shown)))
  const isBad = (_: unknown, i: number) => i % 3 === 0
  await replace(site.listFile, listsOf(...clients.filter(isBad)))
  await untilGone(kept.filter(isBad))
  await assertServed(kept.filter((_, i) => !isBad(_, i)))
})

test('a client that did not need to send an intermediate authority may begin to', async (t) => {
  const site = await serve(t, by.cert + middle.cert)
  const [bare] = carol.cert.split(/(?<=END CERTIFICATE-----\n)/)
  assert.equal((await visit(site.served, { ...showing(carol), cert: bare! })).status, 200)
  await replace(site.caFile, by.cert)
  await until('it has to', async () => !(await isLetIn(site.served, { ...showing(carol), cert: bare! })))
  assert.equal((await visit(site.served, showing(carol))).status, 200)
})

test('a session that was resumed is looked at like others, with what came along when it was new', async (t) => {
  const site = await serve(t)
  const resumed = async (shown: Issued) => {
    const lines = tlsVersions.map(async (maxVersion) => {
      const { session } = await visit(site.served, { ...showing(shown), maxVersion })
      return keepHttp1(t, site, shown, { maxVersion, session })
    })
    return Promise.all(lines)
  }
  const [good, bad] = [await resumed(carol), await resumed(mallory)]
  await replace(site.listFile, listsOf(mallory))
  await untilGone(bad)
  await assertServed(good)
})

test('a handshake that began before a change is judged by what holds when it is over', async (t) => {
  const site = await serve(t)
  const held = [carol, mallory].flatMap((shown) =>
    tlsVersions.map((maxVersion) => shakeHalf(t, site, shown, maxVersion)),
  )
  const goOn = await Promise.all(held)
  await replace(site.listFile, listsOf(mallory))
  await until('the new list holds', async () => !(await isLetIn(site.served, showing(mallory))))
  const answers = await Promise.all(goOn.map((finish) => finish()))
  assert.deepEqual(answers, ['HTTP/1.1 200', 'HTTP/1.1 200', '', ''])
})

/** Begins a handshake; the returned function ends it, and settles with what a request is answered. */
async function shakeHalf(t: TestContext, { served }: Site, shown: Issued, maxVersion: SecureVersion) {
  const { hostname, port } = new URL(served.url)
  const [near, far] = duplexPair()
  const wire = connectTcp(Number(port), hostname)
  const client = connect({ socket: near, ...showing(shown), maxVersion })
  t.after(() => wire.destroy())
  for (const each of [wire, client]) each.on('error', () => undefined)
  const said: Buffer[] = []
  far.on('data', (chunk: Buffer) => said.push(chunk))
  await until('it says hello', async () => said.length > 0)
  wire.write(said.shift()!)
  wire.on('data', (chunk: Buffer) => far.write(chunk))
  await until('it shows its certificate', async () => said.length > 0)
  return async () => {
    let received = ''
    client.on('data', (chunk: Buffer) => (received += chunk.toString()))
    far.on('data', () => wire.write(Buffer.concat(said.splice(0))))
    wire.write(Buffer.concat(said.splice(0)))
    client.write('GET /v2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
    await once(wire, 'close')
    return received.slice(0, 12)
  }
}

test('when a certificate expires its open connections end, and others go on', async (t) => {
  const site = await serve(t)
  const brief = issue({ subject: 'brief', days: 3 / 86_400, issued: { by, as: 'client', names: [] } }, Date.now())
  const good = await keepAll(t, site, alice)
  const bad = await keepAll(t, site, brief)
  await untilGone(bad)
  assert.equal(await refused(site, 'expired'), 2)
  await assertServed(good)
})

test('when a revocation list expires the open connections of its authority end, and others go on', async (t) => {
  const site = await serve(t, by.cert + other.cert)
  const until3 = Math.ceil(Date.now() / 1_000) * 1_000 + 2_000
  const bob = clientCertificate(other, 'bob')
  await replace(site.listFile, revocationList(by, []) + revocationList(other, [], { until: until3 }))
  const [good, bad] = [await keepAll(t, site, alice), await keepAll(t, site, bob)]
  await untilGone(bad)
  assert.equal(await refused(site, 'crl'), 2)
  await assertServed(good)
})

for (const http1 of http1Fronts)
  test(`what is in flight over HTTP/1.1 when a certificate is revoked is answered, and nothing behind it is, on the ${http1} front`, async (t) => {
    const site = await serve(t, by.cert, http1)
    const { hostname, port } = new URL(site.served.url)
    const socket = connect({ host: hostname, port: Number(port), ...showing(mallory) })
    t.after(() => socket.destroy())
    let received = ''
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()))
    await once(socket, 'secureConnect')
    const head = `POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n`
    socket.write(`${head}content-length: ${row.length}\r\n\r\n${row}`)
    await until('it waits', async () => (await queuedRows(site.served, 'echo')) === 1)
    await replace(site.listFile, listsOf(mallory))
    await until('it was found out', async () => (await refused(site, 'revoked')) === 1)
    socket.write('GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n')
    assert.equal(await send(openHttp2(t, site.served, alice), '/v2/models/echo/infer', row), 200)
    await once(socket, 'close')
    assert.deepEqual(received.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200'])
    assert.match(received, /\r\nconnection: close\r\n/i)
  })

test('what is in flight over HTTP/2 when a certificate is revoked is answered, and the client is told to go', async (t) => {
  const site = await serve(t)
  const session = openHttp2(t, site.served, mallory)
  const told = once(session, 'goaway')
  const inFlight = send(session, '/v2/models/echo/infer', row)
  await until('it waits', async () => (await queuedRows(site.served, 'echo')) === 1)
  await replace(site.listFile, listsOf(mallory))
  assert.equal((await told)[0], 0)
  assert.equal(await send(openHttp2(t, site.served, alice), '/v2/models/echo/infer', row), 200)
  assert.equal(await inFlight, 200)
  await until('the session is over', async () => session.destroyed)
})

test('clients that are good lose no request while certificates, authorities and lists change', async (t) => {
  const site = await serve(t)
  const agent = new Agent({ keepAlive: true, maxSockets: 4 })
  t.after(() => agent.destroy())
  const session = openHttp2(t, site.served, alice)
  let isOver = false
  const visitors: (() => Promise<{ readonly status: number }>)[] = [
    () => visit(site.served, showing(carol)),
    ...[alice, carol, alice].map((shown) => () => visit(site.served, { ...showing(shown), agent })),
    async () => ({ status: await send(session, '/v2') }),
  ]
  const work = visitors.map(async (ask) => {
    for (let count = 0; ; count++) {
      if (isOver) return count
      assert.equal((await ask()).status, 200)
    }
  })
  for (let i = 0; i < 8; i++) {
    await put(site.folder, 'server', serverCertificate(by))
    await replace(site.caFile, i % 2 === 0 ? by.cert + other.cert : by.cert)
    const [out, back] = [clientCertificate(by, 'out'), clientCertificate(other, 'bob')]
    await replace(site.listFile, listsOf(mallory, out))
    await until('the lists hold', async () => !(await isLetIn(site.served, showing(out))))
    await until('the authorities hold', async () => (await isLetIn(site.served, showing(back))) === (i % 2 === 0))
  }
  isOver = true
  for (const count of await Promise.all(work)) assert.ok(count > 8)
  assert.equal(session.closed, false)
})
