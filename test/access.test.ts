/** What callers may do and see, at the socket: rules, their order, and models that are kept from a caller. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { keyOf, keysFor, type Person } from './support/api-keys.ts'
import { startGateway, tensor, type TestGateway } from './support/gateway.ts'

const people: readonly Person[] = [
  { id: 'alice', tenant: 'acme', scopes: ['models'] },
  { id: 'bob', tenant: 'globex', scopes: ['models'] },
  { id: 'carol' },
]

async function guarded(t: TestContext, access: readonly object[], more: object = {}): Promise<TestGateway> {
  return startGateway(t, { settings: { auth: { apiKeys: await keysFor(people), access, ...more } } })
}

async function ask(gateway: TestGateway, id: string | undefined, path: string, init: RequestInit = {}) {
  const headers = { ...(id !== undefined && { 'x-api-key': keyOf(id) }), 'content-type': 'application/json' }
  const response = await fetch(gateway.url + path, { ...init, headers })
  const text = await response.text()
  return { status: response.status, headers: response.headers, json: text === '' ? undefined : JSON.parse(text) }
}

const row = JSON.stringify({
  inputs: [
    tensor(
      'features',
      'FP32',
      [1, 30],
      Array.from({ length: 30 }, () => 1),
    ),
  ],
})
const infer = (model: string) => [`/v2/models/${model}/infer`, { method: 'POST', body: row }] as const
const everything = ['infer', 'metadata', 'stats']

test('who shows nothing is told how to say who it is', async (t) => {
  const gateway = await guarded(t, [{ who: 'identified', operations: everything }])
  for (const path of ['/v2', '/v2/models', '/v2/models/digits', '/v2/models/none', '/v2/openapi.json']) {
    const { status, json } = await ask(gateway, undefined, path)
    assert.deepEqual([status, json.code], [401, 'unauthenticated'], path)
    assert.match(json.error, /x-api-key/)
  }
  assert.equal((await ask(gateway, undefined, ...infer('breast-cancer'))).status, 401)
})

test('probes are answered to everybody', async (t) => {
  const gateway = await guarded(t, [])
  assert.equal((await ask(gateway, undefined, '/v2/health/live')).status, 200)
  assert.equal((await ask(gateway, undefined, '/v2/health/ready')).status, 200)
})

test('what no rule fits is denied', async (t) => {
  const gateway = await guarded(t, [])
  assert.equal((await ask(gateway, 'alice', ...infer('breast-cancer'))).status, 404)
  assert.deepEqual((await ask(gateway, 'alice', '/v2/models')).json, { models: [] })
})

test('the first rule that fits decides', async (t) => {
  const gateway = await guarded(t, [
    { effect: 'deny', who: { tenants: ['globex'] }, operations: ['infer'], models: ['breast-*'] },
    { who: { scopes: ['models'] }, operations: everything },
  ])
  assert.equal((await ask(gateway, 'alice', ...infer('breast-cancer'))).status, 200)
  const { status, json } = await ask(gateway, 'bob', ...infer('breast-cancer'))
  assert.deepEqual([status, json.code], [403, 'forbidden'], 'bob sees the model and may not use it')
  assert.equal((await ask(gateway, 'bob', '/v2/models/breast-cancer')).status, 200)
  assert.equal((await ask(gateway, 'carol', ...infer('breast-cancer'))).status, 404, 'carol has no scope')
})

test('a model that a caller may not see is answered as one that does not exist', async (t) => {
  const gateway = await guarded(t, [{ who: 'identified', operations: everything, models: ['digits'] }])
  for (const ending of ['', '/ready', '/config', '/stats', '/infer', '/versions/1', '/versions/9/ready'])
    for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS']) {
      const init = method === 'POST' ? { method, body: row } : { method }
      const hidden = await ask(gateway, 'alice', `/v2/models/breast-cancer${ending}`, init)
      const absent = await ask(gateway, 'alice', `/v2/models/no-such-model${ending}`, init)
      const asSeen = ({ status, headers, json }: typeof hidden) => {
        const fields = [...headers].filter(([name]) => name !== 'date' && name !== 'x-request-id')
        return { status, fields, json: { ...json, request_id: '' } }
      }
      assert.deepEqual(asSeen(hidden), asSeen(absent), `${method} ${ending}`)
      assert.equal(hidden.status, 404, `${method} ${ending}`)
    }
})

test('lists, statistics and the OpenAPI document show what a caller may see, and nothing else', async (t) => {
  const gateway = await guarded(t, [
    { who: { subjects: ['alice'] }, operations: ['metadata'], models: ['digits'] },
    { who: { subjects: ['bob'] }, operations: everything, models: ['spam'] },
  ])
  assert.deepEqual((await ask(gateway, 'alice', '/v2/models')).json, { models: ['digits'] })
  assert.deepEqual((await ask(gateway, 'bob', '/v2/models')).json, { models: ['spam'] })
  const names = (json: { model_stats: { name: string }[] }) => [...new Set(json.model_stats.map(({ name }) => name))]
  assert.deepEqual(names((await ask(gateway, 'alice', '/v2/models/stats')).json), [], 'alice may not have statistics')
  assert.deepEqual(names((await ask(gateway, 'bob', '/v2/models/stats')).json), ['spam'])
  const { json } = await ask(gateway, 'alice', '/v2/openapi.json')
  assert.ok(json.paths['/v2/models/digits'])
  assert.doesNotMatch(JSON.stringify(json), /spam|breast-cancer/)
  assert.deepEqual(json.components.securitySchemes, { apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' } })
})

test('versions that a caller may not see are not there for it', async (t) => {
  const gateway = await guarded(t, [{ who: 'identified', operations: everything, models: ['digits'], versions: ['2'] }])
  assert.deepEqual((await ask(gateway, 'alice', '/v2/models/digits')).json.versions, ['2'])
  const hidden = await ask(gateway, 'alice', '/v2/models/digits/versions/1')
  const absent = await ask(gateway, 'alice', '/v2/models/digits/versions/77')
  assert.equal(hidden.status, 404)
  assert.deepEqual({ ...hidden.json, request_id: '' }, { ...absent.json, request_id: '' })
  const stats = await ask(gateway, 'alice', '/v2/models/digits/stats')
  assert.deepEqual(
    stats.json.model_stats.map(({ version }: { version: string }) => version),
    ['2'],
  )
})

test('with `unseen: forbidden` a caller is told that it may not', async (t) => {
  const gateway = await guarded(t, [], { unseen: 'forbidden' })
  assert.equal((await ask(gateway, 'alice', '/v2/models/digits')).status, 403)
  assert.equal((await ask(gateway, 'alice', '/v2/models/none')).status, 404)
})

test('a rule about anyone lets in who shows nothing, and refuses bad proofs all the same', async (t) => {
  const gateway = await guarded(t, [{ who: 'anyone', operations: ['metadata'], models: ['digits'] }])
  assert.equal((await ask(gateway, undefined, '/v2/models/digits')).status, 200)
  assert.equal((await ask(gateway, undefined, '/v2/models/spam')).status, 404)
  assert.equal((await ask(gateway, 'nobody-knows-me', '/v2/models/digits')).status, 401)
  const headers = { authorization: 'Bearer a.b.c' }
  assert.equal((await fetch(`${gateway.url}/v2/models/digits`, { headers })).status, 401)
})

test('an API key and an authorization field together are refused', async (t) => {
  const gateway = await guarded(t, [{ who: 'identified', operations: everything }])
  const headers = { 'x-api-key': keyOf('alice'), authorization: 'Bearer a.b.c' }
  assert.equal((await fetch(`${gateway.url}/v2/models`, { headers })).status, 401)
})
