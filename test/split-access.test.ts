/** Splits and access: who may force an arm, who may not use a version, and what of all this is no evidence. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keyOf, keysFor } from './support/api-keys.ts'
import { admin, edgeWith, samples, until, wholeFile } from './support/client.ts'
import { startGateway, type TestGateway } from './support/gateway.ts'
import { openClient, type Client } from './support/protocols.ts'
import { armsOf, ask, refusal, send, versionsOf } from './support/splits.ts'

/** Scopes say which versions their callers may use. */
const people = [
  { id: 'all', scopes: ['v1', 'v2', 'v3'] },
  { id: 'tester', scopes: ['v1', 'v2', 'v3', 'experiment:force'] },
  { id: 'almost', scopes: ['v1', 'v2', 'v3', 'experiment:forced', 'experiment'] },
  { id: 'old', scopes: ['v1'] },
  { id: 'old-tester', scopes: ['v1', 'experiment:force'] },
  { id: 'new', scopes: ['v2'] },
  { id: 'newer', scopes: ['v2', 'v3'] },
  { id: 'reader', scopes: ['m2', 'v1'] },
  { id: 'nobody', scopes: ['experiment:force'] },
]
const access = [
  ...['1', '2', '3'].map((version) => {
    return { who: { scopes: [`v${version}`] }, operations: ['infer', 'metadata'], versions: [version] }
  }),
  { who: { scopes: ['m2'] }, operations: ['metadata'], versions: ['2'] },
]
const arms = { stable: { version: '1', weight: 1 }, canary: { version: 'candidate', weight: 1 } }
const aliases = { stable: '1', candidate: '2' }
const canary = { kind: 'canary' }
const rules = [{ match: { headers: { 'x-beta': 'yes' } }, arm: 'canary' }]
const toStable = [{ match: { headers: { 'x-beta': 'no' } }, arm: 'stable' }]
const split = { arms, rules, default: 'stable' }
const models = {
  halves: { aliases, split },
  thirds: {
    aliases,
    split: { arms: { ...arms, third: { version: '3', weight: 1 } }, rules: toStable, default: 'third' },
  },
  tried: { aliases, split, experiment: canary },
  limited: { aliases, split, experiment: canary },
}
const { edge } = edgeWith({ http2: { cleartext: true } })
const gateway = await startGateway(wholeFile, {
  store: versionsOf(...Object.keys(models), 'plain'),
  settings: { edge, models, runtime: { executors: 1 }, auth: { apiKeys: await keysFor(people), access } },
})

type Sender = Pick<Client, 'send'>
type Who = (id: string) => Sender

/** The same over both versions of HTTP; `as` is a client with somebody's key. */
function overBoth(what: string, run: (as: Who) => Promise<void>): void {
  for (const protocol of ['http', 'h2c'] as const)
    test(`${what}, over ${protocol}`, async (t) => {
      const client = openClient(t, protocol, { url: gateway.url, ca: '' })
      await run((id) => {
        return { send: (sent) => client.send({ ...sent, headers: { 'x-api-key': keyOf(id), ...sent.headers } }) }
      })
    })
}

const times = (count: number, headers: Record<string, string> = {}) => Array.from({ length: count }, () => headers)
const kinds = (all: readonly (string | undefined)[]) => [...new Set(all.map(String))].toSorted()
const force = (arm: string) => ({ 'x-penstock-arm': arm })
const beta = { 'x-beta': 'yes' }

overBoth('to force an arm takes the scope for it', async (as) => {
  assert.deepEqual(await ask(as('tester'), 'halves', force('canary')), { arm: 'canary', version: '2' })
  assert.deepEqual(await ask(as('tester'), 'halves', { ...force('stable'), ...beta }), { arm: 'stable', version: '1' })
  for (const id of ['all', 'almost', 'old'])
    for (const arm of ['canary', 'stable', 'beta', '']) {
      const { status, code, error } = await refusal(as(id), 'halves', force(arm))
      assert.deepEqual([status, code], [403, 'forbidden'], `${id} ${arm}`)
      assert.match(error, /"x-penstock-arm" needs the scope `experiment:force`/)
    }
})

overBoth('who may not use the version of an arm gets the default arm, and does not hear of the other', async (as) => {
  for (const id of ['old', 'reader']) {
    assert.deepEqual(kinds(await armsOf(as(id), 'halves', times(40))), ['stable'], id)
    assert.deepEqual(await ask(as(id), 'halves', beta), { arm: 'stable', version: '1' }, id)
  }
  assert.deepEqual(kinds(await armsOf(as('newer'), 'thirds', times(60))), ['canary', 'third'])
  assert.deepEqual(await ask(as('newer'), 'thirds', { 'x-beta': 'no' }), { arm: 'third', version: '3' })
  assert.deepEqual(await ask(as('all'), 'thirds', { 'x-beta': 'no' }), { arm: 'stable', version: '1' })
  assert.deepEqual(kinds(await armsOf(as('all'), 'halves', times(60))), ['canary', 'stable'])
  assert.deepEqual(await ask(as('all'), 'halves', beta), { arm: 'canary', version: '2' })
})

overBoth('to force an arm does not lead to a version that the caller may not use', async (as) => {
  assert.deepEqual(await ask(as('old-tester'), 'halves', force('stable')), { arm: 'stable', version: '1' })
  const hidden = await refusal(as('old-tester'), 'halves', force('canary'))
  assert.deepEqual(hidden, await refusal(as('old-tester'), 'halves', force('none')))
  assert.deepEqual([hidden.status, hidden.code], [400, 'invalid'])
  assert.match(hidden.error, /there is no such arm; there are stable$/)
})

overBoth(
  'who may not use the default arm is refused, as where there is no split, and may name a version',
  async (as) => {
    for (const [id, model] of Object.entries({ new: 'halves', old: 'thirds' })) {
      const { status, code } = await refusal(as(id), model)
      assert.deepEqual([status, code], [404, 'not_found'])
      assert.deepEqual(await refusal(as(id), model), await refusal(as(id), 'plain'))
    }
    assert.deepEqual(await ask(as('new'), 'halves/versions/candidate'), { arm: undefined, version: '2' })
  },
)

overBoth('who may use nothing is told of nothing, whatever it asks for', async (as) => {
  const hidden = await refusal(as('nobody'), 'absent')
  for (const [model, headers] of [
    ['halves', {}],
    ['halves', force('canary')],
    ['halves', beta],
    ['halves/versions/2', {}],
    ['halves/versions/candidate', {}],
    ['halves/versions/none', force('canary')],
  ] as const)
    assert.deepEqual(await refusal(as('nobody'), model, headers), hidden, model)
})

overBoth('a version is as hidden by its alias as it is by its number', async (as) => {
  for (const name of ['1', 'stable']) assert.equal((await ask(as('old'), `halves/versions/${name}`)).version, '1')
  const none = await refusal(as('old'), 'halves/versions/9')
  assert.deepEqual([none.status, none.code], [404, 'not_found'])
  for (const name of ['2', 'candidate']) assert.deepEqual(await refusal(as('old'), `halves/versions/${name}`), none)
  for (const end of ['', '/ready', '/config', '/stats'])
    for (const name of ['2', 'candidate', '9']) {
      const { status, json } = await as('old').send({ path: `/v2/models/halves/versions/${name}${end}` })
      assert.deepEqual([status, json.error], [404, none.error], `${name}${end}`)
    }
})

overBoth('who may see a version and not use it is told so, by its alias too', async (as) => {
  for (const name of ['2', 'candidate']) {
    const { status, code } = await refusal(as('reader'), `halves/versions/${name}`)
    assert.deepEqual([status, code], [403, 'forbidden'])
    const { json } = await as('reader').send({ path: `/v2/models/halves/versions/${name}` })
    assert.deepEqual(json.versions, ['2'])
  }
})

overBoth('what is asked about a model tells of no version that the caller may not see', async (as) => {
  const about = async (id: string) => (await as(id).send({ path: '/v2/models/halves' })).json
  assert.deepEqual((await about('all')).versions, ['1', '2', '3'])
  assert.deepEqual([(await about('old')).versions, (await about('old')).parameters.version], [['1'], '1'])
  assert.equal((await about('new')).code, 'not_found', 'the default arm is not for it')
  const text = (await as('old').send({ path: '/v2/openapi.json' })).body.toString()
  assert.doesNotMatch(text, /candidate|canary/)
})

/** What an experiment has counted, once it has counted so many of this arm, or at least the rest. */
async function unitsOf(model: string, least: number): Promise<{ control: number; treatment: number }> {
  let units = { control: 0, treatment: 0 }
  await until(`${least} units`, async () => {
    units = (await admin(gateway, `/admin/models/${model}/experiment`)).evidence.units
    return units.control + units.treatment >= least
  })
  return units
}

/** How many requests came to which arm in which way. */
async function assigned(model: string): Promise<Record<string, number>> {
  const all = [...(await samples(gateway))].flatMap(([name, count]) => {
    const [, of, arm, decision] =
      /^penstock_assignments_total\{model="(.*)",arm="(.*)",decision="(.*)"\}$/.exec(name) ?? []
    return of === model ? [[`${arm} ${decision}`, count] as const] : []
  })
  return Object.fromEntries(all.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

test('what is forced, pinned or by rule is no evidence, and what is drawn is', async (t) => {
  const client = openClient(t, 'http', { url: gateway.url, ca: '' })
  const as = (id: string): Sender => {
    return { send: (sent) => client.send({ ...sent, headers: { 'x-api-key': keyOf(id), ...sent.headers } }) }
  }
  await armsOf(as('tester'), 'tried', [...times(20, force('canary')), ...times(20, force('stable'))])
  await armsOf(as('all'), 'tried', times(20, beta))
  for (const name of ['1', '2', 'candidate', '3']) await armsOf(as('all'), `tried/versions/${name}`, times(5))
  const drawn = await armsOf(as('all'), 'tried', times(50))
  const treatment = drawn.filter((arm) => arm === 'canary').length
  assert.deepEqual(await unitsOf('tried', 50), { control: 50 - treatment, treatment })
  assert.deepEqual(await assigned('tried'), {
    'canary forced': 20,
    'canary rule': 20,
    'canary weight': treatment,
    'stable forced': 20,
    'stable weight': 50 - treatment,
  })
})

test('who may not use both arms is no evidence, and who has no such right is not either', async (t) => {
  const client = openClient(t, 'h2c', { url: gateway.url, ca: '' })
  const as = (id: string): Sender => {
    return { send: (sent) => client.send({ ...sent, headers: { 'x-api-key': keyOf(id), ...sent.headers } }) }
  }
  await armsOf(as('old'), 'limited', [...times(40), ...times(10, beta)])
  for (const [id, headers] of [
    ['old-tester', force('canary')],
    ['all', force('canary')],
    ['new', {}],
    ['nobody', {}],
  ] as const)
    assert.ok((await send(as(id), 'limited', headers)).status >= 400)
  const drawn = await armsOf(as('all'), 'limited', times(20))
  const treatment = drawn.filter((arm) => arm === 'canary').length
  assert.deepEqual(await unitsOf('limited', 20), { control: 20 - treatment, treatment })
  // Of the forty, some were drawn for this arm, and the others and the ten are kept there.
  const { 'canary weight': canaries, 'stable kept': kept, 'stable weight': stable } = await assigned('limited')
  assert.deepEqual([canaries, kept! + stable!], [treatment, 50 + 20 - treatment])
  assert.ok(kept! > 10)
})

test('with `auth: none` everybody may force an arm, and that is no evidence either', async (t) => {
  const open: TestGateway = await startGateway(t, {
    store: versionsOf('tried'),
    settings: { edge, models: { tried: models.tried }, runtime: { executors: 1 } },
  })
  const client = openClient(t, 'http', { url: open.url, ca: '' })
  assert.deepEqual(await ask(client, 'tried', force('canary')), { arm: 'canary', version: '2' })
  await armsOf(client, 'tried', times(20, beta))
  const { evidence } = await admin(open, '/admin/models/tried/experiment')
  assert.deepEqual(evidence.units, { control: 0, treatment: 0 })
})
