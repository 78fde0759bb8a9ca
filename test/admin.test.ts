/** The two listeners beside that for clients: metrics and probes; status, configuration, and whom they answer. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { cpus } from 'node:os'
import { test } from 'node:test'
import { admin, fixed, samples, until, wholeFile } from './support/client.ts'
import { startGateway, tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'

const store = {
  'echo/1/model.onnx': identity('FP32', ['n']),
  'echo/2/model.onnx': identity('FP32', ['n']),
  'pair.onnx': identity('INT8', [2]),
}
const gateway = await startGateway(wholeFile, {
  store,
  settings: { batching: fixed(9, 1), models: { echo: { version: '1' } } },
})

/** Requests with a Host that `fetch` would not send. */
function send(path: string, headers: Record<string, string>, method: string = 'GET'): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const sent = request(gateway.adminUrl + path, { method, headers, agent: false }, (response) => {
    response.resume()
    resolve(response.statusCode!)
  })
  sent.on('error', reject).end()
  return promise
}

const x = (...data: number[]) => ({ inputs: [tensor('x', 'FP32', [data.length], data)] })

test('the metrics are Prometheus text: every series has a type, and every line parses', async () => {
  await gateway.infer('echo', x(1))
  const response = await fetch(`${gateway.metricsUrl}/metrics`)
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/)
  const types = new Map<string, string>()
  for (const line of (await response.text()).trimEnd().split('\n')) {
    if (line === '' || line.startsWith('# HELP ')) continue
    const type = /^# TYPE (\w+) (counter|gauge|histogram|summary)$/.exec(line)
    if (type) {
      assert.ok(!types.has(type[1]!), `${type[1]} twice`)
      types.set(type[1]!, type[2]!)
      continue
    }
    const sample = /^([a-zA-Z_:][\w:]*)(\{(?:[a-z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)$/.exec(line)
    assert.ok(sample, line)
    assert.ok(types.has(sample[1]!) || types.has(sample[1]!.replace(/_(bucket|sum|count)$/, '')), line)
    assert.ok(!Number.isNaN(Number(sample[3])) || sample[3] === 'Nan', line)
  }
  const ours = { penstock_requests_total: 'counter', penstock_queue_rows: 'gauge', penstock_workers: 'gauge' }
  const histograms = { penstock_request_seconds: 'histogram', penstock_batch_rows: 'histogram' }
  for (const [name, type] of Object.entries({ ...ours, ...histograms, penstock_worker_deaths_total: 'counter' })) {
    assert.equal(types.get(name), type, name)
  }
})

test('the metrics count requests by outcome, rows by run and time by phase', async (t) => {
  const fresh = await startGateway(t, {
    store,
    settings: { batching: fixed(9, 1), models: { echo: { version: '1' } } },
  })
  await fresh.infer('echo', x(1))
  await fresh.infer('echo', x(1, 2, 3))
  await fresh.infer('echo', { inputs: [] })
  await fresh.infer('echo/versions/2', x(4))
  const labels = 'model="echo",version="1"'
  const routed = `route="echo",${labels}`
  await until('all three are closed', async () => {
    return (await samples(fresh)).get(`penstock_request_seconds_count{${routed},phase="total"}`) === 3
  })
  const seen = await samples(fresh)
  const of = (name: string, own: string = labels) => seen.get(`${name}{${own}}`)
  assert.equal(of('penstock_requests_total', `${routed},code="ok"`), 2)
  assert.equal(of('penstock_requests_total', `${routed},code="invalid"`), 1)
  assert.equal(of('penstock_requests_total', 'route="echo",model="echo",version="2",code="ok"'), 1)
  assert.equal(of('penstock_batch_rows_count'), 2)
  assert.equal(of('penstock_batch_rows_sum'), 4)
  assert.equal(of('penstock_queue_rows'), 0)
  assert.equal(of('penstock_worker_deaths_total'), 0)
  assert.ok(of('penstock_workers')! >= 1)
  assert.ok(of('penstock_load_seconds')! > 0)
  assert.ok(of('penstock_run_base_seconds')! > 0)
  assert.equal(seen.get(`penstock_provider_info{${labels},provider="cpu",device="${cpus()[0]!.model.trim()}"}`), 1)
  for (const phase of ['queue', 'compute']) {
    assert.equal(of('penstock_request_seconds_count', `${routed},phase="${phase}"`), 2)
  }
  const buckets = (name: string, own: string) => {
    return [...seen]
      .filter(([series]) => series.startsWith(`${name}_bucket{`) && series.includes(own))
      .map(([, count]) => count)
  }
  // Bounds of 1, 2 and 4 rows: one run of one row, one of three.
  assert.deepEqual(buckets('penstock_batch_rows', labels).slice(0, 3), [1, 1, 2])
  const total = buckets('penstock_request_seconds', `${labels},phase="total"`).concat(
    buckets('penstock_request_seconds', `phase="total",${labels}`),
  )
  assert.equal(total.at(-1), 3)
  assert.deepEqual(
    total,
    total.toSorted((a, b) => a - b),
  )
})

test('a name that a client made up becomes no label', async () => {
  await gateway.infer('made-up-by-a-client', x(1))
  await gateway.infer('echo/versions/made-up-too', x(1))
  await gateway.get('/v2/models/made-up-by-another')
  const text = await (await fetch(`${gateway.metricsUrl}/metrics`)).text()
  assert.doesNotMatch(text, /made-up/)
  assert.match(text, /^penstock_requests_total\{route="",model="",version="",code="not_found"\} 1$/m)
  assert.match(text, /^penstock_requests_total\{route="echo",model="echo",version="",code="not_found"\} 1$/m)
})

test('the status shows every model, its versions and what is queued', async () => {
  const status = await admin(gateway, '/admin/status')
  assert.ok(status.uptimeS >= 0)
  assert.ok(status.executors.default >= 1)
  assert.deepEqual(
    status.models.map(({ name }: { name: string }) => name),
    ['echo', 'pair'],
  )
  const [echo, pair] = status.models
  assert.equal(echo.version, '1')
  assert.deepEqual(echo.contract, { inputs: ['x FP32 [n]'], outputs: ['y FP32 [n]'] })
  const versions = echo.versions.map((each: any) => [each.version, each.batched, each.maxRows, each.queuedRows])
  assert.deepEqual(versions, [
    ['1', true, 9, 0],
    ['2', true, 9, 0],
  ])
  for (const { digest, batchedWhy } of echo.versions) {
    assert.match(digest, /^sha256:[0-9a-f]{64}$/)
    assert.match(batchedWhy, /^probe: /)
  }
  assert.equal(pair.versions[0].batched, false)
})

test('the configuration is shown as it is in force, defaults and all', async () => {
  const config = await admin(gateway, '/admin/config')
  assert.equal(config.auth, 'none')
  assert.equal(config.edge.body.maxBytes, 16_777_216)
  assert.deepEqual(config.batching.policy, { kind: 'fixed', maxRows: 9, windowMs: 1 })
  const { version, sla, priority, fallback } = config.models.echo
  assert.deepEqual([version, sla, priority, fallback], ['1', {}, 'standard', { kind: 'refuse' }])
})

test('a Host that is not this machine is refused, so that no page of a rebound name gets in', async () => {
  const { port } = new URL(gateway.adminUrl)
  for (const path of ['/admin/status', '/admin/config']) {
    for (const host of [
      'evil.example',
      `evil.example:${port}`,
      '127.0.0.1.evil.example',
      'localhost.evil',
      '10.0.0.1',
    ]) {
      assert.equal(await send(path, { host }), 404, `${path} ${host}`)
    }
    for (const host of ['localhost', `localhost:${port}`, '127.0.0.1', '[::1]', `[::1]:${port}`]) {
      assert.equal(await send(path, { host }), 200, `${path} ${host}`)
    }
  }
})

test('an Origin that is not this machine is refused', async () => {
  const origins = ['http://evil.example', 'https://localhost.evil.example', 'null', 'http://127.0.0.1@evil.example', '']
  for (const origin of origins) assert.equal(await send('/admin/config', { origin }), 404, origin)
  for (const origin of ['http://localhost:3000', 'http://127.0.0.1', 'https://[::1]:9']) {
    assert.equal(await send('/admin/config', { origin }), 200, origin)
  }
})

test('other methods are refused with the one that is taken, and other paths with those that there are', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const response = await fetch(`${gateway.adminUrl}/admin/status`, { method })
    assert.deepEqual([response.status, response.headers.get('allow')], [405, 'GET, HEAD'], method)
    assert.equal(((await response.json()) as any).code, 'method_not_allowed')
  }
  for (const path of ['/', '/admin', '/admin/', '/metrics', '/v2/models', '/admin/nothing']) {
    const response = await fetch(gateway.adminUrl + path)
    assert.equal(response.status, 404, path)
    assert.match(((await response.json()) as any).error, /\/admin\/status/)
  }
})

test('the data listener has no metrics and no administration', async () => {
  for (const path of ['/metrics', '/livez', '/readyz', '/admin/status', '/admin/config']) {
    assert.equal((await gateway.get(path)).status, 404, path)
  }
})
