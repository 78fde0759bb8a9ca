/** What the neighbours in a cluster ask: whether the gateway lives, whether it is ready, and how it is doing. */
import assert from 'node:assert/strict'
import { readFile, rename } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { binaryTensor, byteStrings, edgeWith, post, samples, until, wholeFile, withBinary } from './support/client.ts'
import { folderWith, repository, startGateway, tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { Wire, wireRequest } from './support/socket.ts'

const store = { 'echo.onnx': identity('FP32', ['n']) }
const gateway = await startGateway(wholeFile, { store })
const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1], [1])] })

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly text: string
}

/** Asks a listener; `fetch` would neither send any Host nor tell of the length of what HEAD leaves out. */
function ask(url: string, method = 'GET', headers: Record<string, string> = {}): Promise<Seen> {
  const { promise, resolve, reject } = Promise.withResolvers<Seen>()
  const sent = request(url, { method, headers, agent: false }, (response) => {
    let text = ''
    response.on('data', (chunk: Buffer) => (text += chunk.toString()))
    response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
  })
  sent.on('error', reject).end()
  return promise
}

async function probe(url: string): Promise<[status: number, said: any]> {
  const { status, text } = await ask(url)
  return [status, JSON.parse(text)]
}

test('a gateway that serves is alive and ready', async () => {
  assert.deepEqual(await probe(`${gateway.metricsUrl}/livez`), [200, { live: true }])
  assert.deepEqual(await probe(`${gateway.metricsUrl}/readyz`), [200, { ready: true }])
  for (const path of ['/livez?verbose', '/readyz?a=b'])
    assert.equal((await ask(gateway.metricsUrl + path)).status, 200, path)
})

test('probes and scrapes may call the gateway whatever they like', async () => {
  for (const host of ['10.0.0.7:9090', 'penstock.default.svc', 'evil.example'])
    for (const path of ['/livez', '/readyz', '/metrics'])
      assert.equal((await ask(gateway.metricsUrl + path, 'GET', { host })).status, 200, `${path} at ${host}`)
})

test('HEAD has the head of GET and no body', async () => {
  for (const path of ['/livez', '/readyz', '/nothing']) {
    const [got, head] = [await ask(gateway.metricsUrl + path), await ask(gateway.metricsUrl + path, 'HEAD')]
    assert.ok(got.text.length > 0)
    assert.equal(head.text, '')
    assert.deepEqual([head.status, { ...head.headers, date: '' }], [got.status, { ...got.headers, date: '' }], path)
    assert.equal(head.headers['content-length'], String(Buffer.byteLength(got.text)))
  }
  const metrics = await ask(`${gateway.metricsUrl}/metrics`, 'HEAD')
  assert.deepEqual([metrics.status, metrics.text], [200, ''])
  assert.ok(Number(metrics.headers['content-length']) > 1_000)
  assert.match(String(metrics.headers['content-type']), /^text\/plain; version=0\.0\.4/)
})

test('other methods are refused with those that are taken', async () => {
  for (const path of ['/livez', '/readyz', '/metrics']) {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE']) {
      const { status, headers, text } = await ask(gateway.metricsUrl + path, method)
      assert.deepEqual([status, headers['allow']], [405, 'GET, HEAD'], `${method} ${path}`)
      assert.equal(JSON.parse(text).code, 'method_not_allowed')
    }
  }
})

test('other paths are not found, and the answer says which there are', async () => {
  const paths = ['/', '/metrics/', '/livez/', '/Livez', '/healthz', '/v2/health/live', '/admin/status', '/admin/config']
  for (const path of [...paths, '//livez', '/%6Civez', '/__proto__']) {
    const { status, text } = await ask(gateway.metricsUrl + path)
    assert.equal(status, 404, path)
    const { code, error } = JSON.parse(text)
    assert.equal(code, 'not_found')
    for (const each of ['/metrics', '/livez', '/readyz']) assert.ok(error.includes(each))
  }
})

test('no other listener has them', async () => {
  for (const path of ['/metrics', '/livez', '/readyz'])
    for (const url of [gateway.adminUrl, gateway.url]) assert.equal((await ask(url + path)).status, 404, path)
})

test('connections on which nothing is asked keep nobody from being answered', async (t) => {
  await Promise.all(Array.from({ length: 60 }, () => Wire.open(t, gateway.metricsUrl)))
  const paths = Array.from({ length: 30 }, (_, i) => ['/livez', '/readyz', '/metrics'][i % 3]!)
  const seen = await Promise.all(paths.map((path) => ask(gateway.metricsUrl + path)))
  assert.deepEqual(new Set(seen.map(({ status }) => status)), new Set([200]))
})

test('a gateway that shuts down is alive and not ready until its last answer is sent', async (t) => {
  const leaving = await startGateway(t, { store })
  const wire = await Wire.open(t, leaving.url)
  wire.write(wireRequest('echo', body).slice(0, -1))
  await until('its request is being read', async () => (await samples(leaving)).get('penstock_held_bytes')! > 0)
  const stopped = leaving.stop()
  const [status, { error, code }] = await probe(`${leaving.metricsUrl}/readyz`)
  assert.deepEqual([status, error, code], [503, 'the gateway is shutting down', 'draining'])
  assert.deepEqual(await probe(`${leaving.metricsUrl}/livez`), [200, { live: true }])
  assert.equal((await ask(`${leaving.metricsUrl}/metrics`)).status, 200)
  wire.write(body.slice(-1))
  assert.equal((await wire.reply()).status, 200)
  assert.deepEqual(await stopped, { areConnectionsClosed: true, areWorkersGone: true })
  await assert.rejects(ask(`${leaving.metricsUrl}/livez`), /ECONNREFUSED/)
})

test('a gateway none of whose models can be loaded any more is alive and not ready, until one can', async (t) => {
  const folder = await folderWith({ 'words.onnx': identity('BYTES', ['n']) })
  const settings = {
    ...edgeWith({ body: { maxBytes: 2 ** 27 }, tensors: { maxElements: 2 ** 26 } }),
    runtime: { executors: 1, worker: { heapMb: 32 } },
  }
  const served = await startGateway(t, { store: folder, settings })
  await rename(join(folder, 'words.onnx'), join(folder, 'gone'))
  // Too much for the heap of its worker.
  const words = Buffer.concat(Array.from({ length: 300 }, (_, i) => byteStrings(`word ${i}`.padEnd(250_000))))
  const sent = withBinary({ inputs: [binaryTensor('x', 'BYTES', [300], words.byteLength)] }, words)
  const killed = post(served, 'words', sent.body, sent.headers)
  let seen: [status: number, said: any] = [0, undefined]
  await until('it is not ready', async () => (seen = await probe(`${served.metricsUrl}/readyz`))[0] === 503)
  assert.deepEqual(seen[1], { error: 'no worker can load a model at the moment', code: 'not_ready' })
  assert.deepEqual(await probe(`${served.metricsUrl}/livez`), [200, { live: true }])
  assert.equal((await killed).status, 503)
  await rename(join(folder, 'gone'), join(folder, 'words.onnx'))
  await until('it is ready again', async () => (await probe(`${served.metricsUrl}/readyz`))[0] === 200)
})

test('the reference says where metrics and probes are', async () => {
  const text = await readFile(join(repository, 'config/REFERENCE.md'), 'utf8')
  assert.ok(text.includes('`/metrics` on the metrics listener'))
  for (const path of ['/livez', '/readyz']) assert.ok(text.includes(path), path)
})
