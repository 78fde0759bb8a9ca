/** Feedback at the front door: who may tell what of which predictions, in what form, and what counts. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { keysFor } from './support/api-keys.ts'
import { edgeWith, samples, until, wholeFile } from './support/client.ts'
import { startGateway, type TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { metricOf, Product } from './support/product.ts'
import { openClient, type Protocol } from './support/protocols.ts'

const echo = identity('INT64', ['n', 1])
const store = { 'm/1/model.onnx': echo, 'm/2/model.onnx': echo, 'plain.onnx': echo }
const arms = { stable: { version: '1', weight: 1 }, canary: { version: '2', weight: 1 } }
const metrics = {
  click: { kind: 'event', direction: 'more' },
  revenue: { kind: 'value', direction: 'more', cap: 1_000 },
}

function modelWith(feedback: object = {}, split: object = {}) {
  return {
    split: { arms, default: 'stable', ...split },
    experiment: { kind: 'ab', treatment: 'canary', feedback: { metrics, ...feedback } },
  }
}

const people = [
  { id: 'alice', tenant: 'acme' },
  { id: 'carol', tenant: 'acme' },
  { id: 'bob', tenant: 'globex' },
]
const everybody = { who: 'identified', operations: ['infer', 'metadata', 'stats'] }

/** A gateway where callers have keys. */
async function guarded(t: TestContext, settings: object = {}, access: readonly object[] = [everybody]) {
  const auth = { apiKeys: await keysFor(people), access }
  const runtime = { executors: 1 }
  return startGateway(t, {
    store,
    settings: { auth, runtime, models: { m: modelWith() }, ...edgeWith({ http2: { cleartext: true } }), ...settings },
  })
}

function as(t: TestContext, { url }: Pick<TestGateway, 'url'>, who: string = '', protocol: Protocol = 'http'): Product {
  return new Product(openClient(t, protocol, { url, ca: '' }), who)
}

/** One where all callers are the same nobody. */
function open(t: TestContext, { feedback = {}, ...settings }: { feedback?: object; [others: string]: unknown } = {}) {
  const runtime = { executors: 1 }
  return startGateway(t, { store, settings: { runtime, models: { m: modelWith(feedback) }, ...settings } })
}

const shared = await guarded(wholeFile)
const unknown = '400 invalid: this is not the id of a prediction of this gateway'

for (const protocol of ['http', 'h2c'] as const) {
  test(`a prediction is named in the head of its answer, and what became of it counts for its arm: ${protocol}`, async (t) => {
    const served = await guarded(t)
    const alice = as(t, served, 'alice', protocol)
    const clicked = { stable: 0, canary: 0 }
    for (let i = 0; i < 24; i++) {
      const { prediction, arm } = await alice.predict()
      assert.match(prediction, /^[\w-]{50,512}$/)
      assert.equal(await alice.outcome({ prediction, metric: 'click' }), 'counted')
      clicked[arm as keyof typeof clicked]++
    }
    const { control, treatment, kind } = await metricOf(served, 'click')
    assert.deepEqual([control, treatment, kind], [clicked.stable, clicked.canary, 'event'])
  })

  test(`a list is taken entry by entry, and what is wrong is told by place: ${protocol}`, async (t) => {
    const alice = as(t, shared, 'alice', protocol)
    const made = await Promise.all(Array.from({ length: 120 }, () => alice.predict()))
    const good = made.map(({ prediction }) => ({ prediction, metric: 'click' }))
    const list = [...good.slice(0, 60), { metric: 'click' }, ...good.slice(60), good[0], { ...good[1], metric: 'no' }]
    const { status, json } = await alice.tell(list)
    assert.equal(status, 200)
    assert.deepEqual(json.counts, { counted: 120, duplicate: 1, past: 0, ignored: 0 })
    assert.deepEqual(
      json.mistakes.map(({ index }: { index: number }) => index),
      [60, 122],
    )
    assert.match(json.mistakes[1].message, /^no such metric: expected one of click, revenue$/)
    assert.deepEqual((await alice.tell([])).json, {
      counts: { counted: 0, duplicate: 0, past: 0, ignored: 0 },
      mistakes: [],
    })
  })

  test(`what cannot be read is refused in words that say what to change: ${protocol}`, async (t) => {
    const alice = as(t, shared, 'alice', protocol)
    const prediction = await alice.predictBy('stable')
    const wrong: readonly [string, number, string, RegExp][] = [
      ['{', 400, 'invalid', /the body is not JSON/],
      ['', 400, 'invalid', /the body is not JSON/],
      ['"text"', 400, 'invalid', /expected an object with `prediction` and `metric`/],
      ['{}', 400, 'invalid', /expected the id of a prediction as `prediction`/],
      [JSON.stringify({ prediction }), 400, 'invalid', /expected the name of a metric as `metric`/],
      [JSON.stringify({ prediction, metric: 'click', more: 1 }), 400, 'invalid', /unknown key/],
      [JSON.stringify({ prediction, metric: 'click', value: 2 }), 400, 'invalid', /1 or 0, or left out/],
      [JSON.stringify({ prediction, metric: 'revenue' }), 400, 'invalid', /needs a value/],
      [JSON.stringify({ prediction, metric: 'revenue', value: 1e16 }), 400, 'invalid', /between -1e15 and 1e15/],
      [JSON.stringify({ prediction, metric: 'constructor' }), 400, 'invalid', /expected one of click, revenue/],
      [`[${'['.repeat(90_000)}`, 400, 'invalid', /the body is not JSON/],
      [JSON.stringify(Array.from({ length: 1_001 }, () => ({}))), 400, 'invalid', /1000 entries at most/],
      [' '.repeat(262_145), 413, 'too_large', /larger than 262144 bytes/],
    ]
    for (const [body, status, code, words] of wrong) {
      const { status: got, json } = await alice.tell(body)
      assert.deepEqual([got, json.code], [status, code], `${body.slice(0, 80)}: ${JSON.stringify(json)}`)
      assert.match(json.error, words)
      assert.ok(json.request_id !== undefined)
    }
    assert.equal(await alice.outcome({ prediction, metric: 'click' }), 'counted')
  })

  test(`other methods, types and forms than JSON by POST are refused as elsewhere: ${protocol}`, async (t) => {
    const client = openClient(t, protocol, { url: shared.url, ca: '' })
    const key = { 'x-api-key': 'alice.not-a-secret-because-it-is-a-test' }
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH']) {
      const { status, headers } = await client.send({ method, path: '/v2/feedback', headers: key })
      assert.deepEqual([status, headers['allow']], [405, 'POST, OPTIONS'], method)
    }
    const { status, headers } = await client.send({ method: 'OPTIONS', path: '/v2/feedback', headers: key })
    assert.deepEqual([status, headers['allow']], [204, 'POST, OPTIONS'])
    const alice = new Product(client, 'alice')
    const entry = { prediction: await alice.predictBy('stable'), metric: 'click' }
    for (const [head, code] of [
      [{ 'content-type': 'text/plain' }, 'unsupported_media'],
      [{ 'content-type': 'application/x-www-form-urlencoded' }, 'unsupported_media'],
      [{ 'content-type': 'application/json; charset=latin1' }, 'unsupported_media'],
      [{ 'content-type': 'application/octet-stream' }, 'unsupported_media'],
      [{ 'inference-header-content-length': '10' }, 'unsupported_media'],
      [{ 'content-encoding': 'rot13' }, 'unsupported_media'],
      [{ accept: 'text/html' }, 'not_acceptable'],
    ] as const)
      assert.equal((await alice.tell(entry, head)).json.code, code, JSON.stringify(head))
    // Nothing of that has counted.
    const body = gzipSync(JSON.stringify(entry))
    const zipped = { ...key, 'content-type': 'application/json; charset=utf-8', 'content-encoding': 'gzip' }
    assert.deepEqual((await client.send({ path: '/v2/feedback', headers: zipped, body })).json, { status: 'counted' })
    const bomb = gzipSync(Buffer.alloc(1_000_000, ' '))
    assert.equal((await client.send({ path: '/v2/feedback', headers: zipped, body: bomb })).json.code, 'too_large')
    const latin = Buffer.from(`{"prediction": "\xfc"}`, 'latin1')
    const told = await client.send({ path: '/v2/feedback', headers: { ...key }, body: latin })
    assert.match(told.json.error, /not UTF-8/)
  })
}

test('who does not say who is calling is told nothing, however good the token', async (t) => {
  const alice = as(t, shared, 'alice')
  const entry = { prediction: await alice.predictBy('stable'), metric: 'click' }
  const { status, json } = await as(t, shared).tell(entry)
  assert.deepEqual([status, json.code], [401, 'unauthenticated'])
  assert.equal(await alice.outcome(entry), 'counted')
})

test('a forged token, no token, and one of another tenant are refused in the same words; a colleague may tell', async (t) => {
  const [alice, bob, carol] = [as(t, shared, 'alice'), as(t, shared, 'bob'), as(t, shared, 'carol')]
  const prediction = await alice.predictBy('canary')
  const middle = prediction.length >> 1
  const other = prediction[middle] === 'A' ? 'B' : 'A'
  const forged = `${prediction.slice(0, middle)}${other}${prediction.slice(middle + 1)}`
  for (const bad of [forged, '', 'x', 'x'.repeat(10_000), `${prediction}A`, prediction.slice(1), `${prediction}=`])
    assert.equal(await alice.outcome({ prediction: bad, metric: 'click' }), unknown, bad.slice(0, 20))
  assert.equal(await bob.outcome({ prediction, metric: 'click' }), unknown)
  assert.equal(await bob.outcome({ prediction, metric: 'no such' }), unknown)
  assert.equal(await carol.outcome({ prediction, metric: 'click' }), 'counted')
})

test('who may not use the version may not tell of it either', async (t) => {
  const noCanary = {
    effect: 'deny',
    who: { callers: ['key:carol'] },
    operations: ['infer'],
    models: ['m'],
    versions: ['2'],
  }
  const served = await guarded(t, {}, [noCanary, everybody])
  const [alice, carol] = [as(t, served, 'alice'), as(t, served, 'carol')]
  assert.equal(await carol.outcome({ prediction: await alice.predictBy('canary'), metric: 'click' }), unknown)
  const prediction = await alice.predictBy('stable')
  assert.equal(await carol.outcome({ prediction, metric: 'click' }), 'counted')
  // She is drawn with other shares than the others: that is no evidence.
  const own = await carol.predict()
  assert.deepEqual(
    [own.arm, await carol.outcome({ prediction: own.prediction, metric: 'click' })],
    ['stable', 'ignored'],
  )
})

test('what is sent again counts once; several values of one prediction are told apart by their ids', async (t) => {
  const served = await open(t)
  const product = as(t, served)
  const prediction = await product.predictBy('stable')
  const all = async (...entries: object[]) =>
    (await product.tell(entries.map((each) => ({ prediction, ...each })))).json
  assert.deepEqual(
    (await all({ metric: 'click' }, { metric: 'click', value: 1 }, { metric: 'click', id: 'z' })).counts,
    {
      counted: 1,
      duplicate: 2,
      past: 0,
      ignored: 0,
    },
  )
  const values = [{ value: 5 }, { value: 6 }, { value: 7, id: 'a' }, { value: 8, id: 'b' }, { value: 7, id: 'a' }]
  const { counts } = await all(...values.map((each) => ({ metric: 'revenue', ...each })))
  assert.deepEqual([counts.counted, counts.duplicate], [3, 2])
  assert.equal(await product.outcome({ prediction, metric: 'click', value: 0 }), 'ignored')
  assert.deepEqual([(await metricOf(served, 'click')).control, (await metricOf(served, 'revenue')).control], [1, 3])
})

test('the same entry sent by many at once counts once', async (t) => {
  const served = await open(t)
  const entry = { prediction: await as(t, served).predictBy('canary'), metric: 'click' }
  const products = Array.from({ length: 8 }, () => as(t, served))
  const told = await Promise.all(products.flatMap((each) => [each.outcome(entry), each.outcome(entry)]))
  assert.deepEqual(Map.groupBy(told, (each) => each).get('counted')?.length, 1)
  assert.equal((await metricOf(served, 'click')).treatment, 1)
})

test('what was forced, ruled or pinned is no evidence', async (t) => {
  const rules = [{ match: { headers: { 'x-beta': 'yes' } }, arm: 'canary' }]
  const served = await startGateway(t, { store, settings: { models: { m: modelWith({}, { rules }) } } })
  const product = as(t, served)
  for (const headers of [{ 'x-penstock-arm': 'canary' }, { 'x-beta': 'yes' }]) {
    const { arm, prediction } = await product.predict(headers)
    assert.deepEqual([arm, await product.outcome({ prediction, metric: 'click' })], ['canary', 'ignored'])
  }
  const pinned = await product.ask({}, '/v2/models/m/versions/2/infer')
  assert.equal(pinned.headers['x-penstock-prediction'], undefined)
  assert.equal((await metricOf(served, 'click')).treatment, 0)
})

test('an event of a caller with an arm of his own counts once for him, whatever he predicts', async (t) => {
  const served = await guarded(t, { models: { m: modelWith({}, { unit: { by: 'caller' } }) } })
  const alice = as(t, served, 'alice')
  const [one, two] = [await alice.predict(), await alice.predict()]
  assert.equal(one.arm, two.arm)
  assert.notEqual(one.prediction, two.prediction)
  assert.equal(await alice.outcome({ prediction: one.prediction, metric: 'click' }), 'counted')
  assert.equal(await alice.outcome({ prediction: two.prediction, metric: 'click' }), 'duplicate')
  const bob = as(t, served, 'bob')
  assert.equal(await bob.outcome({ prediction: (await bob.predict()).prediction, metric: 'click' }), 'counted')
})

test('feedback is taken for as long as is configured', async (t) => {
  const product = as(t, await open(t, { feedback: { joinWindowS: 1 } }))
  const [early, late] = [await product.predictBy('stable'), await product.predictBy('stable')]
  assert.equal(await product.outcome({ prediction: early, metric: 'click' }), 'counted')
  const isLate = async () => (await product.outcome({ prediction: late, metric: 'click', value: 0 })) !== 'ignored'
  await until('it is too late', isLate)
  const words = '400 invalid: feedback is taken for 1 s after a prediction'
  assert.equal(await product.outcome({ prediction: late, metric: 'click' }), words)
})

test('a model without an experiment, or one without metrics, names no predictions', async (t) => {
  const settings = { models: { m: { ...modelWith({ metrics: {} }) } } }
  const served = await startGateway(t, { store, settings })
  const product = as(t, served)
  for (const path of ['/v2/models/m/infer', '/v2/models/plain/infer'])
    assert.equal((await product.ask({}, path)).headers['x-penstock-prediction'], undefined)
  const entry = { prediction: await as(t, shared, 'alice').predictBy('stable'), metric: 'click' }
  assert.equal(await product.outcome(entry), unknown)
})

test('limits hold for who tells, and not for who else calls', async (t) => {
  const rules = [{ name: 'telling', by: ['caller'], where: { routes: ['feedback'] }, rate: 0.001, burst: 3 }]
  const served = await guarded(t, { limits: { rules } })
  const [alice, bob] = [as(t, served, 'alice'), as(t, served, 'bob')]
  const prediction = await alice.predictBy('stable')
  const told: number[] = []
  for (let i = 0; i < 5; i++) told.push((await alice.tell({ prediction, metric: 'click' })).status)
  assert.deepEqual(told, [200, 200, 200, 429, 429])
  const { json, headers } = await alice.tell({ prediction, metric: 'click' })
  assert.match(json.error, /the limit "telling"/)
  assert.ok(Number(headers['retry-after']) > 0)
  assert.equal((await bob.tell('{')).status, 400)
  assert.equal((await alice.ask()).status, 200)
})

test('a place under a limit is given back, whatever becomes of what is told', async (t) => {
  const rules = [{ name: 'one', by: ['caller'], where: { routes: ['feedback'] }, concurrency: 1 }]
  const alice = as(t, await guarded(t, { limits: { rules } }), 'alice')
  const prediction = await alice.predictBy('stable')
  for (const told of [{ prediction, metric: 'click' }, { prediction, metric: 'no' }, '{', ' '.repeat(300_000), []])
    assert.notEqual((await alice.tell(told)).status, 429)
})

test('a flood of forged tokens is refused entry by entry, and others are answered meanwhile', async (t) => {
  const served = await open(t)
  const product = as(t, served)
  const forged = Array.from({ length: 1_000 }, () => ({
    prediction: randomBytes(90).toString('base64url'),
    metric: 'click',
  }))
  const floods = Array.from({ length: 10 }, () => as(t, served).tell(forged))
  const { prediction } = await product.predict()
  assert.equal(await product.outcome({ prediction, metric: 'click' }), 'counted')
  for (const { status, json } of await Promise.all(floods)) {
    assert.deepEqual([status, json.counts.counted, json.mistakes.length], [200, 0, 1_000])
    assert.deepEqual(json.mistakes[999], { index: 999, message: unknown.slice('400 invalid: '.length) })
  }
  const seen = await samples(served)
  assert.equal(seen.get('penstock_feedback_total{outcome="unknown"}'), 10_000)
  assert.equal(seen.get('penstock_feedback_total{outcome="counted"}'), 1)
})

test('the OpenAPI document says what is taken and what is answered', async (t) => {
  const alice = as(t, shared, 'alice')
  const { json } = await alice.document()
  const { post, get } = json.paths['/v2/feedback']
  assert.equal(get, undefined)
  const ajv = new Ajv2020({ strict: false })
  ajv.addSchema(json, 'document')
  const sent = (value: unknown) =>
    ajv.validate({ $ref: 'document#/paths/~1v2~1feedback/post/requestBody/content/application~1json/schema' }, value)
  const told = (value: unknown) =>
    ajv.validate({ $ref: 'document#/paths/~1v2~1feedback/post/responses/200/content/application~1json/schema' }, value)
  const prediction = await alice.predictBy('stable')
  const good = [
    { prediction, metric: 'click' },
    { prediction, metric: 'revenue', value: 3, id: 'a' },
  ]
  for (const entries of [...good, good, []]) {
    assert.ok(sent(entries), JSON.stringify(entries))
    const answer = await alice.tell(entries)
    assert.ok(answer.status === 200 && told(answer.json), JSON.stringify(answer.json))
  }
  for (const bad of [
    {},
    { prediction },
    { ...good[0], more: 1 },
    { ...good[0], id: '' },
    7,
    Array.from({ length: 1_001 }, () => good[0]),
  ]) {
    assert.ok(!sent(bad))
    const { status } = await alice.tell(bad)
    assert.ok(String(status) in post.responses && status !== 200, String(status))
  }
})
