/** Shadows at the front door: who runs a request too, with what, and what is told of how the answers agree. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { admin, binaryTensor, byteStrings, post, samples, until, withBinary } from './support/client.ts'
import { folderWith, startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { identity, onnx } from './support/onnx.ts'

/** A thousand and what the table has for each of sixteen numbers; a run fails on one beyond them. */
function lookup(table: (i: number) => number): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
    outputs: [
      { name: 'y', type: 'INT64', shape: ['n', 1] },
      { name: 'z', type: 'INT64', shape: ['n', 1] },
    ],
    constants: [
      { name: 'table', type: 'INT64', shape: [16], data: Array.from({ length: 16 }, (_, i) => table(i)) },
      { name: 'thousand', type: 'INT64', shape: [1], data: [1_000] },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] },
      { op: 'Add', inputs: ['x', 'thousand'], outputs: ['z'] },
    ],
  })
}

const same = lookup((i) => i)
/** Differs for one number, in one output. */
const seven = lookup((i) => (i === 7 ? 70 : i))
const store = { 'm/1/model.onnx': same, 'm/2/model.onnx': seven, 'm/3/model.onnx': same }

const arms = { stable: { version: '1', weight: 1 }, canary: { version: '2', weight: 0 } }
const always = [{ version: '2', share: 1 }]
const runtime = { executors: 1 }

/** A canary that waits for its shadow. */
function waiting(comparison: object, more: object = {}) {
  const canary = { kind: 'canary', afterShadow: true, steps: [{ share: 0.5, below: 'off' }], comparison, ...more }
  return { runtime, models: { m: { split: { arms, default: 'stable', shadows: always }, experiment: canary } } }
}

function split(more: object = {}) {
  return { runtime, models: { m: { split: { arms, default: 'stable', shadows: always, ...more } } } }
}

async function ask(served: TestGateway, x: number, headers: Record<string, string> = {}, model: string = 'm') {
  const reply = await post(served, model, JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [x])] }), headers)
  return { ...reply, arm: reply.headers.get('x-penstock-arm') }
}

async function askAll(served: TestGateway, xs: readonly number[]): Promise<void> {
  for (const x of xs) assert.deepEqual((await ask(served, x)).json.outputs[0].data, [x])
}

const experiment = (served: TestGateway) => admin(served, '/admin/models/m/experiment')
const shadowsOf = async (served: TestGateway) => (await admin(served, '/admin/models/m/split')).shadows

/** The report once so many pairs are in it. */
async function reportOf(served: TestGateway, pairs: number) {
  await until(`${pairs} pairs`, async () => (await experiment(served)).shadow.pairs >= pairs)
  return experiment(served)
}

async function shadows(served: TestGateway, outcome: string, version: string = '2'): Promise<number> {
  const name = `penstock_shadows_total{model="m",version="${version}",outcome="${outcome}"}`
  return (await samples(served)).get(name) ?? 0
}

const some = Array.from({ length: 32 }, (_, i) => i % 16)

test('what the shadow answers is compared output by output, and nobody but the report sees it', async (t) => {
  const served = await startGateway(t, { store, settings: waiting({}) })
  await askAll(served, some)
  const { phase, shadow, evidence } = await reportOf(served, 32)
  assert.equal(phase, 'shadow')
  assert.deepEqual([shadow.pairs, shadow.agreeingPairs, shadow.dropped], [32, 30, 0])
  assert.ok(Math.abs(shadow.agreement - 30 / 32) < 1e-9 && shadow.low < shadow.agreement)
  const [y, z] = ['y', 'z'].map((name) => shadow.outputs.find((each: any) => each.name === name))
  assert.deepEqual([y.rows, y.agreeing, z.rows, z.agreeing], [32, 30, 32, 32])
  // Shadows are no requests of the arm: no client was assigned to it.
  assert.deepEqual(evidence.units, { control: 32, treatment: 0 })
})

test('the worst answers are kept as samples, with the request they belong to and what both sides said', async (t) => {
  const served = await startGateway(t, { store, settings: waiting({}) })
  await askAll(served, [1, 2])
  const { headers } = await ask(served, 7, { 'x-request-id': 'the-odd-one' })
  assert.equal(headers.get('x-request-id'), 'the-odd-one')
  const { shadow } = await reportOf(served, 3)
  assert.equal(shadow.samples.length, 1)
  const [{ requestId, output, primary, shadow: other }] = shadow.samples
  assert.deepEqual([requestId, output, primary, other].map(String), ['the-odd-one', 'y', '7', '70'])
})

test('agreement is shown apart by the values of an input and of a header', async (t) => {
  const served = await startGateway(t, { store, settings: waiting({ slices: ['x', 'header:x-country'] }) })
  for (const x of [7, 7, 3]) await ask(served, x, { 'x-country': x === 3 ? 'CH' : 'FR' })
  await ask(served, 3)
  const { shadow } = await reportOf(served, 4)
  const slices = Object.fromEntries(shadow.slices.map((each: any) => [each.slice, [each.pairs, each.agreement]]))
  assert.deepEqual(slices, {
    'x=7': [2, 0],
    'x=3': [2, 1],
    'header:x-country=FR': [2, 0],
    'header:x-country=CH': [1, 1],
  })
})

test('a shadow runs its share of the requests, whatever clients call them', async (t) => {
  const sampled = split({ shadows: [{ version: '2', share: 0.3 }] })
  const served = await startGateway(t, { store, settings: sampled })
  for (let from = 0; from < 400; from += 20)
    await Promise.all(Array.from({ length: 20 }, () => ask(served, 1, { 'x-request-id': 'always-the-same' })))
  const compared = await settled(served)
  // Five standard deviations.
  assert.ok(Math.abs(compared - 120) <= 46, `${compared} of 400`)
})

/** How many shadows were compared, once that does not change any more. */
async function settled(served: TestGateway): Promise<number> {
  let [count, looks] = [-1, 0]
  await until('shadows are done', async () => {
    const now = await shadows(served, 'compared')
    looks = now === count ? looks + 1 : 0
    count = now
    return looks === 30
  })
  return count
}

test('a shadow that is nobody’s treatment shows in the split what became of it and how its answers agree', async (t) => {
  const served = await startGateway(t, { store, settings: split() })
  const [before] = await shadowsOf(served)
  assert.deepEqual(before, { version: '2', share: 1, outcomes: {}, agreement: null })
  await askAll(served, [1, 7, 7, 2])
  await until('compared', async () => (await shadowsOf(served))[0].outcomes.compared === 4)
  const [{ agreement }] = await shadowsOf(served)
  assert.deepEqual([agreement.pairs, agreement.agreeingPairs, agreement.agreement], [4, 2, 0.5])
  assert.equal(agreement.samples.length, 2)
})

test('of several shadows each is compared by itself, and the treatment’s in the experiment alone', async (t) => {
  const settings = waiting({})
  settings.models.m.split.shadows = [
    { version: '2', share: 1 },
    { version: '3', share: 1 },
  ]
  const served = await startGateway(t, { store, settings })
  await askAll(served, [7, 7, 1])
  const { shadow } = await reportOf(served, 3)
  assert.equal(shadow.agreeingPairs, 1)
  await until('the other too', async () => (await shadowsOf(served))[1].outcomes.compared === 3)
  const [treatment, other] = await shadowsOf(served)
  assert.deepEqual([treatment.agreement, treatment.outcomes], [null, { compared: 3 }])
  assert.deepEqual([other.agreement.pairs, other.agreement.agreeingPairs], [3, 3])
})

test('only answers of the control are compared in the experiment: those of a third arm are no pair of it', async (t) => {
  const settings = waiting({})
  const third = { ...arms, third: { version: '3', weight: 0 } }
  const rules = [{ match: { headers: { 'x-to': 'third' } }, arm: 'third' }]
  const own = { ...settings.models.m.split, arms: third, rules }
  const canary = { ...settings.models.m.experiment, control: 'stable', treatment: 'canary' }
  const served = await startGateway(t, {
    store,
    settings: { runtime, models: { m: { split: own, experiment: canary } } },
  })
  for (const x of [7, 7, 7]) assert.equal((await ask(served, x, { 'x-to': 'third' })).arm, 'third')
  await askAll(served, [7])
  await until('all ran', async () => (await shadows(served, 'compared')) === 4)
  assert.equal((await experiment(served)).shadow.pairs, 1)
})

test('who is sent to an arm by a rule or by force is shadowed too; who pins a version is not', async (t) => {
  const rules = [{ match: { headers: { 'x-beta': 'yes' } }, arm: 'other' }]
  const three = { ...arms, other: { version: '3', weight: 0 } }
  const served = await startGateway(t, { store, settings: split({ arms: three, rules }) })
  assert.equal((await ask(served, 1, { 'x-beta': 'yes' })).arm, 'other')
  assert.equal((await ask(served, 1, { 'x-penstock-arm': 'other' })).arm, 'other')
  await until('both', async () => (await shadows(served, 'compared')) === 2)
  // The version itself is no shadow of its own answers.
  assert.equal((await ask(served, 1, { 'x-penstock-arm': 'canary' })).arm, 'canary')
  assert.equal((await ask(served, 1, {}, 'm/versions/3')).status, 200)
  await askAll(served, [1])
  await until('a third', async () => (await shadows(served, 'compared')) >= 3)
  assert.equal(await shadows(served, 'compared'), 3)
})

test('the shadow has the same tensors: floats to the bit, texts, empty ones, and megabytes', async (t) => {
  const both = (model: Buffer, name: string) => ({ [`${name}/1/model.onnx`]: model, [`${name}/2/model.onnx`]: model })
  const echoes = { ...both(identity('FP32', ['n', 'w']), 'floats'), ...both(identity('BYTES', ['n', 1]), 'texts') }
  const own = { split: { arms, shadows: always } }
  const served = await startGateway(t, { store: echoes, settings: { runtime, models: { floats: own, texts: own } } })
  const odd = Buffer.alloc(4_000_000)
  for (let at = 0; at < odd.length; at += 4) odd.writeFloatLE(at % 400 === 0 ? NaN : Math.sin(at), at)
  const parameters = { binary_data_output: true }
  const wide = withBinary({ inputs: [binaryTensor('x', 'FP32', [1, 1_000_000], odd.length)], parameters }, odd)
  assert.equal((await post(served, 'floats', wide.body, wide.headers)).status, 200)
  const words = byteStrings('', 'ü'.repeat(70_000), 'a')
  const told = withBinary({ inputs: [binaryTensor('x', 'BYTES', [3, 1], words.length)], parameters }, words)
  assert.equal((await post(served, 'texts', told.body, told.headers)).status, 200)
  for (const model of ['floats', 'texts']) {
    const agreement = async () => (await admin(served, `/admin/models/${model}/split`)).shadows[0].agreement
    await until('compared', async () => (await agreement()) !== null)
    const { pairs, agreeingPairs } = await agreement()
    assert.deepEqual([pairs, agreeingPairs], [1, 1], model)
  }
})

test('the shadow has them still when their memory has gone to other requests', async (t) => {
  const echo = identity('FP32', ['n', 'w'])
  const echoes = { 'm/1/model.onnx': echo, 'm/2/model.onnx': echo }
  const served = await startGateway(t, { store: echoes, settings: split() })
  const head = { inputs: [binaryTensor('x', 'FP32', [1, 50_000], 200_000)], parameters: { binary_data_output: true } }
  const send = async (i: number) => {
    const { body, headers } = withBinary(
      head,
      Float32Array.from({ length: 50_000 }, () => i),
    )
    assert.equal((await post(served, 'm', body, headers)).status, 200)
  }
  for (let from = 0; from < 60; from += 15) await Promise.all(Array.from({ length: 15 }, (_, i) => send(from + i)))
  await until('all ran', async () => (await shadows(served, 'compared')) === 60)
  const [{ agreement }] = await shadowsOf(served)
  assert.deepEqual([agreement.pairs, agreement.agreeingPairs], [60, 60])
})

test('a canary begins to ramp once its shadow agrees, and before that nobody is sent to it', async (t) => {
  const served = await startGateway(t, { store, settings: waiting({ minPairs: 40, targetAgreement: 0.8 }) })
  const seen = new Set<string | null>()
  for (let i = 0; i < 30; i++) seen.add((await ask(served, i % 6)).arm)
  assert.deepEqual([...seen], ['stable'])
  assert.equal((await experiment(served)).phase, 'shadow')
  assert.equal((await admin(served, '/admin/models/m/split')).arms[1].share, 0)
  for (let i = 0; i < 30; i++) await ask(served, i % 6)
  await until('it ramps', async () => (await experiment(served)).phase === 'ramping')
  await until('somebody is sent there', async () => (await ask(served, 1)).arm === 'canary')
})

test('a canary whose shadow disagrees stays a shadow, with however many pairs', async (t) => {
  const served = await startGateway(t, { store, settings: waiting({ minPairs: 10, targetAgreement: 0.5 }) })
  for (let i = 0; i < 40; i++) assert.equal((await ask(served, i % 2 === 0 ? 7 : 1)).arm, 'stable')
  const { shadow } = await reportOf(served, 40)
  assert.equal(shadow.agreement, 0.5)
  await ticks(served)
  assert.equal((await experiment(served)).phase, 'shadow')
})

/** Lets the experiment look at what it knows: it does so each second. */
async function ticks(served: TestGateway): Promise<void> {
  const { uptimeS } = await admin(served, '/admin/status')
  await until('two seconds', async () => (await admin(served, '/admin/status')).uptimeS >= uptimeS + 2)
}

test('agreement outlives a restart', async (t) => {
  const state = { path: await folderWith() }
  const settings = { ...waiting({}), state }
  const first = await startGateway(t, { store, settings })
  await askAll(first, [7, 1])
  await reportOf(first, 2)
  await first.stop()
  const second = await startGateway(t, { store, settings })
  await askAll(second, [1])
  const { shadow } = await reportOf(second, 3)
  assert.deepEqual([shadow.pairs, shadow.agreeingPairs, shadow.samples.length], [3, 2, 1])
})

test('shadows are in no statistics of requests, and each is counted by what became of it', async (t) => {
  const served = await startGateway(t, { store, settings: split() })
  await askAll(served, [1, 2, 3])
  await until('all ran', async () => (await shadows(served, 'compared')) === 3)
  const { model_stats }: any = (await served.get('/v2/models/m/stats')).json
  const counts = Object.fromEntries(model_stats.map((each: any) => [each.version, each.inference_count]))
  assert.deepEqual([counts['1'], counts['2'] ?? 0], [3, 0])
  const seen = await samples(served)
  const requests = [...seen].filter(([name, count]) => name.startsWith('penstock_requests_total{') && count > 0)
  assert.deepEqual(requests, [['penstock_requests_total{route="m",model="m",version="1",code="ok"}', 3]])
  // Nobody is answered otherwise than without.
  const { json }: Reply = await served.infer('m', { inputs: [tensor('x', 'INT64', [1, 1], [7])] })
  assert.deepEqual(json.outputs[0].data, [7])
})
