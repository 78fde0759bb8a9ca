/** Golden cases in real workers: no version is served against them, and what is said of one that would have been. */
import assert from 'node:assert/strict'
import { join, relative } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { loadFleet } from '../src/models/fleet.ts'
import { scanStore } from '../src/models/store.ts'
import { plus, startRuntime, type Options } from './support/fleet.ts'
import { folderWith, ownStore, tensor } from './support/gateway.ts'
import { endless, looping } from './support/models.ts'
import { identity, onnx } from './support/onnx.ts'

/** Loads a store in real workers. */
async function loaded(t: TestContext, store: string | Parameters<typeof folderWith>[0], more: Options = {}) {
  const path = typeof store === 'string' ? store : await folderWith(store)
  const { runtime, runner } = startRuntime(t, more)
  const { bundles, mistakes: misread } = await scanStore(path)
  assert.deepEqual(misread, [])
  const fleet = await loadFleet(bundles, runner)
  const said = fleet.mistakes.map(({ file, message }) => `${relative(path, file)}: ${message}`)
  return { ...fleet, said, runtime, bundles }
}

const plusOne = plus(1)
const goldenOf = (given: number[], expected: number[]) => {
  const column = (name: string, data: number[]) => tensor(name, 'INT64', [data.length, 1], data)
  return JSON.stringify({ inputs: [column('x', given)], outputs: [column('y', expected)] })
}
const about = 'summary: s\nowner: o\nlicence: l\n'

suite('in real workers', { concurrency: 2 }, () => {
  test('every version that comes with Penstock has cases, and agrees with them', async (t) => {
    const { said, bundles, models } = await loaded(t, ownStore)
    assert.deepEqual(said, [])
    assert.equal([...models.values()].flatMap(({ versions }) => [...versions]).length, 6)
    for (const { golden, file } of bundles) assert.ok(golden.length > 0, file)
  })

  test('a version that does not agree is not served, and each case that it misses is told', async (t) => {
    const { said, models, runtime } = await loaded(t, {
      'm/1/m.onnx': plusOne,
      'm/1/golden/good.json': goldenOf([1], [2]),
      'm/2/m.onnx': plusOne,
      'm/2/golden/a.json': goldenOf([1, 5], [2, 7]),
      'm/2/golden/b.json': goldenOf([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
      'm/2/golden/c.json': '{',
      'm/2/golden/d.json': goldenOf([1], [9]),
      'm/2/golden/notes/c.json': '{',
      'm/2/golden/read.me': '',
      'n/1/n.onnx': plusOne,
    })
    assert.deepEqual(said, [
      'm/2/golden/a.json: output "y": element 1: expected 7, found 6',
      'm/2/golden/c.json: not JSON',
      'm/2/golden/d.json: output "y": element 0: expected 9, found 2',
    ])
    assert.deepEqual([...models.get('m')!.versions.keys()], ['1'])
    assert.deepEqual([...models.keys()], ['m', 'n'])
    const known = Object.values(runtime.deployments).map(({ options: { model, version } }) => `${model} ${version}`)
    assert.deepEqual(known, ['m 1', 'n 1'])
  })

  test('cases are in the words of the contract, whatever the graph calls its own', async (t) => {
    const mapping = 'inputs: { x: { graph: b, datatype: INT64 }, w: { graph: a, datatype: INT64 } }\n'
    const difference = onnx({
      inputs: ['a', 'b'].map((name) => ({ name, type: 'INT64', shape: ['n', 1] })),
      outputs: [{ name: 'y', type: 'INT64', shape: ['n', 1] }],
      nodes: [{ op: 'Sub', inputs: ['a', 'b'], outputs: ['y'] }],
    })
    const of = (name: string, value: number) => tensor(name, 'INT64', [1, 1], [value])
    const golden = (result: number) => JSON.stringify({ inputs: [of('x', 7), of('w', 9)], outputs: [of('y', result)] })
    const files = { 'm/1/m.onnx': difference, 'm/1/manifest.yaml': about + mapping }
    assert.deepEqual((await loaded(t, { ...files, 'm/1/golden/a.json': golden(2) })).said, [])
    const wrong = await loaded(t, { ...files, 'm/1/golden/a.json': golden(-2) })
    assert.deepEqual(wrong.said, ['m/1/golden/a.json: output "y": element 0: expected -2, found 2'])
  })

  test('a version with side effects is not run, but its cases are read', async (t) => {
    const manifest = `${about}sideEffects: true\nbatching: { rows: independent }\n`
    const files = { 'm/1/m.onnx': endless, 'm/1/manifest.yaml': manifest, 'm/1/golden/a.json': goldenOf([1], [3]) }
    assert.deepEqual((await loaded(t, files)).said, [])
    const { said } = await loaded(t, { ...files, 'm/1/golden/b.json': '[' })
    assert.deepEqual(said, ['m/1/golden/b.json: not JSON'])
  })

  test('a case of which the worker dies ends the trial, and the worker', async (t) => {
    const files = {
      'm/1/m.onnx': looping,
      'm/1/manifest.yaml': `${about}batching: { rows: independent }\n`,
      'm/1/golden/a.json': goldenOf([2 ** 50], [2 ** 50]),
      'm/1/golden/b.json': goldenOf([1], [2]),
    }
    const more = { worker: { isolation: 'process' }, watchdog: { loadMs: 4_000 } }
    const { said, models, runtime } = await loaded(t, files, more)
    assert.equal(said.length, 1)
    assert.match(said[0]!, /^m\/1\/golden\/a\.json: the worker died of it: /)
    assert.deepEqual([models.size, Object.keys(runtime.deployments), runtime.bytes], [0, [], 0])
  })

  test('more cases than are allowed, and one that is too large, are mistakes', async (t) => {
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`m/1/golden/${i}.json`, goldenOf([i], [i + 1])]))
    assert.deepEqual((await loaded(t, { 'm/1/m.onnx': plusOne, ...many(64) })).said, [])
    const { said } = await loaded(t, { 'm/1/m.onnx': plusOne, ...many(65) })
    assert.deepEqual(said, ['m/1/m.onnx: it has 65 golden cases: 64 are the most'])
    const padded = (size: number) => goldenOf([1], [2]).padEnd(size)
    const most = 4 * 2 ** 20
    assert.deepEqual((await loaded(t, { 'm/1/m.onnx': plusOne, 'm/1/golden/a.json': padded(most) })).said, [])
    const large = await loaded(t, { 'm/1/m.onnx': plusOne, 'm/1/golden/a.json': padded(most + 1) })
    assert.match(large.said[0]!, /^m\/1\/golden\/a\.json: it has 4194305 bytes: 4194304 are the most/)
  })

  test('a case belongs to the digest of its version', async () => {
    const digestOf = async (expected: number) => {
      const path = await folderWith({
        'm/1/m.onnx': identity('INT64', ['n', 1]),
        'm/1/golden/a.json': goldenOf([1], [expected]),
      })
      const { bundles } = await scanStore(path)
      assert.deepEqual(bundles[0]!.golden, [join(path, 'm/1/golden/a.json')])
      return bundles[0]!.digest
    }
    assert.notEqual(await digestOf(1), await digestOf(2))
  })
})
