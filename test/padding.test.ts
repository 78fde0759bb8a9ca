/** Requests of several sizes that share runs because the smaller are filled up: who may, and that nobody can tell. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { numerics, type NumericDatatype } from '../src/core/datatype.ts'
import { binaryTensor, bytesOf, fixed, post, statsOf, withBinary } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { folderWith, startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { attention, tables } from './support/models.ts'
import { onnx, type Dim, type Node, type OnnxType, type Value } from './support/onnx.ts'
import { penstock } from './support/process.ts'

const isolations = ['thread', 'process'] as const
const value = (name: string, type: OnnxType, shape: readonly Dim[]): Value => ({ name, type, shape })
const op = (name: string, inputs: string[], outputs: string[], attributes: Node['attributes'] = {}): Node => {
  return { op: name, inputs, outputs, attributes }
}

/** A version in a store, with what its manifest says. */
function version(model: string, graph: Buffer, manifest: object) {
  const whole = { summary: 's', owner: 'o', licence: 'l', ...manifest }
  // YAML is a superset of JSON.
  return { [`${model}/1/m.onnx`]: graph, [`${model}/1/manifest.yaml`]: JSON.stringify(whole) }
}

const byLength = (more: object = {}) => ({ padding: { length: { buckets: [16, 4, 8], mask: 'mask', ...more } } })

interface Row {
  readonly tokens: readonly number[]
  readonly mask: readonly number[]
}

function rowOf(length: number, first: number): Row {
  const tokens = Array.from({ length }, (_, i) => first + i)
  return { tokens, mask: tokens.map((token) => Number(token % 3 !== 0)) }
}

const attend = (served: TestGateway, { tokens, mask }: Row, model: string = 'm') => {
  const shape = [1, tokens.length]
  return served.infer(model, {
    inputs: [tensor('tokens', 'INT64', shape, tokens), tensor('mask', 'INT64', shape, mask)],
  })
}

type Named = Record<string, { readonly shape: number[]; readonly data: unknown[] }>

function outputsOf({ status, json }: Reply): Named {
  assert.equal(status, 200, JSON.stringify(json).slice(0, 500))
  return Object.fromEntries(json.outputs.map(({ name, shape, data }: any) => [name, { shape, data }]))
}

function expected({ tokens, mask }: Row): Named {
  const kept = tokens.map((token, i) => token * mask[i]!)
  const shape = [1, tokens.length]
  return {
    sum: { shape: [1], data: [kept.reduce((sum, each) => sum + each, 0)] },
    kept: { shape, data: kept },
    words: { shape, data: kept.map(String) },
  }
}

/** Sends rows of these lengths at once; returns in how many runs they were answered, all of them rightly. */
async function runsFor(served: TestGateway, lengths: readonly number[], model: string = 'm'): Promise<number> {
  const rows = lengths.map((length, i) => rowOf(length, 1 + 20 * i))
  const before = await statsOf(served, model)
  const replies = await Promise.all(rows.map((row) => attend(served, row, model)))
  assert.deepEqual(replies.map(outputsOf), rows.map(expected))
  const after = await statsOf(served, model)
  assert.equal(after.inference_count - before.inference_count, lengths.length)
  return after.execution_count - before.execution_count
}

/** So many rows run together at once; fewer have to wait until it is sure that no more come. */
const together = (rows: number) => ({ runtime: { executors: 1, warmUpMs: 0 }, batching: fixed(rows, 300) })

for (const isolation of isolations)
  test(`in a ${isolation} requests that fit one bucket share a run, and each gets what it gets alone`, async (t) => {
    const store = {
      ...version('m', attention, byLength()),
      ...version('filled', attention, byLength({ values: { tokens: 9 } })),
    }
    const settings = { ...together(3), runtime: { executors: 1, warmUpMs: 0, worker: { isolation } } }
    const served = await startGateway(t, { store, settings })
    for (const model of ['m', 'filled']) {
      assert.equal(await runsFor(served, [3, 4, 2], model), 1)
      assert.equal(await runsFor(served, [5, 8, 7], model), 1)
      assert.equal(await runsFor(served, [9, 16, 1, 3, 4, 12], model), 2)
      assert.equal(await runsFor(served, [3, 7], model), 2)
    }
  })

test('what is larger than every bucket shares a run with its equals only', async (t) => {
  const served = await startGateway(t, { store: version('m', attention, byLength()), settings: together(2) })
  assert.equal(await runsFor(served, [17, 17]), 1)
  assert.equal(await runsFor(served, [17, 18]), 2)
  assert.equal(await runsFor(served, [16, 17]), 2)
})

test('without a word in the manifest only equal shapes share a run', async (t) => {
  const store = { 'm.onnx': attention, ...version('said', attention, { batching: { rows: 'independent' } }) }
  const served = await startGateway(t, { store, settings: together(2) })
  for (const model of ['m', 'said']) {
    assert.equal(await runsFor(served, [3, 4], model), 2)
    assert.equal(await runsFor(served, [3, 3], model), 1)
  }
})

const echo = (type: OnnxType, shape: readonly Dim[] = ['n', 'length'], out: readonly Dim[] = shape) =>
  onnx({ inputs: [value('x', type, shape)], outputs: [value('y', type, out)], nodes: [op('Identity', ['x'], ['y'])] })

/** What clients send and get, and as JSON numbers where the protocol has them: the graph may be wider. */
const widths: readonly [contract: NumericDatatype, graph: NumericDatatype, filler: number][] = [
  ['BOOL', 'BOOL', 1],
  ['UINT8', 'UINT8', 255],
  ['UINT16', 'UINT16', 65_535],
  ['UINT32', 'UINT32', 7],
  ['UINT64', 'UINT64', 2 ** 53 - 1],
  ['INT8', 'INT8', -128],
  ['INT16', 'INT16', -2],
  ['INT32', 'INT32', -3],
  ['INT64', 'INT64', -5],
  ['FP16', 'FP16', -1.5],
  ['FP32', 'FP32', 0.5],
  ['FP64', 'FP64', 0.1],
  ['UINT8', 'INT64', 200],
  ['INT32', 'INT64', -7],
  ['INT8', 'FP32', -9],
  ['UINT32', 'FP64', 11],
  ['FP32', 'FP64', 0.25],
]

function elementsOf(datatype: NumericDatatype, numbers: readonly number[]) {
  const { array } = numerics[datatype]
  const data = new array(numbers.length)
  const isBig = data instanceof BigInt64Array || data instanceof BigUint64Array
  const bits = datatype === 'FP16' ? new Uint16Array(Float16Array.from(numbers).buffer) : numbers
  bits.forEach((number, i) => (data[i] = isBig ? BigInt(number) : number))
  return data
}

test('every datatype is filled up with its value, also where the graph has a wider one', async (t) => {
  // Only of a model with side effects nobody finds out that it tells what was filled up.
  const store = Object.assign(
    {},
    ...widths.map(([contract, graph, filler], i) => {
      const nodes = [op('Identity', ['x'], ['y']), op('Identity', ['x'], ['whole'])]
      const inputs = [value('x', graph, ['n', 'length'])]
      const file = onnx({
        inputs,
        outputs: [value('y', graph, ['n', 'length']), value('whole', graph, ['n', 'all'])],
        nodes,
      })
      return version(`m${i}`, file, {
        sideEffects: true,
        batching: { rows: 'independent' },
        inputs: { x: { datatype: contract } },
        padding: { length: { buckets: [4], values: { x: filler } } },
      })
    }),
  )
  const served = await startGateway(t, { store, settings: { runtime: { executors: 1 } } })
  for (const [i, [contract, graph, filler]] of widths.entries()) {
    const numbers = [1, 0, 1, 1, 0, 0]
    const data = elementsOf(contract, numbers)
    const { body, headers } = withBinary(
      { inputs: [binaryTensor('x', contract, [2, 3], data.byteLength)], parameters: { binary_data_output: true } },
      data,
    )
    const { status, json, binary } = await post(served, `m${i}`, body, headers)
    assert.equal(status, 200, `${contract}: ${JSON.stringify(json)}`)
    const shapes = json.outputs.map(({ shape, datatype }: any) => [datatype, shape])
    assert.deepEqual(shapes, [
      [graph, [2, 3]],
      [graph, [2, 4]],
    ])
    const whole = [1, 0, 1, filler, 1, 0, 0, filler]
    const bytes = Buffer.concat([elementsOf(graph, numbers), elementsOf(graph, whole)].map(bytesOf))
    assert.ok(binary.equals(bytes), `${contract} as ${graph}`)
  }
})

const byTwo = { h: { buckets: [2, 4], mask: 'mask' }, w: { buckets: [3, 5] } }

/** A request of tables by the draw, and its answer as a loop would find it. */
function drawTables(draw: (below: number) => number) {
  const [n, h, w] = [1 + draw(6), 1 + draw(5), 1 + draw(6)] as const
  const x = Array.from({ length: n * h * w }, () => draw(1_000) - 500)
  const mask = Array.from({ length: n * h }, () => draw(2))
  // No zero is a negative one.
  const kept = x.map((each, i) => each * mask[Math.floor(i / w)]! + 0)
  const columns = Array.from({ length: n * w }, () => 0)
  const all = Array.from({ length: n }, () => 0)
  for (const [i, each] of kept.entries()) {
    const row = Math.floor(i / (h * w))
    columns[row * w + (i % w)]! += each
    all[row]! += each
  }
  const answer: Named = {
    kept: { shape: [n, h, w], data: kept },
    columns: { shape: [n, w], data: columns },
    words: { shape: [n, w], data: columns.map(String) },
    all: { shape: [n], data: all },
  }
  return { request: { inputs: [tensor('x', 'INT32', [n, h, w], x), tensor('mask', 'INT32', [n, h], mask)] }, answer }
}

for (const isolation of isolations)
  test(`in a ${isolation} tables of any two sizes are answered as a plain loop would`, async (t) => {
    const store = {
      ...version('m', tables, { padding: byTwo }),
      ...version('alone', tables, { padding: byTwo, batching: { rows: 'dependent' } }),
    }
    const runtime = { executors: 1, worker: { isolation } }
    const policy = { kind: 'adaptive', maxRows: 4 }
    const served = await startGateway(t, { store, settings: { runtime, batching: { policy } } })
    for (const [model, seed] of [
      ['m', 1],
      ['m', 2],
      ['alone', 3],
    ] as const) {
      const draw = drawFrom(seed)
      const drawn = Array.from({ length: 120 }, () => drawTables(draw))
      const replies = await Promise.all(drawn.map(({ request }) => served.infer(model, request)))
      for (const [i, reply] of replies.entries())
        assert.deepEqual(outputsOf(reply), drawn[i]!.answer, JSON.stringify(drawn[i]!.request))
    }
  })

/** The mean of each row, without a mask; and the least of its numbers. */
const reduced = (name: string) =>
  onnx({
    inputs: [value('x', 'FP32', ['n', 'length'])],
    outputs: [value('y', 'FP32', ['n'])],
    nodes: [op(name, ['x'], ['y'], { axes: [1], keepdims: 0 })],
  })

test('a filler that leaves the answer as it is need not be 0', async (t) => {
  const padding = { length: { buckets: [4, 8], values: { x: 1_000 } } }
  const served = await startGateway(t, {
    store: version('m', reduced('ReduceMin'), { padding }),
    settings: together(2),
  })
  const replies = [[5, 3, 4], [7]].map((x) => served.infer('m', { inputs: [tensor('x', 'FP32', [1, x.length], x)] }))
  assert.deepEqual(
    (await Promise.all(replies)).map((reply) => outputsOf(reply)['y']!.data),
    [[3], [7]],
  )
  assert.equal((await statsOf(served, 'm')).execution_count, 1)
})

const byOne = (more: object = {}, buckets: readonly number[] = [4]) => ({ length: { buckets, ...more } })
const filledWith = (x: number) => byOne({ values: { x } })
const another = 'padding.length: a row filled up from 2 to 4 gets another answer than alone'
const cannot = (held: string) => `padding.length.values.x: ${held}`
const unheard = (dim: string) => `padding.${dim}: no input has a dimension "${dim}" beside its rows`
const inputless = (name: string) => `padding.length: no input "${name}" has that dimension`
const strings = 'padding.length: input "x" holds strings, which cannot be filled up'
const leaky = echo('INT64', ['n', 'length'], ['n', 'other'])
const unmasked = byOne({ values: { tokens: 5, mask: 1 } })

const mistakes: readonly [what: string, graph: Buffer, padding: object, says: string][] = [
  ['that fills a mean up', reduced('ReduceMean'), byOne(), another],
  ['that fills a minimum up with a small number', reduced('ReduceMin'), filledWith(-1), another],
  ['that has no mask where one is needed', attention, unmasked, another],
  ['whose output keeps what was filled up', leaky, byOne(), another],
  ['with an unknown dimension', attention, { width: { buckets: [4] } }, unheard('width')],
  ['with the rows as a dimension', attention, { batch: { buckets: [4] } }, 'padding.batch: it counts the rows'],
  [
    'with two values for one input',
    echo('INT64', ['n', 'h', 'w']),
    { h: { buckets: [2], values: { x: 5 } }, w: { buckets: [3], values: { x: 9 } } },
    'padding: input "x" is filled up with 5 along "h" and 9 along "w": give it one value',
  ],
  ['with an unknown mask', attention, byOne({ mask: 'masc' }), inputless('masc')],
  ['with a value for an unknown input', attention, byOne({ mask: 'mask', values: { y: 1 } }), inputless('y')],
  ['with a dimension of strings', echo('BYTES'), byOne(), strings],
  ['with a negative value for UINT8', echo('UINT8'), filledWith(-1), cannot('UINT8 cannot hold -1')],
  ['with a large value for INT8', echo('INT8'), filledWith(128), cannot('INT8 cannot hold 128')],
  ['with a fraction for INT64', echo('INT64'), filledWith(0.5), cannot('INT64 cannot hold 0.5')],
  ['with a large value for BOOL', echo('BOOL'), filledWith(7), cannot('BOOL cannot hold 7')],
  ['with a value beyond FP16', echo('FP16'), filledWith(70_000), cannot('FP16 cannot hold 70000')],
  ['with a value beyond FP32', echo('FP32'), filledWith(1e39), cannot('FP32 cannot hold 1e+39')],
  ['without a bucket', attention, byOne({}, []), 'padding.length.buckets'],
  ['with a bucket of none', attention, byOne({}, [0]), 'padding.length.buckets'],
]

suite('a manifest is a mistake', () => {
  for (const [what, graph, padding, says] of mistakes)
    test(what, async (t) => {
      const settings = { runtime: { executors: 1, warmUpMs: 0 } }
      await assert.rejects(startGateway(t, { store: version('m', graph, { padding }), settings }), ({ message }) => {
        assert.ok(message.includes(says) && !message.includes('\n'), message)
        return true
      })
    })

  test('whose dimension is the rows as well', async (t) => {
    const store = version('m', echo('INT64', ['n', 'n']), { padding: { n: { buckets: [4] } } })
    const settings = { auth: 'none', metrics: { port: 0 }, admin: { port: 0 }, store: { path: '.' } }
    const folder = await folderWith({ 'penstock.yaml': JSON.stringify(settings), ...store })
    const { code, stderr } = await penstock(t, ['check', join(folder, 'penstock.yaml')]).finished
    assert.deepEqual([code, stderr.trim().split('\n').length], [1, 2], stderr)
    assert.match(stderr, /padding\.n: /)
  })
})
