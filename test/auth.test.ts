/** Tokens at the socket, over HTTP/1.1 and HTTP/2: who gets in, what others are told, and what nobody gets to see. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { samples, until, wholeFile } from './support/client.ts'
import { fieldBlock, flags, frame, FrameWire, inferFields, request, types } from './support/frames.ts'
import { folderWith, startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { claimsAt, fromServer, goodToken, issuer, KeyServer, signingKey, tokenOf } from './support/issuer.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { openClient, type Got, type Sent } from './support/protocols.ts'
import { Wire, wireRequest } from './support/socket.ts'

const [ec, rsa] = [signingKey('ES256', 'ec'), signingKey('RS256', 'rsa')]
const stranger = signingKey('ES256', 'ec')
const server = await KeyServer.start(wholeFile, [ec.jwk, rsa.jwk])
/** Counts who fetches what a token names. */
const lure = await KeyServer.start(wholeFile, [stranger.jwk])
const store = { 'echo.onnx': identity('FP32', ['n', 1]), 'hidden.onnx': identity('FP32', ['n', 1]) }
const page = 'https://app.example'
const rules = [
  { who: { scopes: ['models'] }, operations: ['infer', 'metadata', 'stats'], models: ['echo'] },
  { who: { tenants: ['acme'] }, operations: ['metadata'], models: ['echo'] },
  { who: { subjects: ['bob'] }, operations: ['stats'], models: ['echo'] },
  { who: { callers: [`${issuer}/carol`] }, operations: ['metadata'], models: ['hidden'] },
]

function claims(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return claimsAt({ seconds: Math.floor(Date.now() / 1_000) }, { scope: 'models', ...changes })
}
function mint(changes: Record<string, unknown> = {}, key = ec): string {
  return goodToken(key, claims({ jti: crypto.randomUUID(), ...changes }))
}
const edge = { port: 0, drain: { idleMs: 0, timeoutMs: 5_000 }, http2: { cleartext: true }, cors: { origins: [page] } }

function guarded(t: TestContext, jwt: object = {}, more: object = {}): Promise<TestGateway> {
  const auth = { jwt: { ...fromServer(server), maxFailuresPerMinute: 100_000, ...jwt }, access: rules }
  return startGateway(t, { store, settings: { auth, edge, ...more } })
}

const gateway = await guarded(wholeFile)
const clients = (['http', 'h2c'] as const).map((name) => {
  const client = openClient(wholeFile, name, { url: gateway.url, ca: '' })
  return { name, send: (sent: Sent) => client.send(sent) }
})

const body = JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [7])] })
const target = '/v2/models/echo/infer'
function inferring(authorization?: string, path = target): Sent {
  const own = authorization === undefined ? {} : { authorization }
  return { path, body, headers: { 'content-type': 'application/json', ...own } }
}

/** The same over both versions of HTTP. */
function overBoth(what: string, run: (send: (sent: Sent) => Promise<Got>, t: TestContext) => Promise<void>) {
  for (const { name, send } of clients) test(`${what}, over ${name}`, (t) => run(send, t))
}

overBoth('a good token gets in, in whatever letters the scheme is written', async (send) => {
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'BeArEr']) {
    const { status, json } = await send(inferring(`${scheme} ${mint()}`))
    assert.equal(status, 200, scheme)
    assert.deepEqual(json.outputs[0].data, [7])
  }
  assert.equal((await send(inferring(`Bearer ${mint({}, rsa)}`))).status, 200)
})

const soon = 3_600
const now = Math.floor(Date.now() / 1_000)
const rsaPem = Buffer.from(rsa.publicKey.export({ type: 'spki', format: 'pem' }))
const signed = (head: object, alg: string, key: Parameters<typeof tokenOf>[2]['key']) => {
  return `Bearer ${tokenOf(head, claims(), { alg, key })}`
}
const own = { alg: 'ES256', privateKey: stranger.privateKey }
const bad: Record<string, string | undefined> = {
  'no field': undefined,
  'an empty field': '',
  'the scheme alone': 'Bearer',
  'the scheme and a space': 'Bearer ',
  'another scheme': 'Basic YWxpY2U6c2VjcmV0',
  'a token without a scheme': mint(),
  'two tokens': `Bearer ${mint()} ${mint()}`,
  'a list of two': `Bearer ${mint()}, Bearer ${mint()}`,
  'no token': 'Bearer nonsense',
  'two parts': `Bearer ${mint().split('.', 2).join('.')}`,
  'four parts': `Bearer ${mint()}.e30`,
  'no JSON inside': 'Bearer bm8.bm8.bm8',
  'a signature that is cut': `Bearer ${mint().slice(0, -4)}`,
  'an expired token': `Bearer ${mint({ iat: now - 2 * soon, exp: now - soon })}`,
  'a token that is not valid yet': `Bearer ${mint({ nbf: now + soon, exp: now + 2 * soon })}`,
  'a token without an end': `Bearer ${mint({ exp: undefined })}`,
  'another audience': `Bearer ${mint({ aud: 'elsewhere' })}`,
  'another issuer': `Bearer ${mint({ iss: 'https://evil.example' })}`,
  'the key of a stranger': `Bearer ${mint({}, stranger)}`,
  'alg none': `Bearer ${tokenOf({ alg: 'none' }, claims(), { alg: 'HS256', key: Buffer.alloc(32) }).replace(/[^.]+$/, '')}`,
  'alg none with a signature': signed({ alg: 'none' }, 'HS256', Buffer.alloc(32)),
  'HMAC with the public key': signed({ alg: 'HS256', kid: 'rsa' }, 'HS256', rsaPem),
  'RS256 in the head and HMAC under it': signed({ alg: 'RS256', kid: 'rsa' }, 'HS256', rsaPem),
  'a key in the head': signed({ alg: own.alg, kid: 'ec', jwk: stranger.jwk }, own.alg, own.privateKey),
  'an address of keys in the head': signed({ alg: own.alg, kid: 'ec', jku: lure.url }, own.alg, own.privateKey),
  'an address of certificates in the head': signed({ alg: own.alg, x5u: lure.url }, own.alg, own.privateKey),
  'a token over its limit': `Bearer ${mint({ filling: 'x'.repeat(7_000) })}`,
}

overBoth('every other proof is answered 401 with a challenge and without a word of the token', async (send) => {
  for (const [what, authorization] of Object.entries(bad)) {
    const { status, headers, json, body: text } = await send(inferring(authorization))
    assert.deepEqual([status, json?.code], [401, 'unauthenticated'], what)
    assert.match(headers['www-authenticate'] ?? '', /^Bearer realm="penstock"/, what)
    const shown = authorization?.split(/[ .]/).filter((part) => part.length > 12) ?? []
    const all = JSON.stringify(headers) + String(text)
    for (const part of shown) assert.ok(!all.includes(part), what)
  }
  assert.equal(lure.requests, 0, 'nothing that a token names is fetched')
})

overBoth('every question asks for the same proof, and probes for none', async (send) => {
  for (const path of [
    '/v2',
    '/v2/models',
    '/v2/models/echo',
    '/v2/models/none',
    '/v2/openapi.json',
    '/v2/models/stats',
  ])
    assert.equal((await send({ path, headers: { authorization: bad['an expired token']! } })).status, 401, path)
  for (const path of ['/v2/health/live', '/v2/health/ready'])
    assert.equal((await send({ path, headers: { authorization: 'Bearer nonsense' } })).status, 200, path)
})

test('a head that a token makes too long is answered 431, or its stream ends', async () => {
  const [http, h2c] = clients
  const sent = inferring(`Bearer ${mint({ filling: 'x'.repeat(14_000) })}`)
  assert.equal((await http!.send(sent)).status, 431)
  await assert.rejects(h2c!.send(sent), /ENHANCE_YOUR_CALM/)
  assert.equal((await h2c!.send(inferring(`Bearer ${mint()}`))).status, 200, 'the connection goes on')
})

test('two authorization fields are refused over HTTP/1.1, whether the same or not', async (t) => {
  const [one, two] = [mint(), mint()]
  for (const pair of [
    [one, two],
    [one, one],
    ['', one],
    [one, ''],
  ]) {
    const wire = await Wire.open(t, gateway.url)
    const fields = pair.map((token, i) => `${i > 0 ? 'Authorization' : 'authorization'}: Bearer ${token}\r\n`).join('')
    wire.write(`GET /v2/models HTTP/1.1\r\nhost: localhost\r\n${fields}\r\n`)
    const { status, json } = await wire.reply()
    assert.deepEqual([status, json.code], [400, 'invalid'])
  }
})

test('two authorization fields are refused over HTTP/2, whether the same or not', async (t) => {
  const [one, two] = [mint(), mint()]
  for (const pair of [
    [one, two],
    [one, one],
  ]) {
    const wire = await FrameWire.open(t, { url: gateway.url, ca: '' })
    const get = { ':method': 'GET', ':scheme': 'http', ':path': '/v2/models', ':authority': 'localhost' }
    const proofs = pair.map((token) => fieldBlock({ authorization: `Bearer ${token}` }))
    const block = Buffer.concat([fieldBlock(get), ...proofs])
    wire.write(frame(types.headers, flags.endHeaders | flags.endStream, 1, block))
    const { status, json } = await wire.answer(1)
    assert.deepEqual([status, json.code], [400, 'invalid'])
  }
})

overBoth('tenant, subject, scopes and name of a token reach the rules', async (send) => {
  const may = async (changes: object, path: string, isInference = false) => {
    const authorization = `Bearer ${mint({ ...changes })}`
    return (await send(isInference ? inferring(authorization, path) : { path, headers: { authorization } })).status
  }
  assert.equal(await may({}, '/v2/models/echo/stats'), 200)
  const acme = { scope: undefined, tenant: 'acme' }
  assert.equal(await may(acme, '/v2/models/echo'), 200)
  assert.equal(await may(acme, '/v2/models/echo/stats'), 403)
  assert.equal(await may(acme, target, true), 403)
  const bob = { scope: 'other', sub: 'bob' }
  assert.equal(await may(bob, '/v2/models/echo/stats'), 200)
  assert.equal(await may(bob, '/v2/models/echo'), 403)
  assert.equal(await may({ scope: undefined, sub: 'carol' }, '/v2/models/hidden'), 200)
  assert.equal(await may({ sub: 'carol', scope: undefined }, target, true), 404)
  assert.equal(await may({ scope: 'model', sub: 'dan' }, target, true), 404)
  assert.equal(await may({}, '/v2/models/hidden'), 404)
})

test('without keys of the issuer it is 503, until they can be fetched', async (t) => {
  const late = await KeyServer.start(t, [ec.jwk])
  await late.down()
  const fresh = await guarded(t, fromServer(late))
  const headers = { authorization: `Bearer ${mint()}` }
  const refused = await fetch(`${fresh.url}/v2/models`, { headers })
  assert.deepEqual([refused.status, ((await refused.json()) as any).code], [503, 'not_ready'])
  assert.ok(Number(refused.headers.get('retry-after')) >= 1)
  assert.equal((await fetch(`${fresh.url}/v2/health/ready`)).status, 200)
  await late.up()
  await until('the keys are there', async () => (await fetch(`${fresh.url}/v2/models`, { headers })).status === 200)
})

test('a flood of bad tokens is answered 429, and keeps out neither who is known nor who comes from elsewhere', async (t) => {
  const fresh = await guarded(t, { maxFailuresPerMinute: 5 })
  const status = async (token: string, from = '') => {
    const wire = await Wire.open(t, fresh.url, '', from)
    wire.write(`GET /v2/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${token}\r\n\r\n`)
    const { status: found, headers } = await wire.reply()
    if (found === 429) assert.ok(Number(headers.get('retry-after')) >= 1)
    return found
  }
  const known = mint()
  assert.equal(await status(known), 200)
  const answers: number[] = []
  for (let i = 0; i < 20; i++) answers.push(await status(mint({}, stranger)))
  assert.deepEqual(answers.slice(0, 5), [401, 401, 401, 401, 401])
  assert.ok(answers.includes(429) && answers.every((each) => each === 401 || each === 429))
  assert.equal(answers.at(-1), 429)
  assert.equal(await status(known), 200)
  assert.equal(await status(mint(), '127.0.0.2'), 200)
})

test('no token is in any log, metric or answer', async (t) => {
  const auth = { jwt: fromServer(server), access: rules }
  const plan = {
    auth,
    edge,
    metrics: { port: 0 },
    admin: { port: 0 },
    log: { level: 'debug' },
    store: { path: 'store' },
  }
  const files = { 'penstock.yaml': stringify(plan), 'store/echo.onnx': store['echo.onnx'] }
  const served = penstock(t, ['serve', 'penstock.yaml'], await folderWith(files))
  const [, url, metricsUrl] = await served.said(/at (http:\S+), metrics at (http:\S+)\/metrics/)
  const shown = [`Bearer ${mint()}`, ...Object.values(bad).filter((each) => each !== undefined)]
  const seen: string[] = []
  for (const authorization of shown) {
    const response = await fetch(url! + target, { method: 'POST', body, headers: { authorization } })
    seen.push(JSON.stringify([...response.headers]) + (await response.text()))
  }
  seen.push(await (await fetch(`${metricsUrl}/metrics`)).text())
  served.child.kill('SIGTERM')
  const { stdout, stderr } = await served.finished
  const all = [...seen, stdout, stderr].join('\n')
  assert.match(all, /penstock_unidentified_total\{method="jwt",reason="expired"\} \d/)
  for (const authorization of shown)
    for (const part of authorization.split(/[ .,]/)) if (part.length > 12) assert.ok(!all.includes(part))
})

overBoth('a preflight needs no token and says nothing about what is there', async (send) => {
  const asked = { origin: page, 'access-control-request-method': 'POST' }
  const answers: object[] = []
  for (const model of ['echo', 'hidden', 'none'])
    for (const more of [{}, { authorization: 'Bearer nonsense' }]) {
      const got = await send({ method: 'OPTIONS', path: `/v2/models/${model}/infer`, headers: { ...asked, ...more } })
      assert.equal(got.status, 204)
      assert.equal(got.headers['access-control-allow-origin'], page)
      assert.match(got.headers['access-control-allow-headers'] ?? '', /authorization/)
      const { date: _date, 'x-request-id': _id, ...rest } = got.headers
      answers.push({ ...rest, ':status': 204 })
    }
  for (const answer of answers) assert.deepEqual(answer, answers[0])
})

test('a preflight is answered 204 where a rule lets anyone see some models too', async (t) => {
  const access = [{ who: 'anyone', operations: ['metadata'], models: ['hidden'] }, ...rules]
  const open = await startGateway(t, { store, settings: { auth: { jwt: fromServer(server), access }, edge } })
  const headers = { origin: page, 'access-control-request-method': 'POST' }
  const { status } = await fetch(open.url + target, { method: 'OPTIONS', headers })
  assert.equal(status, 204, 'browsers send no token with it, and then ask with one')
})

/** The status that answers a head whose body never comes. */
const headOnly = {
  http: async (t: TestContext, { url }: TestGateway, model: string, fields: Record<string, string>) => {
    const wire = await Wire.open(t, url)
    wire.write(wireRequest(model, '', fields))
    return (await wire.reply()).status
  },
  h2c: async (t: TestContext, { url }: TestGateway, model: string, fields: Record<string, string>) => {
    const wire = await FrameWire.open(t, { url, ca: '' })
    wire.write(request(1, inferFields(model, fields)))
    const { status } = await wire.answer(1)
    wire.hangUp()
    return status
  },
}

for (const [protocol, ask] of Object.entries(headOnly))
  test(`who is turned down is answered before the body is there, over ${protocol}`, async (t) => {
    const fresh = await guarded(t, {}, { limits: { rules: [{ name: 'few', by: ['caller'], rate: 0.001 }] } })
    const asks = (token: string, model: string) => {
      return ask(t, fresh, model, { 'content-length': '1000', authorization: `Bearer ${token}` })
    }
    assert.equal(await asks('nonsense', 'echo'), 401)
    assert.equal(await asks(mint({ scope: undefined, tenant: 'acme' }), 'echo'), 403)
    assert.equal(await asks(mint(), 'hidden'), 404)
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${mint()}` }
    assert.equal((await fetch(fresh.url + target, { method: 'POST', body, headers })).status, 200)
    assert.equal(await asks(mint(), 'echo'), 429)
  })

test('who comes in is counted by how, and who does not by why', async (t) => {
  const fresh = await guarded(t)
  for (const authorization of [`Bearer ${mint()}`, bad['another audience']!, bad['another scheme']!, undefined])
    await fetch(`${fresh.url}/v2/models`, authorization === undefined ? {} : { headers: { authorization } })
  const seen = await samples(fresh)
  assert.equal(seen.get('penstock_identified_total{method="jwt"}'), 1)
  assert.equal(seen.get('penstock_unidentified_total{method="jwt",reason="audience"}'), 1)
  assert.equal(seen.get('penstock_unidentified_total{method="jwt",reason="scheme"}'), 1)
  assert.equal(seen.get('penstock_unidentified_total{method="none",reason="missing"}'), 1)
})

test('where keys are taken too, every 401 has a challenge (RFC 9110 section 15.5.2)', async (t) => {
  const folder = await folderWith({ 'keys.yaml': `keys: [{ id: k, sha256: '${'0'.repeat(64)}' }]` })
  const auth = { jwt: fromServer(server), apiKeys: { file: `${folder}/keys.yaml` }, access: rules }
  const both = await startGateway(t, { store, settings: { auth } })
  const shown: Record<string, string>[] = [{}, { 'x-api-key': 'k.wrong' }, { authorization: 'Basic eA==' }]
  shown.push({ 'x-api-key': 'k.wrong', authorization: `Bearer ${mint()}` })
  for (const headers of shown) {
    const answer = await fetch(`${both.url}/v2/models`, { headers })
    assert.equal(answer.status, 401)
    assert.ok(answer.headers.has('www-authenticate'), Object.keys(headers).join(' and ') || 'nothing')
  }
})
