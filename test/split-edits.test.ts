/** Splits that are looked at and changed by hand: on which conditions, what is shown before, what is remembered, and what is refused. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import {
  adminAsk,
  askMany,
  canaryWith,
  edit,
  experimentOf,
  good,
  onTrial,
  phaseOf,
  splitOf,
  startRemembering,
} from './support/canary.ts'
import { wholeFile } from './support/client.ts'
import type { TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'

const longStep = { share: 0.5, holdS: 600, minRequests: 1, below: 'off' }
const store = { ...onTrial, 'm/3/model.onnx': identity('INT64', ['n']), 'lone/1/model.onnx': identity('INT64', ['n']) }
const three = {
  arms: { a: { version: '1', weight: 60 }, b: { version: '2', weight: 20 }, c: { version: '2', weight: 20 } },
}
const unwatched = { models: { m: { split: three } } }
const ramping = canaryWith({ steps: [longStep] })
const steady = canaryWith({})

const start = (t: TestContext, settings: object) => startRemembering(t, { store, settings })

/** Whom no test changes. */
const still = await start(wholeFile, unwatched)

const sharesOf = async (gateway: TestGateway): Promise<Record<string, number>> => {
  const { arms } = await splitOf(gateway)
  return Object.fromEntries(arms.map(({ arm, share }: any) => [arm, Number(share.toFixed(6))]))
}

test('a split is shown with its generation as the entity tag, and what is not there with what is', async () => {
  const gateway = still
  const { status, headers, json } = await adminAsk(gateway, '/admin/models/m/split')
  assert.deepEqual([status, headers.get('etag')], [200, `"${json.generation}"`])
  assert.deepEqual(json, {
    model: 'm',
    generation: json.generation,
    version: '1',
    aliases: {},
    versions: ['1', '2', '3'],
    arms: [
      { arm: 'a', version: '1', weight: 60, share: 0.6, configured: 60 },
      { arm: 'b', version: '2', weight: 20, share: 0.2, configured: 20 },
      { arm: 'c', version: '2', weight: 20, share: 0.2, configured: 20 },
    ],
    rules: [],
    shadows: [],
    setByHand: null,
    experiment: null,
    history: [],
  })
  for (const what of ['split', 'experiment']) {
    const unknown = await adminAsk(gateway, `/admin/models/nothing/${what}`)
    assert.deepEqual([unknown.status, unknown.json.code], [404, 'not_found'])
    assert.match(unknown.json.error, /there is no model nothing: there are .*m/)
    assert.equal((await adminAsk(gateway, `/admin/models/%ff/${what}`)).status, 404)
    const put = await adminAsk(gateway, `/admin/models/m/${what}`, { method: 'PUT' })
    assert.deepEqual([put.status, put.headers.get('allow')], [405, what === 'split' ? 'GET, HEAD, PATCH' : 'GET, HEAD'])
  }
  assert.equal((await edit(gateway, { weights: { a: 1 } }, '"1"', 'nothing')).status, 404)
  assert.match((await adminAsk(gateway, '/admin/models/m/experiment')).json.error, /no experiment on this model/)
})

test('a model without a split shows its version, and has nothing to change', async () => {
  const gateway = still
  const { version, arms, experiment } = await splitOf(gateway, 'lone')
  assert.deepEqual([version, arms, experiment], ['1', [], null])
  for (const body of [{ weights: { a: 1 } }, { action: 'pause' }, { weights: { a: 1 }, dryRun: true }]) {
    const { status, json } = await edit(gateway, body, undefined, 'lone')
    assert.deepEqual([status, json.code], [409, 'conflict'])
  }
  const unproved = await edit(gateway, { action: 'pause' })
  assert.deepEqual([unproved.status, unproved.json.error], [409, 'there is no experiment on this model'])
})

test('a change must say what it has seen, and that must be so still', async (t) => {
  const gateway = await start(t, unwatched)
  const before = await splitOf(gateway)
  const bare = await edit(gateway, { weights: { b: 5 } }, null)
  assert.deepEqual([bare.status, bare.json.code], [428, 'unconditional'])
  for (const seen of [`"${before.generation + 1}"`, '"x"', 'W/"0"', '*', '']) {
    const { status, json } = await edit(gateway, { weights: { b: 5 } }, seen)
    assert.deepEqual([status, json.code], [412, 'stale'], seen)
  }
  assert.deepEqual([await splitOf(gateway), await gateway.audited()], [before, []])
  const made = await edit(gateway, { weights: { b: 5 } }, `"${before.generation}"`)
  assert.deepEqual([made.status, made.headers.get('etag')], [200, `"${before.generation + 1}"`])
  assert.equal((await edit(gateway, { weights: { b: 6 } }, `"${before.generation}"`)).status, 412)
  assert.equal((await edit(gateway, { weights: { b: 6 } }, String(before.generation + 1))).status, 200)
})

test('of edits that race exactly one wins, and the others are written down as refused', async (t) => {
  const gateway = await start(t, unwatched)
  const { generation } = await splitOf(gateway)
  const edits = Array.from({ length: 12 }, (_, i) => edit(gateway, { weights: { a: i + 1 } }, `"${generation}"`))
  const replies = await Promise.all(edits)
  const won = replies.findIndex(({ status }) => status === 200)
  assert.deepEqual(
    replies.map(({ status }) => status),
    replies.map((_, i) => (i === won ? 200 : 412)),
  )
  const after = await splitOf(gateway)
  assert.deepEqual([after.generation, after.arms[0].weight], [generation + 1, won + 1])
  const refused = (await gateway.audited()).filter(({ what }) => what === 'split.m.refused')
  assert.ok(refused.every(({ before }) => before.weights.a !== won + 1))
})

test('what would follow is told without a condition, and changes nothing', async (t) => {
  const gateway = await start(t, steady)
  const before = await splitOf(gateway)
  const { status, json, headers } = await edit(gateway, { weights: { stable: 90, canary: 10 }, dryRun: true }, null)
  assert.deepEqual([status, headers.get('etag')], [200, `"${before.generation}"`])
  assert.deepEqual(json.split, before)
  const { arms, moves, detects, words } = json.plan
  const parts = arms.map(({ arm, from, to }: any) => [arm, from.toFixed(3), to.toFixed(3)])
  assert.deepEqual(parts, [
    ['stable', '0.800', '0.900'],
    ['canary', '0.200', '0.100'],
  ])
  assert.ok(Math.abs(moves - 0.1) < 1e-9)
  assert.deepEqual(
    detects.map(({ times }: any) => times),
    [3, 10],
  )
  assert.ok(detects[0].seconds > detects[1].seconds && detects[1].seconds > 0)
  assert.match(
    words,
    /^stable 80 % -> 90 %, canary 20 % -> 10 %; 10 % of all units change their arm\. A regression would be seen: 3 times the failures in about \d+ s, 10 times/,
  )
  const none = await edit(gateway, { action: 'promote', dryRun: true }, null)
  assert.deepEqual([none.status, none.json.plan.arms[1].to, none.json.plan.detects[0].seconds], [200, 1, null])
  assert.equal((await edit(gateway, { action: 'release', dryRun: true }, null)).status, 409)
  assert.equal((await edit(gateway, { weights: { canary: -1 }, dryRun: true }, null)).status, 400)
  assert.deepEqual([await splitOf(gateway), await gateway.audited()], [before, []])
})

test('what is no change is refused, with what is wrong with it', async (t) => {
  const gateway = still
  const before = await splitOf(gateway)
  const table: readonly (readonly [unknown, RegExp])[] = [
    [{ weights: { nobody: 5 } }, /there is no arm nobody, nor one with that version: the arms are a, b, c/],
    [{ weights: { 2: 5 } }, /there is no arm 2, nor one with that version/],
    [{ weights: { b: -1 } }, /^weights\.b: /],
    ['{"weights": {"b": NaN}}', /./],
    ['{"weights": {"b": 1e999}}', /^weights\.b: /],
    ['{"weights": {"__proto__": 5}}', /./],
    [{ weights: { b: '5' } }, /^weights\.b: /],
    [{ weights: { b: null } }, /^weights\.b: /],
    [{ weights: { b: 1e7 } }, /^weights\.b: /],
    [{ weights: { a: 0, b: 0, c: 0 } }, /weight above 0/],
    [{ weights: {} }, /expected `weights`, `reset` or `action`/],
    [{}, /expected `weights`, `reset` or `action`/],
    [{ weights: { b: 1 }, reset: true }, /one change at a time/],
    [{ weights: { b: 1 }, action: 'pause' }, /one change at a time/],
    [{ action: 'explode' }, /^action: /],
    [{ reset: false }, /^reset: /],
    [{ weight: { b: 1 } }, /weight/],
    [[], /^the body: /],
    ['not json', /./],
    ['', /./],
  ]
  for (const [body, words] of table) {
    const { status, json } = await edit(gateway, body)
    assert.deepEqual([status, json.code], [400, 'invalid'], JSON.stringify(body))
    assert.match(json.error, words)
  }
  const headers = { 'content-type': 'text/plain', 'if-match': `"${before.generation}"` }
  const init = { method: 'PATCH', headers, body: '{"weights": {"b": 5}}' }
  assert.equal((await adminAsk(gateway, '/admin/models/m/split', init)).status, 415)
  assert.deepEqual([await splitOf(gateway), await gateway.audited()], [before, []])
  const watched = await start(t, canaryWith({}))
  assert.match((await edit(watched, { weights: { stable: 0, canary: 0 } })).json.error, /weight/)
})

test('weights that are set hold for the next request; those that are not named stay', async (t) => {
  const gateway = await start(t, unwatched)
  const made = await edit(gateway, { weights: { a: 0, c: 60 } })
  assert.deepEqual(await sharesOf(gateway), { a: 0, b: 0.25, c: 0.75 })
  assert.deepEqual(made.json.split, await splitOf(gateway))
  const got = await askMany(gateway, good, 60)
  assert.ok(got.every(({ arm, status }) => status === 200 && arm !== 'a'))
  assert.ok(new Set(got.map(({ arm }) => arm)).size === 2)
  assert.equal((await edit(gateway, { weights: { 1: 40, b: 0, c: 0 } })).status, 200, 'a version that one arm has')
  assert.deepEqual(await sharesOf(gateway), { a: 1, b: 0, c: 0 })
})

test('edits under traffic lose no request, and each is answered by one split', async (t) => {
  const gateway = await start(t, unwatched)
  let isOver = false
  const load = Array.from({ length: 8 }, () => askMany(gateway, good, 1e6, () => isOver))
  for (let i = 0; i < 25; i++) {
    const weights = i % 2 === 0 ? { a: 0, b: 1, c: 0 } : { a: 1, b: 0, c: 0 }
    assert.equal((await edit(gateway, { weights })).status, 200)
  }
  isOver = true
  const got = (await Promise.all(load)).flat()
  assert.ok(got.length > 50)
  for (const { status, arm, version, json } of got) {
    assert.deepEqual([status, version, json.model_version], [200, arm === 'a' ? '1' : '2', version])
    assert.equal(json.outputs[0].data[0], version === '1' ? good : 100 + good)
  }
})

test('a weight takes a ramp into one hand, that of another arm does not, and a test follows its weights', async (t) => {
  const { models } = ramping
  const other = { version: '3', weight: 100 }
  const split = { ...models.m.split, arms: { ...models.m.split.arms, other } }
  const experiment = { ...models.m.experiment, control: 'stable', treatment: 'canary' }
  const gateway = await start(t, { models: { m: { split, experiment } } })
  assert.equal((await edit(gateway, { weights: { other: 300 } })).status, 200)
  assert.equal(await phaseOf(gateway), 'ramping')
  assert.deepEqual(await sharesOf(gateway), { stable: 0.125, canary: 0.125, other: 0.75 })
  assert.equal((await edit(gateway, { weights: { stable: 90, canary: 10 } })).status, 200)
  const { phase, share, why } = await experimentOf(gateway)
  assert.deepEqual([phase, share, why], ['paused', 0.1, 'its weight was set by hand'])
  assert.equal((await edit(gateway, { action: 'resume' })).status, 200)
  assert.deepEqual([await phaseOf(gateway), (await sharesOf(gateway))['canary']], ['ramping', 0.125])
  const ab = await start(t, canaryWith({ kind: 'ab' }))
  assert.equal((await edit(ab, { weights: { stable: 60, canary: 40 } })).status, 200)
  assert.deepEqual([await phaseOf(ab), await sharesOf(ab)], ['steady', { stable: 0.6, canary: 0.4 }])
  assert.equal((await edit(ab, { action: 'pause' })).status, 200)
  assert.deepEqual([await phaseOf(ab), await sharesOf(ab)], ['paused', { stable: 0.6, canary: 0.4 }])
})
