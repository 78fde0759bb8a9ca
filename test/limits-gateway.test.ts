/** Limits at the socket: what requests cost, whom a limit holds for, and what clients are told. */
import assert from 'node:assert/strict'
import { connect as connectHttp2 } from 'node:http2'
import { once } from 'node:events'
import { test } from 'node:test'
import { keyOf } from './support/api-keys.ts'
import { samples, wholeFile } from './support/client.ts'
import { configWith } from './support/gateway.ts'
import { ask, assertLimited, echo, limited, policiesIn, rows, standing, statuses } from './support/limited.ts'
import { looping } from './support/models.ts'
import { openClient } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

/** What comes back within a test is nothing. */
const slow = { per: 'day' }
const on = (...models: string[]) => ({ where: { models } })
const names =
  'plain rowed several tight named tenants callers some routed small head head-rows anyone hidden counted free shared-a shared-b'
const echoes = Object.fromEntries(names.split(' ').map((name) => [`${name}.onnx`, echo]))

const gateway = await limited(
  wholeFile,
  { ...echoes, 'compute.onnx': looping, 'longer.onnx': looping },
  [
    { name: 'plain', by: [], rate: 3, ...slow, ...on('plain') },
    { name: 'rowed', by: [], rate: 10, cost: 'row', ...slow, ...on('rowed') },
    { name: 'compute', by: ['caller'], rate: 60, cost: 'computeMs', ...slow, ...on('compute') },
    { name: 'run', by: [], rate: 1e6, burst: 5, cost: 'computeMs', ...on('longer') },
    { name: 'all', by: [], rate: 6, ...slow, ...on('several') },
    { name: 'own', by: ['caller'], rate: 2, ...slow, ...on('several') },
    { name: 'rows-all', by: [], rate: 10, cost: 'row', ...slow, ...on('tight') },
    { name: 'rows-own', by: ['caller'], rate: 4, cost: 'row', ...slow, ...on('tight') },
    { name: 'requests', by: [], rate: 4, ...slow, ...on('tight') },
    { name: 'named', by: [], rate: 2, ...slow, where: { models: ['named'], callers: ['key:b*'] } },
    { name: 'tenants', by: ['tenant'], rate: 2, ...slow, ...on('tenants') },
    { name: 'callers', by: ['caller'], rate: 2, ...slow, ...on('callers') },
    { name: 'each', by: ['model', 'caller'], rate: 2, ...slow, ...on('shared-*') },
    { name: 'acme', by: [], rate: 1, ...slow, where: { models: ['some'], tenants: ['acme'] } },
    { name: 'routes', by: ['route'], rate: 2, ...slow, ...on('routed') },
    { name: 'one-route', by: [], rate: 1, ...slow, where: { routes: ['second'] } },
    { name: 'small', by: [], rate: 3, cost: 'row', ...slow, ...on('small') },
    { name: 'head', by: ['caller'], rate: 1, ...slow, ...on('head') },
    { name: 'head-rows', by: [], rate: 2, cost: 'row', ...slow, ...on('head-rows') },
    { name: 'anyone', by: ['caller'], rate: 2, ...slow, ...on('anyone') },
    { name: 'hidden', by: [], rate: 2, ...slow, ...on('hidden') },
    { name: 'counted', by: [], rate: 1, ...slow, ...on('counted') },
  ],
  {
    access: [
      { effect: 'deny', who: { subjects: ['alice'] }, operations: ['infer', 'metadata', 'stats'], models: ['hidden'] },
      { who: 'identified', operations: ['infer', 'metadata', 'stats'] },
      { who: 'anyone', operations: ['infer'], models: ['anyone'] },
    ],
    edge: { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 }, http2: { cleartext: true } },
    models: { longer: { batching: { policy: { kind: 'fixed', maxRows: 1, windowMs: 0 } } } },
    routes: ['first', 'second'].map((name) => ({ name, match: { path: `/${name}` }, model: 'routed' })),
  },
)

test('a request costs one, a row costs one where rows count, and a run what it took', async () => {
  assert.deepEqual(await statuses(gateway, 'alice', 'plain', [5, 5, 5, 5]), [200, 200, 200, 429])
  assert.deepEqual(await statuses(gateway, 'alice', 'rowed', [4, 4, 4]), [200, 200, 429])
  assert.deepEqual(await statuses(gateway, 'alice', 'rowed', [2, 2]), [200, 429], 'two of ten were left')
  // Nobody knows yet how long a run takes, so it is charged when that is known: a fraction of a second is more than 60 ms.
  assert.equal((await ask(gateway, 'alice', 'compute', { body: rows(1, 500_000) })).status, 200)
  const refused = await ask(gateway, 'alice', 'compute')
  assert.equal(assertLimited(refused, 'compute')['r'], 0)
  assert.equal((await ask(gateway, 'bob', 'compute', { body: rows(1, 10) })).status, 200, 'who took nothing of it')
})

test('a run that is predicted to take more than there ever is at once is refused for good', async () => {
  let refused = await ask(gateway, 'alice', 'longer', { body: rows(1, 50_000) })
  for (let i = 0; i < 50 && refused.status === 200; i++)
    refused = await ask(gateway, 'alice', 'longer', { body: rows(1, 50_000) })
  assertLimited(refused, 'run')
  assert.match(refused.json.error, /at most 5 compute-milliseconds/)
  assert.equal(refused.headers.get('retry-after'), null)
})

test('all limits that fit hold, and who is refused by one takes nothing of the others', async () => {
  assert.deepEqual(await statuses(gateway, 'alice', 'several', 6), [200, 200, 429, 429, 429, 429])
  assert.deepEqual(await statuses(gateway, 'bob', 'several', 3), [200, 200, 429])
  assert.deepEqual(await statuses(gateway, 'carol', 'several', 2), [200, 200])
  // Six in all: none of them was lost to those who were refused by their own limit.
  assertLimited(await ask(gateway, 'carol', 'several'), 'all')
})

test('rows that one limit refuses cost nothing of the other limits on rows, but a request', async () => {
  assert.equal((await ask(gateway, 'alice', 'tight', { body: rows(4) })).status, 200)
  // Refused by what alice may have, so that all ten less four are left to bob and carol; of the requests one is.
  assertLimited(await ask(gateway, 'bob', 'tight', { body: rows(5) }), 'rows-own')
  assert.equal((await ask(gateway, 'bob', 'tight', { body: rows(4) })).status, 200)
  assertLimited(await ask(gateway, 'carol', 'tight', { body: rows(3) }), 'rows-all')
  assertLimited(await ask(gateway, 'carol', 'tight', { body: rows(2) }), 'requests')
})

test('a limit counts apart what it is by, and holds only for whom it names', async () => {
  const twoEach = [200, 200, 429]
  assert.deepEqual(await statuses(gateway, 'alice', 'tenants', 1), [200])
  assert.deepEqual(await statuses(gateway, 'carol', 'tenants', 2), [200, 429], 'one tenant has one bucket')
  assert.deepEqual(await statuses(gateway, 'bob', 'tenants', 3), twoEach)
  for (const who of ['alice', 'bob', 'carol']) assert.deepEqual(await statuses(gateway, who, 'callers', 3), twoEach)
  for (const model of ['shared-a', 'shared-b'])
    for (const who of ['alice', 'bob']) assert.deepEqual(await statuses(gateway, who, model, 3), twoEach)
  assert.deepEqual(await statuses(gateway, 'bob', 'named', 3), twoEach)
  assert.deepEqual(await statuses(gateway, 'alice', 'named', 4), [200, 200, 200, 200])
  assert.deepEqual(await statuses(gateway, 'alice', 'some', 2), [200, 429])
  assert.deepEqual(await statuses(gateway, 'bob', 'some', 3), [200, 200, 200])
  assert.deepEqual(await statuses(gateway, 'alice', '/first', 3), twoEach)
  assert.deepEqual(await statuses(gateway, 'alice', 'routed', 3), twoEach, 'the own route of the model')
  assertLimited(await ask(gateway, 'alice', '/second').then(() => ask(gateway, 'alice', '/second')), 'one-route')
})

for (const protocol of ['http', 'h2c'] as const)
  test(`over ${protocol} answers and refusals say how the tightest limit stands`, async (t) => {
    const client = openClient(t, protocol, { url: gateway.url, ca: '' })
    const send = (model: string, count: number) => {
      const headers = { 'content-type': 'application/json', 'x-api-key': keyOf('carol') }
      return client.send({ path: `/v2/models/${model}/infer`, headers, body: rows(count) })
    }
    const fieldsOf = (got: Awaited<ReturnType<typeof send>>) =>
      new Map(Object.entries(got.headers).map(([name, value]) => [name, String(value)]))
    const answer = await send('small', 1)
    assert.equal(answer.status, 200)
    const told = standing(fieldsOf(answer))
    assert.deepEqual([...policiesIn(fieldsOf(answer).get('ratelimit-policy'))], [['small', smallPolicy]])
    assert.equal(told.standing['r'], protocol === 'http' ? 2 : 1)
    assert.ok(Number(told.standing['t']) > 20_000, 'the third part of a day, until all is there')
    const tooLarge = await send('small', 4)
    assert.deepEqual([tooLarge.status, tooLarge.json.code], [429, 'rate_limited'])
    assert.match(tooLarge.json.error, /"small" lets a request have at most 3 rows/)
    assert.equal(tooLarge.headers['retry-after'], undefined, 'it would be refused again')
    assert.deepEqual(standing(fieldsOf(tooLarge)).standing, { r: told.standing['r'] })
    const tooMany = await send('small', 3)
    assert.equal(tooMany.status, 429)
    const waitS = Number(tooMany.headers['retry-after'])
    assert.ok(waitS > 20_000 && waitS <= 86_400, `${waitS}`)
    assert.deepEqual(standing(fieldsOf(tooMany)).standing, { r: told.standing['r'], t: waitS })
    assert.equal((await send('free', 1)).headers['ratelimit'], undefined, 'no limit is on this model')
  })

const smallPolicy = { q: 3, w: 86_400, qu: 'rows' }

test('who is over a limit is told from the head, before the body is read', async (t) => {
  assert.equal((await ask(gateway, 'alice', 'head')).status, 200)
  const key = { 'x-api-key': keyOf('alice') }
  const heads: Record<string, string>[] = [
    { 'content-length': '1000000' },
    { 'content-length': '1000000', expect: '100-continue' },
    { 'transfer-encoding': 'chunked' },
  ]
  assert.deepEqual(await statuses(gateway, 'alice', 'head-rows', [2]), [200])
  for (const [head, model] of heads.flatMap((each) => [[each, 'head'] as const, [each, 'head-rows'] as const])) {
    const wire = await Wire.open(t, gateway.url)
    wire.write(wireRequest(model, '', { ...key, ...head }))
    const { status, headers, json } = await wire.reply()
    assert.deepEqual([status, json.code], [429, 'rate_limited'], JSON.stringify(head))
    assert.ok(Number(headers.get('retry-after')) > 40_000)
    assert.equal(standing(headers).name, model)
    wire.hangUp()
  }
  const session = connectHttp2(gateway.url)
  t.after(() => session.destroy())
  const head = { ':method': 'POST', ':path': '/v2/models/head/infer', 'content-type': 'application/json', ...key }
  const stream = session.request(head, { endStream: false })
  const [fields] = (await once(stream, 'response')) as [Record<string, unknown>]
  assert.equal(fields[':status'], 429)
})

test('a model that is hidden from a caller shows no limits and costs nothing of them', async () => {
  const told = await Promise.all([1, 2, 3, 4].map(() => ask(gateway, 'alice', 'hidden')))
  for (const { status, headers } of told) {
    assert.equal(status, 404)
    assert.deepEqual(
      [headers.get('ratelimit'), headers.get('ratelimit-policy'), headers.get('retry-after')],
      [null, null, null],
    )
  }
  assert.deepEqual(await statuses(gateway, 'bob', 'hidden', 3), [200, 200, 429])
  // Also once the limit is reached.
  assert.deepEqual(await statuses(gateway, 'alice', 'hidden', 2), [404, 404])
  const absent = await ask(gateway, 'alice', 'no-such-model')
  assert.equal(absent.headers.get('ratelimit'), null)
})

test('who shows nothing is limited by its address, however many connections it has', async (t) => {
  const from = async (address: string) => {
    const wire = await Wire.open(t, gateway.url, '', address)
    wire.write(wireRequest('anyone', rows(1)))
    const { status } = await wire.reply()
    wire.hangUp()
    return status
  }
  const all = async (address: string) => [await from(address), await from(address), await from(address)]
  assert.deepEqual(await all('127.0.0.2'), [200, 200, 429])
  assert.deepEqual(await all('127.0.0.3'), [200, 200, 429])
  assert.deepEqual(await statuses(gateway, 'alice', 'anyone', 3), [200, 200, 429])
})

test('refusals are counted by limit, buckets and requests by how they ended', async () => {
  const before = await samples(gateway)
  assert.deepEqual(await statuses(gateway, 'alice', 'counted', 3), [200, 429, 429])
  const after = await samples(gateway)
  const grown = (name: string) => (after.get(name) ?? 0) - (before.get(name) ?? 0)
  assert.equal(grown('penstock_limit_refusals_total{limit="counted"}'), 2)
  assert.equal(
    grown('penstock_requests_total{route="counted",model="counted",version="",code="rate_limited"}'),
    2,
    [...after.keys()].filter((name) => name.includes('counted')).join('\n'),
  )
  // Those of others may have filled up meanwhile, and are gone then.
  assert.ok(after.get('penstock_limit_buckets')! >= 1)
  assert.equal(after.get('penstock_limit_buckets_forgotten_total'), 0)
  assert.equal(after.get('penstock_limit_leases'), 0)
})

test('options that make no sense are told in one line each, with their place', async () => {
  const rule = { name: 'a', by: [], rate: 1 }
  const cases: [settings: object, words: RegExp][] = [
    [{ limits: { rules: [{ ...rule, store: 'redis' }] } }, /limits\.rules\[0\]\.store: needs `redis`: set its `url`/],
    [
      { limits: { rules: [{ ...rule, by: ['colour'] }] } },
      /limits\.rules\[0\]\.by\[0\]: .*"tenant"\|"caller"\|"route"\|"model"/,
    ],
    [
      { limits: { rules: [{ name: 'a', by: [] }] } },
      /limits\.rules\[0\]\.rate: is missing: expected `rate` or `concurrency`/,
    ],
    [{ limits: { rules: [rule, rule] } }, /limits\.rules: every rule needs a `name` of its own/],
    [{ limits: { rules: [{ ...rule, brust: 1 }] } }, /limits\.rules\[0\].*brust/],
    [{ limits: { rules: [{ ...rule, where: { model: ['a'] } }] } }, /limits\.rules\[0\]\.where.*model/],
    [{ limits: { overload: { bulkMs: 900 } } }, /limits\.overload: expected bulkMs <= standardMs <= interactiveMs/],
    [{ limits: { maxKeys: 0 } }, /limits\.maxKeys: /],
    [{ redis: { url: 'redis://user:hunter2@localhost' } }, /redis\.url: .*name and password belong into files/],
  ]
  for (const [settings, words] of cases) {
    const complaint = await configWith(settings).then(
      () => 'it was taken',
      ({ message }: Error) => message,
    )
    assert.match(complaint, words)
    assert.match(complaint, /penstock\.yaml:\d+/)
    assert.doesNotMatch(complaint, /\n|hunter2/)
  }
})
