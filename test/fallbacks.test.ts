/** What answers when the version that was asked cannot in time, how that is told and counted, and when nothing does. */
import assert from 'node:assert/strict'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { start } from '../src/cli/serve.ts'
import { loadConfig } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
import { byteStrings, edgeWith, fixed, post, queuedRows, samples, statsOf, until } from './support/client.ts'
import { folderWith, startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { slow } from './support/models.ts'
import { identity, onnx, onnxTypes, type Dim, type OnnxType } from './support/onnx.ts'
import { Wire, wireRequest } from './support/socket.ts'

const x = { name: 'x', type: 'INT64', shape: ['n'] } as const
const y = { name: 'y', type: 'INT64', shape: ['n'] } as const
/** Version 1 gives back what it takes, version 2 looks it up, and fails on what is not in its table. */
const lookup = onnx({
  inputs: [x],
  outputs: [y],
  nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
  constants: [{ name: 'table', type: 'INT64', shape: [16], data: Array.from({ length: 16 }, (_, i) => 100 + i) }],
})
const versions = { 'm/1/model.onnx': identity('INT64', ['n']), 'm/2/model.onnx': lookup }

/** For a first version that never has its batch full. */
const byVersion = { sla: { deadlineMs: 9_000 }, fallback: { kind: 'version', version: '1', keepMs: 8_600 } }
const byConstant = (outputs: object) => ({ fallback: { kind: 'constant', outputs } })

/** What still waits at the end of a test never runs. */
const quickEnd = edgeWith({ drain: { idleMs: 0, timeoutMs: 20 } })
const rowsOf = (...data: number[]) => ({ inputs: [tensor('x', 'INT64', [data.length], data)] })

/** Only three rows are run, and two may wait. */
function startThrees(t: TestContext, m: object, settings: object = {}): Promise<TestGateway> {
  const batching = { ...fixed(3, 30_000), maxQueueRows: 2 }
  const common = { ...quickEnd, models: { m: { batching, ...m } } }
  return startGateway(t, { store: versions, settings: { ...common, ...settings } })
}

/** Lets rows wait for a version; two fill its queue. */
async function fill(t: TestContext, gateway: TestGateway, target: string, rows: number[] = [1, 2]): Promise<void> {
  const wire = await Wire.open(t, gateway.url)
  const before = await queuedRows(gateway, 'm')
  wire.write(wireRequest(target, JSON.stringify(rowsOf(...rows))))
  await until('they wait', async () => (await queuedRows(gateway, 'm')) === before + rows.length)
}

const outcome = (version: string, code: string, route = 'm') =>
  `penstock_requests_total{route="${route}",model="m",version="${version}",code="${code}"}`
const fallen = (kind: string, code: string, route = 'm') =>
  `penstock_fallbacks_total{route="${route}",model="m",version="2",fallback="${kind}",code="${code}"}`

test('without a word about it, a refusal is a refusal', async (t) => {
  for (const own of [{}, { fallback: { kind: 'refuse' } }]) {
    const gateway = await startThrees(t, { ...own, sla: { deadlineMs: 300 } })
    const late = await gateway.infer('m', rowsOf(1))
    assert.deepEqual([late.status, late.json.code], [504, 'expired'])
    assert.equal(late.headers.get('x-penstock-fallback'), null)
    const keys = [...(await samples(gateway)).keys()]
    assert.ok(keys.every((key) => !key.startsWith('penstock_fallbacks_total{')))
  }
})

test('another version answers with the time that is kept for it', async (t) => {
  const gateway = await startThrees(t, byVersion)
  // With this one the two that fall back make three.
  await fill(t, gateway, 'm/versions/1', [1])
  const { status, headers, json } = await gateway.infer('m', { id: 'mine', ...rowsOf(7, 8) })
  assert.equal(status, 200)
  assert.equal(headers.get('x-penstock-fallback'), 'version')
  assert.deepEqual(json, {
    model_name: 'm',
    model_version: '1',
    id: 'mine',
    parameters: { fallback: 'version' },
    outputs: [{ name: 'y', datatype: 'INT64', shape: [2], data: [7, 8] }],
  })
  const seen = await samples(gateway)
  assert.equal(seen.get(fallen('version', 'expired')), 1)
  assert.equal(seen.get(outcome('2', 'fallback')), 1)
  assert.equal(seen.get(outcome('2', 'expired')), undefined)
  assert.equal((await statsOf(gateway, 'm/versions/2')).execution_count, 0)
})

test('another version answers when the queue of the first is full', async (t) => {
  const gateway = await startThrees(t, byVersion)
  await fill(t, gateway, 'm/versions/2')
  await fill(t, gateway, 'm/versions/1')
  const { status, json } = await gateway.infer('m', rowsOf(9))
  // It came at the full queue of version 1 too.
  assert.deepEqual([status, json.code], [503, 'overloaded'])
  const roomy = await startThrees(t, byVersion)
  await fill(t, roomy, 'm/versions/2')
  const instead = roomy.infer('m', rowsOf(9))
  await until('it waits for version 1', async () => (await queuedRows(roomy, 'm')) === 3)
  const [own, other] = await Promise.all([instead, roomy.infer('m/versions/1', rowsOf(4, 5))])
  assert.deepEqual([own.json.model_version, own.json.parameters], ['1', { fallback: 'version' }])
  assert.deepEqual([own.json.outputs[0].data, other.json.outputs[0].data], [[9], [4, 5]])
  assert.equal(other.json.parameters, undefined)
  assert.equal((await samples(roomy)).get(fallen('version', 'overloaded')), 1)
})

test('if the other version cannot either, the first refusal stands', async (t) => {
  const fallback = { kind: 'version', version: '1', keepMs: 300 }
  const gateway = await startThrees(t, { sla: { deadlineMs: 600 }, fallback })
  const { status, json, headers } = await gateway.infer('m', rowsOf(1))
  assert.deepEqual([status, json.code, headers.get('x-penstock-fallback')], [504, 'expired', null])
  assert.equal((await samples(gateway)).get(outcome('2', 'expired')), 1)
})

test('a version that answers in time is not replaced, and says nothing of it', async (t) => {
  for (const own of [byVersion, byConstant({ y: [-1] })]) {
    const gateway = await startThrees(t, own)
    const { headers, json } = await gateway.infer('m', rowsOf(1, 2, 3))
    assert.deepEqual([headers.get('x-penstock-fallback'), json.parameters], [null, undefined])
    assert.deepEqual([json.model_version, json.outputs[0].data], ['2', [101, 102, 103]])
  }
})

test('whoever names a version gets that one or none', async (t) => {
  for (const own of [
    { fallback: { ...byVersion.fallback, keepMs: 100 }, sla: { deadlineMs: 300 } },
    { ...byConstant({ y: [0] }), sla: { deadlineMs: 300 } },
  ]) {
    const gateway = await startThrees(t, own)
    const late = await gateway.infer('m/versions/2', rowsOf(1))
    assert.deepEqual([late.status, late.json.code], [504, 'expired'])
  }
})

test('an input that the model fails on gets no made-up answer', async (t) => {
  for (const own of [byVersion, byConstant({ y: [0] })]) {
    const gateway = await startThrees(t, own)
    const { status, json, headers } = await gateway.infer('m', rowsOf(1, 2, 99))
    assert.deepEqual([status, json.code, headers.get('x-penstock-fallback')], [500, 'model_failed', null])
  }
})

test('a request that does not fit the model is a mistake, though the fallback would not care', async (t) => {
  const gateway = await startThrees(t, byConstant({ y: [0] }))
  await fill(t, gateway, 'm/versions/2')
  const { status, json } = await gateway.infer('m', { inputs: [tensor('x', 'INT64', [2], [1])] })
  assert.deepEqual([status, json.code], [400, 'invalid'])
})

test('a constant answers for as many rows as were asked, when the deadline passes or the queue is full', async (t) => {
  const gateway = await startThrees(t, { ...byConstant({ y: [-5] }), sla: { deadlineMs: 400 } })
  const late = await gateway.infer('m', rowsOf(1, 2))
  assert.deepEqual(late.json.outputs, [{ name: 'y', datatype: 'INT64', shape: [2], data: [-5, -5] }])
  const full = await startThrees(t, byConstant({ y: [-5] }))
  await fill(t, full, 'm/versions/2')
  const refused = await full.infer('m', { id: 'a "b"', ...rowsOf(...Array.from({ length: 500 }, () => 3)) })
  assert.deepEqual(
    refused.json.outputs[0].data,
    Array.from({ length: 500 }, () => -5),
  )
  // It stands for the version that was asked.
  const { model_version: version, id, parameters } = refused.json
  assert.deepEqual({ version, id, parameters }, { version: '2', id: 'a "b"', parameters: { fallback: 'constant' } })
  assert.equal(refused.headers.get('x-penstock-fallback'), 'constant')
  assert.equal((await samples(gateway)).get(fallen('constant', 'expired')), 1)
  const seen = await samples(full)
  assert.equal(seen.get(fallen('constant', 'overloaded')), 1)
  assert.equal(seen.get(outcome('2', 'fallback')), 1)
})

test('each route has its own fallback, and is counted by its own name', async (t) => {
  const routes = [{ name: 'calm', match: { path: '/calm' }, model: 'm', ...byConstant({ y: [8] }) }]
  const gateway = await startThrees(t, byConstant({ y: [9] }), { routes })
  await fill(t, gateway, 'm/versions/2')
  const body = JSON.stringify(rowsOf(1))
  const headers = { 'content-type': 'application/json' }
  const response = await fetch(`${gateway.url}/calm/infer`, { method: 'POST', headers, body })
  assert.deepEqual(((await response.json()) as any).outputs[0].data, [8])
  assert.deepEqual((await gateway.infer('m', rowsOf(1))).json.outputs[0].data, [9])
  const seen = await samples(gateway)
  for (const route of ['calm', 'm']) {
    assert.equal(seen.get(fallen('constant', 'overloaded', route)), 1, route)
    assert.equal(seen.get(outcome('2', 'fallback', route)), 1, route)
  }
})

const kinds = ['FP32', 'FP64', 'INT64', 'UINT64', 'INT8', 'UINT8', 'BOOL', 'BYTES'] as const

/** What it takes, as every datatype. */
function casting(shape: readonly Dim[], types: readonly OnnxType[] = kinds): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape }],
    outputs: types.map((type) => ({ name: type, type, shape })),
    nodes: types.map((type) => {
      return { op: 'Cast', inputs: ['x'], outputs: [type], attributes: { to: onnxTypes[type] } }
    }),
  })
}

const constants = {
  FP32: [0.5, -0.25],
  FP64: [0.1, 1e300],
  INT64: [-(2 ** 53) + 1, 7],
  UINT64: [2 ** 53 - 1, 0],
  INT8: [-128, 127],
  UINT8: [0, 255],
  BOOL: [true, false],
  BYTES: ['', 'ä "b"'],
}

test('constants of every datatype travel as the model would send them, in JSON and in binary', async (t) => {
  const batching = { ...fixed(99, 30_000), maxQueueRows: 1 }
  const settings = { ...quickEnd, models: { m: { batching, ...byConstant(constants) } } }
  const gateway = await startGateway(t, { store: { 'm.onnx': casting(['n', 2]) }, settings })
  const wire = await Wire.open(t, gateway.url)
  wire.write(wireRequest('m/versions/1', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 2], [1, 2])] })))
  await until('the queue is full', async () => (await queuedRows(gateway, 'm')) === 1)
  const inputs = [tensor('x', 'FP32', [3, 2], [1, 2, 3, 4, 5, 6])]
  const { json } = await gateway.infer('m', { inputs })
  const thrice = (list: readonly unknown[]) => [...list, ...list, ...list]
  const expected = kinds.map((kind) => ({ name: kind, datatype: kind, shape: [3, 2], data: thrice(constants[kind]) }))
  assert.deepEqual(json.outputs, expected)
  const outputs = ['BYTES', 'INT64', 'BOOL', 'FP32'].map((name) => ({
    name,
    parameters: { binary_data: name !== 'BOOL' },
  }))
  const mixed = await post(gateway, 'm', JSON.stringify({ id: 'b', inputs, outputs }))
  assert.equal(mixed.headers.get('x-penstock-fallback'), 'constant')
  assert.equal(mixed.headers.get('content-type'), 'application/octet-stream')
  assert.deepEqual([mixed.json.id, mixed.json.parameters], ['b', { fallback: 'constant' }])
  assert.deepEqual(mixed.json.outputs[2], {
    name: 'BOOL',
    datatype: 'BOOL',
    shape: [3, 2],
    data: thrice([true, false]),
  })
  const strings = byteStrings(...(thrice(constants.BYTES) as string[]))
  const wide = BigInt64Array.from((thrice(constants.INT64) as number[]).map(BigInt))
  const floats = Float32Array.from(thrice(constants.FP32) as number[])
  const tail = Buffer.concat([strings, Buffer.from(wide.buffer), Buffer.from(floats.buffer)])
  assert.deepEqual(mixed.binary, tail)
})

/** What is wrong with fallbacks of a model's own route, or of others, line by line. */
async function mistakesIn(place: 'models' | 'routes', fallbacks: readonly string[]): Promise<string[]> {
  const head = 'auth: none\nedge: { port: 0 }\nmetrics: { port: 0 }\nadmin: { port: 0 }\nstore: { path: store }\n'
  const own = place === 'models' ? `, fallback: ${fallbacks[0]}` : ''
  const routes = place === 'routes' ? fallbacks : []
  const lines = routes.map((each, i) => `  - { name: r${i}, match: { path: /r${i} }, model: m, fallback: ${each} }\n`)
  const text = `${head}models:\n  m: { version: "2"${own} }\n${lines.length > 0 ? 'routes:\n' : ''}${lines.join('')}`
  const model = casting(['n', 2], ['FP32', 'UINT8', 'BOOL', 'BYTES'])
  const files = Object.fromEntries(['1', '2', '3'].map((version) => [`store/m/${version}/model.onnx`, model]))
  const file = await loadConfig(join(await folderWith({ ...files, 'penstock.yaml': text }), 'penstock.yaml'))
  const started = 'mistakes' in file ? file : await start(file)
  if ('running' in started) await started.running.stop()
  const mistakes = 'mistakes' in started ? started.mistakes : []
  return mistakes.map((mistake) => showMistake({ ...mistake, file: basename(mistake.file) }))
}

const complete = { FP32: '[0.5, 1]', UINT8: '[0, 255]', BOOL: '[true, false]', BYTES: '[a, ""]' }
const constantWith = (own: Readonly<Record<string, string | undefined>>) => {
  const all = Object.entries({ ...complete, ...own }).flatMap(([name, list]) => (list ? [`${name}: ${list}`] : []))
  return `{ kind: constant, outputs: { ${all.join(', ')} } }`
}
const versionOf = (version: string) => `{ kind: version, version: ${version}, keepMs: 5 }`

/** What the file alone tells. */
const malformed: [fallback: string, line: RegExp][] = [
  [versionOf('1'), /version: expected a version in quotes, found 1$/],
  ['{ kind: version, version: "1" }', /keepMs: is missing/],
  ['{ kind: version, version: "1", keepMs: 0 }', /keepMs: .*0, found 0$/],
  ['{ kind: other }', /kind: .*refuse.*version.*constant.*, found "other"$/],
  ['{ kind: refuse, version: "1" }', /unknown key "version"$/],
  ['{ kind: constant }', /outputs: is missing/],
  [constantWith({ FP32: '[]' }), /outputs\.FP32: /],
]

/** What the model tells too. */
const wrong: [fallback: string, problem: string][] = [
  [versionOf('"9"'), 'there is no version 9; the store has 1, 2, 3'],
  [versionOf('"2"'), 'version 2 is the one that answers anyway: name another'],
  [
    '{ kind: version, version: "1", keepMs: 30000 }',
    'keepMs is 30000 and leaves version 2 none of the 30000 ms of the deadline',
  ],
  [constantWith({ BOOL: undefined }), 'output "BOOL": it has no elements here'],
  [constantWith({ more: '[1]' }), 'the model has no output "more"'],
  [constantWith({ FP32: '[1]' }), 'output "FP32": it has 1 elements here and 2 in the model'],
  [constantWith({ BYTES: '[a, b, c]' }), 'output "BYTES": it has 3 elements here and 2 in the model'],
  [constantWith({ FP32: '[1, a]' }), 'output "FP32": element 1 must be a number'],
  [constantWith({ FP32: '[true, 1]' }), 'output "FP32": element 0 must be a number'],
  [constantWith({ BOOL: '[true, 1]' }), 'output "BOOL": element 1 must be a boolean'],
  [constantWith({ BYTES: '[1, a]' }), 'output "BYTES": element 0 must be a string'],
  [constantWith({ UINT8: '[0, 256]' }), 'output "UINT8": element 1 is no UINT8'],
  [constantWith({ UINT8: '[0.5, 1]' }), 'output "UINT8": element 0 is no UINT8'],
  [constantWith({ UINT8: '[-1, 1]' }), 'output "UINT8": element 0 is no UINT8'],
]

test('a fallback that is none is told at load, in one line that names its key', async () => {
  for (const [fallback, line] of malformed) {
    for (const [place, key] of [
      ['models', 'penstock.yaml:7: models.m.fallback'],
      ['routes', 'penstock.yaml:9: routes[0].fallback'],
    ] as const) {
      const lines = await mistakesIn(place, [fallback])
      assert.equal(lines.length, 1, `${fallback}: ${lines.join('\n')}`)
      assert.ok(lines[0]!.startsWith(key), `${lines[0]}`)
      assert.match(lines[0]!, line)
    }
  }
})

test('every fallback that could never answer is told at load, each in a line with its key', async () => {
  const good = [versionOf('"1"'), versionOf('"3"'), constantWith({}), '{ kind: refuse }']
  const lines = wrong.map(([, problem], i) => `penstock.yaml:${9 + i}: routes[${i}].fallback: ${problem}`)
  const all = [...wrong.map(([fallback]) => fallback), ...good]
  assert.deepEqual(await mistakesIn('routes', all), lines)
  assert.deepEqual(await mistakesIn('routes', good), [])
  assert.deepEqual(await mistakesIn('models', [good[0]!]), [])
  for (const [fallback, problem] of wrong.slice(0, 3))
    assert.deepEqual(await mistakesIn('models', [fallback]), [`penstock.yaml:7: models.m.fallback: ${problem}`])
})

test('a model without rows has one answer, and so has its constant', async (t) => {
  const m = { ...byConstant({ y: [4, 5, 6, 7] }), sla: { deadlineMs: 200 }, batching: { policy: { kind: 'adaptive' } } }
  const store = { 'm.onnx': identity('INT32', [2, 2]), 'slow.onnx': slow(100) }
  const gateway = await startGateway(t, { store, settings: { runtime: { executors: 1 }, models: { m } } })
  const busy = post(gateway, 'slow', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [1])] }))
  const { json } = await gateway.infer('m', { inputs: [tensor('x', 'INT32', [2, 2], [0, 0, 0, 0])] })
  assert.deepEqual(json.outputs, [{ name: 'y', datatype: 'INT32', shape: [2, 2], data: [4, 5, 6, 7] }])
  await busy
})

test('no constant stands for an output whose size varies, or of a datatype that cannot be written', async (t) => {
  for (const [model, problem] of [
    [identity('INT64', ['n', 'len']), /models\.m\.fallback: output "y": its size varies/],
    [identity('FP16', ['n']), /models\.m\.fallback: output "y": FP16 cannot be written here/],
  ] as const) {
    const settings = { models: { m: byConstant({ y: [1] }) } }
    await assert.rejects(startGateway(t, { store: { 'm.onnx': model }, settings }), problem)
  }
})
