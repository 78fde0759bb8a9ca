/** Splits at the front door: which arm a request goes to, that it stays there, and how the answer says so. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { edgeWith, wholeFile } from './support/client.ts'
import { folderWith, startGateway, tensor } from './support/gateway.ts'
import { claimsAt, fromServer, goodToken, KeyServer, signingKey } from './support/issuer.ts'
import { penstock } from './support/process.ts'
import { openClient, type Client } from './support/protocols.ts'
import { armsOf, ask, refusal, versionsOf } from './support/splits.ts'

const page = 'https://app.example'
const { edge } = edgeWith({ http2: { cleartext: true }, cors: { origins: [page] } })
const halves = { a: { version: '1', weight: 1 }, b: { version: '2', weight: 1 } }
const store = versionsOf('thirds', 'users', 'twins', 'ruled', 'named', 'plain')
const user = { by: 'header', name: 'x-user' }
const models = {
  thirds: {
    aliases: { stable: '1', candidate: '2' },
    split: {
      arms: {
        stable: { version: 'stable', weight: 0.6 },
        canary: { version: 'candidate', weight: 0.3 },
        spare: { version: '3', weight: 0 },
      },
    },
  },
  users: { split: { unit: user, arms: halves } },
  twins: { split: { unit: user, arms: halves, salt: 'users' } },
  ruled: {
    split: {
      arms: {
        usual: { version: '1', weight: 1 },
        beta: { version: '2', weight: 0 },
        other: { version: '3', weight: 0 },
      },
      rules: [
        { match: { headers: { 'x-beta': 'yes', 'x-team': 'blue' } }, arm: 'beta' },
        { match: { headers: { 'x-beta': 'yes' } }, arm: 'other' },
        { match: { routes: ['by-*'] }, arm: 'beta' },
        { match: { callers: ['127.0.0.2'] }, arm: 'other' },
      ],
    },
  },
  named: { version: 'stable', aliases: { stable: '2' } },
}
const routes = [{ name: 'by-path', match: { path: '/beta' }, model: 'ruled' }]
const settings = { edge, models, routes, runtime: { executors: 1 } }
const gateway = await startGateway(wholeFile, { store, settings })

/** Two clients, with and without HTTP/2. */
function clientsOf(t: TestContext, { url }: { readonly url: string }): Client[] {
  return (['http', 'h2c'] as const).map((protocol) => openClient(t, protocol, { url, ca: '' }))
}
const [overHttp1, overHttp2] = clientsOf(wholeFile, gateway) as [Client, Client]

/** The same over both versions of HTTP. */
function overBoth(what: string, run: (client: Client) => Promise<void>): void {
  test(`${what}, over HTTP/1.1`, () => run(overHttp1))
  test(`${what}, over h2c`, () => run(overHttp2))
}

const users = Array.from({ length: 60 }, (_, i) => ({ 'x-user': `user-${i}` }))
const nobody = (count: number) => Array.from({ length: count }, () => ({}))
const kinds = (arms: readonly (string | undefined)[]) => [...new Set(arms.map(String))].toSorted()

overBoth('requests are divided as the weights say, and an arm without weight gets none', async (client) => {
  const count = 1_200
  const arms = await armsOf(client, 'thirds', nobody(count))
  assert.deepEqual(kinds(arms), ['canary', 'stable'])
  const canary = arms.filter((arm) => arm === 'canary').length
  const deviation = Math.sqrt((count * 2) / 9)
  assert.ok(Math.abs(canary - count / 3) < 5 * deviation, `${canary} of ${count}`)
})

overBoth('a request id is the choice of a client, and its arm is not', async (client) => {
  const arms = await armsOf(
    client,
    'thirds',
    nobody(60).map(() => ({ 'x-request-id': 'always-the-same' })),
  )
  assert.deepEqual(kinds(arms), ['canary', 'stable'])
})

test('all with the same value of a header go one way, whatever the protocol', async () => {
  const arms = await armsOf(overHttp1, 'users', users)
  assert.deepEqual(kinds(arms), ['a', 'b'])
  assert.deepEqual(await armsOf(overHttp2, 'users', users), arms)
  assert.deepEqual(await armsOf(overHttp1, 'users', users), arms)
})

test('the same salt divides the units of two models alike', async () => {
  assert.deepEqual(await armsOf(overHttp1, 'twins', users), await armsOf(overHttp1, 'users', users))
})

overBoth('who has no such header, or one that is no name, is assigned by request', async (client) => {
  for (const headers of [{}, { 'x-user': '' }, { 'x-user': 'x'.repeat(257) }]) {
    const arms = await armsOf(
      client,
      'users',
      nobody(60).map(() => headers),
    )
    assert.deepEqual(kinds(arms), ['a', 'b'], JSON.stringify(headers))
  }
  const long = nobody(40).map(() => ({ 'x-user': 'x'.repeat(256) }))
  assert.equal(kinds(await armsOf(client, 'users', long)).length, 1)
})

test('units keep their arm in another process and after a restart', async (t) => {
  const arms = await armsOf(overHttp1, 'users', users)
  const files = Object.entries(versionsOf('users')).map(([name, bytes]) => [`s/${name}`, bytes] as const)
  const own = { models: { users: models.users }, routes: [], metrics: { port: 0 }, admin: { port: 0 } }
  const plan = { ...settings, ...own, auth: 'none', store: { path: 's' } }
  const folder = await folderWith({ ...Object.fromEntries(files), 'penstock.yaml': stringify(plan) })
  for (let starts = 0; starts < 2; starts++) {
    const served = penstock(t, ['serve', 'penstock.yaml'], folder)
    const [, url] = await served.said(/ at (http:\S+), metrics at /)
    for (const client of clientsOf(t, { url: url! })) assert.deepEqual(await armsOf(client, 'users', users), arms)
    served.child.kill('SIGKILL')
    await served.finished
  }
})

test('with other weights only those move who must, and only to the arm that has grown', async (t) => {
  const arms = await armsOf(overHttp1, 'users', users)
  const grown = { b: { version: '2', weight: 3 }, a: { version: '1', weight: 1 } }
  const own = { users: { split: { unit: user, arms: grown } } }
  const other = await startGateway(t, {
    store: versionsOf('users'),
    settings: { ...settings, models: own, routes: [] },
  })
  const [client] = clientsOf(t, other) as [Client]
  const now = await armsOf(client, 'users', users)
  const moved = now.filter((arm, i) => arm !== arms[i])
  assert.ok(moved.length > 0 && moved.every((arm) => arm === 'b'), moved.join())
})

overBoth('rules go before weights, the first that fits holds, and it has to fit as a whole', async (client) => {
  const cases: [headers: Record<string, string>, arm: string][] = [
    [{ 'x-beta': 'yes', 'x-team': 'blue' }, 'beta'],
    [{ 'x-beta': 'yes', 'x-team': 'red' }, 'other'],
    [{ 'x-beta': 'yes' }, 'other'],
    [{ 'x-beta': 'Yes' }, 'usual'],
    [{ 'x-beta': 'yes, yes' }, 'usual'],
    [{ 'x-team': 'blue' }, 'usual'],
    [{}, 'usual'],
  ]
  for (const [headers, arm] of cases)
    assert.equal((await ask(client, 'ruled', headers)).arm, arm, JSON.stringify(headers))
})

overBoth('a rule may go by the route that a request came by', async (client) => {
  assert.deepEqual(await ask(client, '/beta'), { arm: 'beta', version: '2' })
  assert.deepEqual(await ask(client, '/v2/models/ruled'), { arm: 'usual', version: '1' })
})

overBoth('who names a version gets that one, by its number or by an alias, and no arm', async (client) => {
  for (const [name, version] of Object.entries({ 1: '1', 2: '2', 3: '3', stable: '1', candidate: '2' }))
    assert.deepEqual(await ask(client, `thirds/versions/${name}`), { arm: undefined, version })
  assert.deepEqual(await ask(client, 'ruled/versions/1', { 'x-beta': 'yes' }), { arm: undefined, version: '1' })
})

overBoth('a name that is neither a version nor an alias is answered as any other', async (client) => {
  const wrong = await refusal(client, 'thirds/versions/9')
  assert.deepEqual([wrong.status, wrong.code], [404, 'not_found'])
  for (const name of ['canary', 'constructor', '__proto__', 'toString', 'Stable'])
    assert.deepEqual(await refusal(client, `thirds/versions/${name}`), wrong, name)
  assert.deepEqual(await refusal(client, 'users/versions/stable'), wrong, 'aliases are of their model')
})

overBoth('an alias says which version is the usual one, where there is no split', async (client) => {
  assert.deepEqual(await ask(client, 'named'), { arm: undefined, version: '2' })
})

overBoth('a model without a split is answered as ever, whatever arm is asked for', async (client) => {
  for (const headers of [{}, { 'x-penstock-arm': 'canary' }, { 'x-beta': 'yes', 'x-user': 'me' }])
    assert.deepEqual(await ask(client, 'plain', headers), { arm: undefined, version: '3' })
})

overBoth('a forced arm answers, also one without weight', async (client) => {
  for (const [arm, version] of Object.entries({ stable: '1', canary: '2', spare: '3' }))
    assert.deepEqual(await ask(client, 'thirds', { 'x-penstock-arm': arm }), { arm, version })
  assert.deepEqual(await ask(client, 'ruled', { 'x-penstock-arm': 'usual', 'x-beta': 'yes' }), {
    arm: 'usual',
    version: '1',
  })
})

overBoth('who forces an arm that there is not is told which there are', async (client) => {
  for (const arm of ['beta', '', 'Canary', 'canary, canary', 'constructor', '__proto__', '2', 'candidate']) {
    const { status, code, error } = await refusal(client, 'thirds', { 'x-penstock-arm': arm })
    assert.deepEqual([status, code], [400, 'invalid'], arm)
    assert.match(error, /"x-penstock-arm": there is no such arm; there are canary, spare, stable$/)
  }
})

overBoth('an answer in binary says its arm in the head and in the parameters too', async (client) => {
  const inputs = [tensor('x', 'INT64', [1, 1], [7])]
  const body = JSON.stringify({ inputs, parameters: { binary_data_output: true } })
  const headers = { 'content-type': 'application/json', 'x-penstock-arm': 'canary' }
  const got = await client.send({ path: '/v2/models/thirds/infer', body, headers })
  const jsonBytes = Number(got.headers['inference-header-content-length'])
  const { model_version: version, parameters } = JSON.parse(got.body.toString('utf8', 0, jsonBytes))
  assert.deepEqual([version, parameters.arm, got.body.readBigInt64LE(jsonBytes)], ['2', 'canary', 207n])
  assert.deepEqual([got.headers['x-penstock-arm'], got.headers['x-penstock-version']], ['canary', '2'])
})

overBoth('what is asked about a model is about the version of its default arm', async (client) => {
  const about = async (path: string) => (await client.send({ path: `/v2/models/${path}` })).json
  const metadata = await about('thirds')
  assert.deepEqual([metadata.versions, metadata.parameters.version], [['1', '2', '3'], '1'])
  const named = await about('thirds/versions/candidate')
  assert.deepEqual([named.versions, named.parameters.version], [['2'], '2'])
  assert.deepEqual((await about('thirds/config')).version_policy, { specific: { versions: ['1'] } })
  assert.deepEqual((await about('thirds/versions/stable/config')).version_policy, { specific: { versions: ['1'] } })
  assert.equal((await about('thirds/versions/candidate/ready')).ready, true)
  assert.equal((await client.send({ path: '/v2/models/thirds/versions/beta/ready' })).status, 404)
  assert.equal((await about('named')).parameters.version, '2')
})

overBoth('methods are as they are without a split', async (client) => {
  const tried = async (method: string, path: string) => {
    const { status, headers } = await client.send({ method, path })
    return [status, headers.allow, headers['x-penstock-arm']]
  }
  for (const model of ['thirds', 'plain']) {
    assert.deepEqual(await tried('GET', `/v2/models/${model}/infer`), [405, 'POST, OPTIONS', undefined])
    assert.deepEqual(await tried('OPTIONS', `/v2/models/${model}/infer`), [204, 'POST, OPTIONS', undefined])
    assert.deepEqual(await tried('PATCH', `/v2/models/${model}`), [405, 'GET, HEAD, OPTIONS', undefined])
  }
})

overBoth('a page may ask for an arm and read which it was', async (client) => {
  const path = '/v2/models/thirds/infer'
  const asking = { origin: page, 'access-control-request-method': 'POST' }
  const told = (await client.send({ method: 'OPTIONS', path, headers: asking })).headers
  assert.match(told['access-control-allow-headers']!, /(^|, )x-penstock-arm(, |$)/)
  const exposed = (await client.send({ path: '/v2', headers: { origin: page } })).headers[
    'access-control-expose-headers'
  ] as string
  for (const name of ['x-penstock-arm', 'x-penstock-version', 'x-penstock-prediction'])
    assert.ok(exposed.split(', ').includes(name), `${name} in ${exposed}`)
})

test('with tokens, callers and the values of a claim keep their arm, and rules know them', async (t) => {
  const key = signingKey('ES256', 'splits')
  const server = await KeyServer.start(t, [key.jwk])
  const arms = { ...halves, c: { version: '3', weight: 0 } }
  const rules = [
    { match: { claims: { plan: 'gold', beta: 'true' } }, arm: 'c' },
    { match: { callers: ['https://login.example.com/boss-*'] }, arm: 'c' },
  ]
  const own = {
    thirds: { split: { unit: { by: 'caller' }, arms, rules } },
    users: { split: { unit: { by: 'claim', name: 'team' }, arms, rules } },
  }
  const access = [{ who: 'identified', operations: ['infer'] }]
  const auth = { jwt: fromServer(server), access }
  const served = await startGateway(t, {
    store: versionsOf('thirds', 'users'),
    settings: { ...settings, auth, models: own, routes: [] },
  })
  const [client] = clientsOf(t, served) as [Client]
  const mint = (claims: object) => {
    const all = claimsAt({ seconds: Math.floor(Date.now() / 1_000) }, { jti: crypto.randomUUID(), ...claims })
    return { authorization: `Bearer ${goodToken(key, all)}` }
  }
  const each = (make: (i: number) => object, count = 40) => Array.from({ length: count }, (_, i) => mint(make(i)))

  const callers = await armsOf(
    client,
    'thirds',
    each((i) => ({ sub: `s-${i}` })),
  )
  assert.deepEqual(kinds(callers), ['a', 'b'])
  assert.deepEqual(
    await armsOf(
      client,
      'thirds',
      each((i) => ({ sub: `s-${i}`, team: `t-${i}` })),
    ),
    callers,
  )
  const teams = await armsOf(
    client,
    'users',
    each((i) => ({ sub: `s-${i}`, team: `t-${i}` })),
  )
  assert.deepEqual(kinds(teams), ['a', 'b'])
  assert.deepEqual(
    await armsOf(
      client,
      'users',
      each((i) => ({ sub: `other-${i}`, team: `t-${i}` })),
    ),
    teams,
  )
  const teamless = await armsOf(
    client,
    'users',
    each(() => ({ sub: 'alone' }), 60),
  )
  assert.deepEqual(kinds(teamless), ['a', 'b'])
  for (const claims of [{ plan: 'gold', beta: true }, { sub: 'boss-1' }])
    assert.deepEqual(
      kinds(
        await armsOf(
          client,
          'users',
          each(() => claims, 10),
        ),
      ),
      ['c'],
      JSON.stringify(claims),
    )
  for (const claims of [{ plan: 'gold' }, { plan: ['gold'], beta: true }, { sub: 'bossy' }])
    assert.ok(
      !(
        await armsOf(
          client,
          'users',
          each(() => claims, 10),
        )
      ).includes('c'),
      JSON.stringify(claims),
    )
})
