/** The vocabulary and the pure deciders that are not batching's: tables and seeded properties. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as z from 'zod'
import { Accounts } from '../src/batching/accounts.ts'
import { Curve } from '../src/batching/curve.ts'
import { Job } from '../src/batching/job.ts'
import { Queue } from '../src/batching/queue.ts'
import { isLoopback } from '../src/core/address.ts'
import { datatypes, numerics, widens, type Datatype } from '../src/core/datatype.ts'
import { readDocument, showMistake } from '../src/core/document.ts'
import { kind, kinds } from '../src/core/kinds.ts'
import { refuse } from '../src/core/refusal.ts'
import {
  bindShapes,
  hasRowAxis,
  shapeMisfit,
  showShape,
  type Dim,
  type Graph,
  type TensorSpec,
} from '../src/core/signature.ts'
import {
  bytesOf,
  concatStrings,
  elementCount,
  joinStrings,
  partOf,
  stringAt,
  stringCount,
  viewOf,
} from '../src/core/tensor.ts'
import type { Strings } from '../src/core/tensor.ts'
import { conform, mapGraph, signatureOf, type Ports } from '../src/models/contract.ts'
import { noManifest, type Manifest } from '../src/models/manifest.ts'
import { compareVersions } from '../src/models/store.ts'
import { drawFrom } from './support/draw.ts'

const elementsOf = (strings: Strings) => Array.from({ length: stringCount(strings) }, (_, i) => stringAt(strings, i))

test('a datatype widens to exactly those that hold all its values', () => {
  const wider: Partial<Record<Datatype, string>> = {
    BOOL: 'UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP32 FP64',
    UINT8: 'UINT16 UINT32 UINT64 INT16 INT32 INT64 FP32 FP64',
    UINT16: 'UINT32 UINT64 INT32 INT64 FP32 FP64',
    UINT32: 'UINT64 INT64 FP64',
    INT8: 'INT16 INT32 INT64 FP32 FP64',
    INT16: 'INT32 INT64 FP32 FP64',
    INT32: 'INT64 FP64',
    FP32: 'FP64',
  }
  for (const from of datatypes) {
    const expected = new Set([from, ...(wider[from]?.split(' ') ?? [])])
    for (const to of datatypes) assert.equal(widens(from, to), expected.has(to), `${from} to ${to}`)
  }
})

test('what a whole-number datatype says it holds, its memory holds, and no more', () => {
  for (const [name, { array, bytes, min, max, float }] of Object.entries(numerics)) {
    const memory = new array(3)
    assert.equal(memory.BYTES_PER_ELEMENT, bytes, name)
    if (float || name === 'BOOL') continue
    const extremes = [min, max, max + 1n]
    memory.set((bytes === 8 ? extremes : extremes.map(Number)) as never)
    assert.deepEqual([...memory].map(BigInt), [min, max, min], name)
  }
})

test('named dimensions have one value in a request, nameless ones any, numbers their own', () => {
  const spec = (name: string, ...shape: Dim[]): TensorSpec => ({ name, datatype: 'FP32', shape })
  const two = [spec('a', 'batch', 3), spec('b', 'batch', 'n', '')]
  const cases: [shapes: string, expected: RegExp][] = [
    ['2x3 2x5x7', /^batch=2,n=5$/],
    ['2 2x5x7', /^it has shape \[2\] but the model takes \[batch, 3\]: it needs 2 dimensions$/],
    ['2x4 2x5x7', /^it .*: dimension 1 must be 3$/],
    ['2x3 1x5x7', /^input "b": it has shape \[1, 5, 7\] .*\[batch, n, \?\]: "batch" is 2 in another input/],
    ['1x3 2x5x7', /: "batch" is 1 in another input/],
    ['2x3 2x5', /^it has .*: it needs 3 dimensions$/],
  ]
  for (const [text, expected] of cases) {
    const sizes = text.split(' ').map((each) => each.split('x').map(Number))
    const misfit = two.map((each, i) => shapeMisfit(each, sizes[i]!)).find((each) => each)
    const bound = misfit ?? bindShapes(two, sizes)
    assert.match(typeof bound === 'string' ? bound : [...bound].map((each) => each.join('=')).join(), expected)
  }
  assert.equal(showShape(['', 4, 'n']), '[?, 4, n]')
  assert.ok(hasRowAxis({ inputs: two, outputs: [spec('y', 'rows')] }))
  assert.ok(!hasRowAxis({ inputs: two, outputs: [spec('y', 1)] }))
  assert.ok(!hasRowAxis({ inputs: two, outputs: [spec('y')] }), 'a scalar has no rows')
  assert.ok(!hasRowAxis({ inputs: [], outputs: [spec('y', 'n')] }))
})

test('strings are joined, split, cut and put together without a byte lost', () => {
  const draw = drawFrom(3)
  for (let i = 0; i < 500; i++) {
    const elements = Array.from({ length: draw(8) }, () => Uint8Array.from({ length: draw(5) }, () => draw(256)))
    const strings = joinStrings(elements)
    assert.deepEqual(elementsOf(strings), elements)
    const from = draw(elements.length + 1)
    const to = from + draw(elements.length + 1 - from)
    const cut = partOf(strings, from, to) as Strings
    assert.deepEqual(elementsOf(cut), elements.slice(from, to))
    const rest = [partOf(strings, 0, from), cut, partOf(strings, to, elements.length)] as Strings[]
    assert.deepEqual(concatStrings(rest), strings)
  }
})

test('numbers are seen through bytes at any place', () => {
  const numbers = Float64Array.of(1.5, -2, Infinity)
  for (let pad = 0; pad < 9; pad++) {
    const bytes = new Uint8Array(pad + numbers.byteLength)
    bytes.set(bytesOf(numbers), pad)
    assert.deepEqual(viewOf('FP64', bytes.subarray(pad)), numbers)
  }
  assert.deepEqual(bytesOf(numbers.subarray(1, 2)), new Uint8Array(Float64Array.of(-2).buffer))
  assert.deepEqual(partOf(numbers, 1, 3), Float64Array.of(-2, Infinity))
  assert.deepEqual([elementCount([]), elementCount([2, 3, 4]), elementCount([2, 0])], [1, 24, 0])
})

test('the queue gives its jobs in order, as many as fit, and none that was settled meanwhile', () => {
  const draw = drawFrom(2)
  const accounts = new Accounts({})
  const claim = {
    requestId: '',
    caller: '',
    priority: 'standard',
    deadline: Infinity,
    gone: false,
    onGone() {},
  } as const
  const queue = new Queue('', new Curve(), accounts)
  let expected: Job[] = []
  for (let i = 0; i < 20_000; i++) {
    const step = draw(10)
    if (step < 5) {
      const facts = { account: accounts.of(''), queuedAt: i, costMs: 1 }
      const job = new Job({ rows: 1 + draw(5), key: '', inputs: [] }, claim, facts, () => {})
      queue.push(job)
      expected.push(job)
    } else if (step < 7 && expected.length > 0) {
      const job = expected[draw(expected.length)]!
      job.settle(refuse('abandoned', ''))
      queue.forget(job)
      expected = expected.filter((each) => each !== job)
    } else {
      const maxRows = draw(step === 9 ? 200 : 12)
      let rows = 0
      const fits = expected.findIndex((job, at) => (rows += job.work.rows) > maxRows && at > 0)
      const taken = expected.splice(0, fits < 0 ? expected.length : fits)
      assert.deepEqual(queue.take(maxRows, maxRows), taken)
      assert.ok(taken.every(({ state }) => state === 'running'))
    }
    assert.equal(queue.oldestAt, expected[0]?.queuedAt ?? Infinity)
    const rows = expected.reduce((sum, job) => sum + job.work.rows, 0)
    assert.equal(queue.rows, rows)
  }
})

const shapes = kinds(
  kind('round', { radius: z.number().min(0).default(1) }, ({ radius }) => radius),
  kind('square', { side: z.number() }, ({ side }) => side),
)
const schema = z.strictObject({
  name: z.string(),
  size: z.int().min(1).max(10).default(3),
  mode: z.enum(['fast', 'slow']).optional(),
  workers: z.union([z.literal('auto'), z.int().min(1).max(8)]).default('auto'),
  shape: shapes.options.optional(),
  list: z.array(z.strictObject({ x: z.number() })).default([]),
})

function mistakesIn(text: string): string[] {
  const read = readDocument('f.yaml', text, schema)
  return 'mistakes' in read ? read.mistakes.map(showMistake) : []
}

function valueOf(text: string): z.output<typeof schema> {
  const read = readDocument('f.yaml', text, schema)
  assert.ok('value' in read)
  return read.value
}

test('a document is given with the defaults filled in', () => {
  assert.deepEqual(valueOf('name: a'), { name: 'a', size: 3, workers: 'auto', list: [] })
  const { shape } = valueOf('name: a\nshape: { kind: round }')
  assert.deepEqual(shape, { kind: 'round', radius: 1 })
  assert.equal(shapes.create(shape), 1)
})

test('a mistake names file, line, path, what was found and what was expected', () => {
  const cases: [text: string, ...expected: string[]][] = [
    ['', 'f.yaml: name: is missing: expected string'],
    ['name: 3', 'f.yaml:1: name: expected string, found 3'],
    ['name: a\nsize: ten', 'f.yaml:2: size: expected number, found "ten"'],
    ['name: a\n\nsize: 0', 'f.yaml:3: size: too small: expected number to be >=1, found 0'],
    ['name: a\nsize: 11', 'f.yaml:2: size: too big: expected number to be <=10, found 11'],
    ['name: a\nmode: medium', 'f.yaml:2: mode: expected one of "fast"|"slow", found "medium"'],
    ['name: a\nname: b', 'f.yaml:2: not YAML: Map keys must be unique'],
    ['name: a\n\tsize: 3', 'f.yaml:2: not YAML: Tabs are not allowed as indentation'],
    ['extra: 1\nname: a\nmore: 2', 'f.yaml:1: unknown keys "extra", "more"'],
    ['name: a\nshape:\n  kind: round\n  side: 2', 'f.yaml:4: shape: unknown key "side"'],
    [
      'name: a\nshape:\n  kind: round\n  radius: -1',
      'f.yaml:4: shape.radius: too small: expected number to be >=0, found -1',
    ],
    ['name: a\nshape:\n  kind: square', 'f.yaml:2: shape.side: is missing: expected number'],
    ['name: a\nlist: 7', 'f.yaml:2: list: expected a list, found 7'],
    [
      'name: a\nlist:\n  - x: 1\n  - x: two\n    z: 3',
      'f.yaml:4: list[1].x: expected number, found "two"',
      'f.yaml:5: list[1]: unknown key "z"',
    ],
  ]
  for (const [text, ...expected] of cases) assert.deepEqual(mistakesIn(text), expected)
  const [long] = mistakesIn(`name: a\nsize: ${'9'.repeat(9)}x${'y'.repeat(1_000)}`)
  assert.ok(long!.length < 150, 'a long value is cut')
})

test('a mistake in a union is that of the alternative that came closest', () => {
  assert.deepEqual(mistakesIn('name: a\nworkers: many'), ['f.yaml:2: workers: expected "auto" or number, found "many"'])
  assert.deepEqual(mistakesIn('name: a\nworkers: [1]'), ['f.yaml:2: workers: expected "auto" or number, found a list'])
  const [big] = mistakesIn('name: a\nworkers: 9')
  assert.equal(big, 'f.yaml:2: workers: too big: expected number to be <=8, found 9')
})

test('an unknown kind is named beside the kinds there are', () => {
  const [unknown] = mistakesIn('name: a\nshape:\n  kind: oval')
  assert.match(unknown!, /^f\.yaml:3: shape\.kind: .*round.*square.*, found "oval"$/)
  assert.match(mistakesIn('name: a\nshape:\n  radius: 1')[0]!, /^f\.yaml:2: shape\.kind: is missing/)
})

test('a document that is not a mapping at all is a mistake on its first line', () => {
  assert.match(mistakesIn('- a')[0]!, /^f\.yaml:1: expected .*, found a list$/)
  assert.match(mistakesIn('just text')[0]!, /^f\.yaml:1: expected .*, found "just text"$/)
})

test('an alias that leads nowhere is a mistake, not a crash', () => {
  assert.match(mistakesIn('name: a\nmode: *nowhere')[0]!, /^f\.yaml(:2)?: .*nowhere/)
})

const port = (index: number, name: string, datatype: Datatype, ...shape: Dim[]) => ({ index, name, datatype, shape })
const graph: Graph = {
  inputs: [port(0, 'x', 'FP32', 'n', 4), port(1, 'mask', 'INT64', 'n')],
  outputs: [port(0, 'y', 'INT32', 'n'), port(1, 'z', 'FP32', 'n', 2)],
}
const manifest = (parts: Partial<Manifest>): Manifest => ({ ...noManifest, ...parts })

test('a manifest gives the graph the names and datatypes that clients see', () => {
  const plain = mapGraph(graph, noManifest) as Ports
  assert.deepEqual(
    plain.inputs.map(({ spec }) => spec.name),
    ['x', 'mask'],
  )
  const inputs = { image: { graph: 'x', datatype: 'UINT8' }, mask: { datatype: 'BOOL' } } as const
  const mapped = mapGraph(graph, manifest({ inputs, outputs: { label: { graph: 'y', datatype: 'INT64' } } })) as Ports
  assert.deepEqual(signatureOf(mapped), {
    inputs: [
      { name: 'image', datatype: 'UINT8', shape: ['n', 4] },
      { name: 'mask', datatype: 'BOOL', shape: ['n'] },
    ],
    outputs: [
      { name: 'label', datatype: 'INT64', shape: ['n'] },
      { name: 'z', datatype: 'FP32', shape: ['n', 2] },
    ],
  })
  assert.deepEqual(
    mapped.inputs.map((each) => each.graph),
    graph.inputs,
  )
  const swapped = mapGraph(graph, manifest({ inputs: { x: { graph: 'mask' }, mask: { graph: 'x' } } })) as Ports
  assert.deepEqual(
    swapped.inputs.map(({ spec }) => [spec.name, spec.datatype]),
    [
      ['mask', 'FP32'],
      ['x', 'INT64'],
    ],
  )
})

test('a manifest that loses values or does not fit the graph is refused with the reason', () => {
  const refused: [Partial<Manifest>, RegExp][] = [
    [{ inputs: { x: { datatype: 'FP64' } } }, /^input "x": FP64 cannot become FP32 without loss$/],
    [{ inputs: { mask: { datatype: 'BYTES' } } }, /^input "mask": BYTES cannot become INT64/],
    [{ outputs: { y: { datatype: 'INT16' } } }, /^output "y": INT32 cannot become INT16 without loss$/],
    [
      { inputs: { image: { graph: 'pixels' } } },
      /maps input "image" to "pixels", but the graph's inputs are "x", "mask"$/,
    ],
    [{ outputs: { scores: {} } }, /maps output "scores" to "scores", but the graph's outputs are "y", "z"$/],
  ]
  for (const [parts, reason] of refused) assert.match(mapGraph(graph, manifest(parts)) as string, reason)
  assert.match(mapGraph({ ...graph, outputs: [] }, noManifest) as string, /no output that is a tensor/)
  const deep = { ...graph, inputs: [port(0, 'x', 'FP32', 1, 1, 1, 1, 1, 1, 1, 1, 1)] }
  assert.match(mapGraph(deep, noManifest) as string, /^input "x" has 9 dimensions; 8 is the most$/)
})

test('a manifest that gives two inputs one name, or one input two names, is refused', () => {
  assert.equal(typeof mapGraph(graph, manifest({ inputs: { mask: { graph: 'x' } } })), 'string')
  assert.equal(typeof mapGraph(graph, manifest({ inputs: { a: { graph: 'x' }, b: { graph: 'x' } } })), 'string')
})

test('a version serves a contract in its order, may take more and may not give less', () => {
  const contract = signatureOf(mapGraph(graph, noManifest) as Ports)
  const [x, mask] = graph.inputs as [Graph['inputs'][0], Graph['inputs'][0]]
  const [y, zed] = graph.outputs as [Graph['inputs'][0], Graph['inputs'][0]]
  const serve = (inputs: Graph['inputs'], outputs: Graph['outputs']) =>
    conform(mapGraph({ inputs, outputs }, noManifest) as Ports, contract)
  const turned = serve([mask, { ...x, shape: ['batch', 'any'] }], [zed, y, port(2, 'more', 'FP32')]) as Ports
  assert.deepEqual(
    turned.inputs.map(({ spec }) => spec.name),
    ['x', 'mask'],
  )
  assert.deepEqual(
    turned.outputs.map(({ spec }) => spec.name),
    ['y', 'z'],
  )
  const refused: [inputs: Graph['inputs'], outputs: Graph['outputs'], RegExp][] = [
    [[x, mask, port(2, 'seed', 'INT64')], [y, zed], /^it needs an input "seed" that the contract lacks/],
    [[x], [y, zed], /^the contract's input "mask" is missing among "x"; map it under `inputs` in the manifest$/],
    [[x, mask], [y], /^the contract's output "z" is missing among "y"; map it under `outputs`/],
    [[{ ...x, datatype: 'FP64' }, mask], [y, zed], /^input "x" is FP64, but the contract says FP32/],
    [[{ ...x, shape: ['n', 5] }, mask], [y, zed], /^input "x" has shape \[n, 5\], but the contract says \[n, 4\]/],
    [[{ ...x, shape: [1, 4] }, mask], [y, zed], /^input "x" has shape \[1, 4\]/],
    [[x, mask], [y, { ...zed, shape: ['n', 'k'] }], /^output "z" has shape \[n, k\], but the contract says \[n, 2\]/],
    [[x, mask], [{ ...y, shape: ['n', 1] }, zed], /^output "y" has shape \[n, 1\]/],
  ]
  for (const [inputs, outputs, reason] of refused) assert.match(serve(inputs, outputs) as string, reason)
})

test('versions are ordered as people count', () => {
  for (const sorted of ['1 2 9 10', '1.9.0 1.10.0', 'v2 v10', '2026-01-09 2026-01-10']) {
    assert.equal(sorted.split(' ').toReversed().toSorted(compareVersions).join(' '), sorted)
  }
})

test('no two versions tie, so that the newest is always the same one', () => {
  const odd = ['1', '01', '1.0', '1-0', 'a', 'A']
  for (const a of odd)
    assert.deepEqual(
      odd.filter((b) => compareVersions(a, b) === 0),
      [a],
    )
})

test('only addresses of this machine alone are loopback', () => {
  for (const host of ['localhost', '127.0.0.1', '127.9.8.7', '::1']) assert.ok(isLoopback(host), host)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example.org', 'localhost.example.org', '128.0.0.1', '']) {
    assert.ok(!isLoopback(host), host)
  }
})
