/** Golden cases: how they are written, what is said of those that are not right, and what counts as another answer. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import type { Datatype } from '../src/core/datatype.ts'
import { dataOf, elementAt } from '../src/core/elements.ts'
import { noPadding } from '../src/core/padding.ts'
import type { Ran } from '../src/core/run.ts'
import type { Program, Signature, TensorSpec } from '../src/core/signature.ts'
import type { Tensor, TensorData } from '../src/core/tensor.ts'
import { readCase } from '../src/models/golden-case.ts'
import { tryGolden } from '../src/models/golden.ts'
import { folderWith, tensor } from './support/gateway.ts'

const spec = (name: string, datatype: Datatype, shape: TensorSpec['shape']): TensorSpec => ({ name, datatype, shape })
const signature = (inputs: readonly TensorSpec[], outputs: readonly TensorSpec[]): Signature => ({ inputs, outputs })

const contract = signature(
  [spec('x', 'FP32', ['n', 2]), spec('ids', 'INT64', ['n', 'length'])],
  [spec('y', 'FP32', ['n', 2]), spec('words', 'BYTES', ['n'])],
)
const x = tensor('x', 'FP32', [2, 2], [1, 2, 3, 4])
const ids = tensor('ids', 'INT64', [2, 3], [1, 2, 3, 4, 5, 6])
const y = tensor('y', 'FP32', [2, 2], [0, 0.5, 1, 1.5])
const caseOf = (more: object = {}) => JSON.stringify({ inputs: [x, ids], outputs: [y], ...more })

suite('elements as people write them', () => {
  for (const [datatype, elements, expected] of [
    ['BOOL', [true, false], Uint8Array.of(1, 0)],
    ['UINT8', [0, 255], Uint8Array.of(0, 255)],
    ['INT32', [-(2 ** 31), 7], Int32Array.of(-(2 ** 31), 7)],
    ['INT64', [-3, '-9223372036854775808', '9007199254740993'], BigInt64Array.of(-3n, -(2n ** 63n), 2n ** 53n + 1n)],
    ['UINT64', ['18446744073709551615'], BigUint64Array.of(2n ** 64n - 1n)],
    ['FP16', [1, -2, 65_504, 0.1], Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x2e66)],
    ['FP32', [0.1, -0], Float32Array.of(0.1, -0)],
    ['FP64', [1e300], Float64Array.of(1e300)],
    ['BYTES', ['é', ''], { offsets: Uint32Array.of(0, 2, 2), bytes: Uint8Array.of(0xc3, 0xa9) }],
  ] as readonly [Datatype, unknown[], TensorData][]) {
    test(`${datatype} is held as it is in a tensor, and read back`, () => {
      const data = dataOf(datatype, elements)
      assert.deepEqual(data, expected)
      const again = elements.map((_, i) => elementAt(datatype, expected, i))
      const shown = elements.map((each) =>
        datatype.endsWith('64') && datatype !== 'FP64' ? BigInt(each as string) : each,
      )
      const near = (each: unknown) => (typeof each === 'number' ? Number(each.toPrecision(3)) : each)
      assert.deepEqual(again.map(near), shown.map(near))
    })
  }

  for (const [datatype, elements, problem] of [
    ['BOOL', [true, 1], 'element 1 must be a boolean'],
    ['BYTES', ['a', 1], 'element 1 must be a string'],
    ['FP32', [1, '2'], 'element 1 must be a number'],
    ['FP32', [[1]], 'element 0 must be a number'],
    ['FP32', [null], 'element 0 must be a number'],
    ['FP32', [1, 1e39], 'element 1 is no FP32'],
    ['FP16', [65_504, 70_000], 'element 1 is no FP16'],
    ['INT8', [-128, -129], 'element 1 is no INT8'],
    ['UINT32', [0.5], 'element 0 is no UINT32'],
    ['INT32', ['1'], 'element 0 must be a number'],
    ['INT64', [2 ** 53], 'element 0 is no INT64'],
    ['INT64', ['9223372036854775808'], 'element 0 is no INT64'],
    ['INT64', ['1e3'], 'element 0 must be a number'],
    ['INT64', [''], 'element 0 must be a number'],
    ['UINT64', ['-1'], 'element 0 is no UINT64'],
    ['UINT64', [-1], 'element 0 is no UINT64'],
  ] as readonly [Datatype, unknown[], string][]) {
    test(`${JSON.stringify(elements)} is not ${datatype}: ${problem}`, () => {
      assert.equal(dataOf(datatype, elements), problem)
    })
  }
})

suite('a golden case', () => {
  test('may be flat or nested, and in any order', () => {
    const nested = {
      inputs: [
        {
          ...ids,
          data: [
            [1, 2, 3],
            [4, 5, 6],
          ],
        },
        {
          ...x,
          data: [
            [1, 2],
            [3, 4],
          ],
        },
      ],
    }
    const [flat, deep] = [readCase(caseOf(), contract), readCase(caseOf(nested), contract)]
    assert.ok(typeof flat !== 'string')
    assert.deepEqual(deep, flat)
    assert.deepEqual(flat.work.inputs[0]!.data, Float32Array.of(1, 2, 3, 4))
    assert.deepEqual(
      flat.work.inputs.map(({ name }) => name),
      ['x', 'ids'],
    )
    assert.deepEqual([flat.work.rows, flat.work.key], [2, '2 3'])
    assert.deepEqual(flat.tolerance, { absolute: 1e-6, relative: 1e-4 })
  })

  test('of a model without rows is one work', () => {
    const fixed = signature([spec('x', 'FP32', [2, 2])], [spec('y', 'FP32', [2, 2])])
    const read = readCase(JSON.stringify({ inputs: [x], outputs: [y], tolerance: { absolute: 1 } }), fixed)
    assert.ok(typeof read !== 'string')
    assert.deepEqual([read.work.rows, read.work.key], [1, ''])
    assert.deepEqual(read.tolerance, { absolute: 1, relative: 1e-4 })
  })

  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
  for (const [what, text, problem] of [
    ['text', 'no', /^not JSON$/],
    ['a list', '[]', /expected object/],
    ['without outputs', JSON.stringify({ inputs: [x, ids], outputs: [] }), /^outputs: /],
    ['with a key of its own', caseOf({ input: 1 }), /"input"/],
    ['with a negative tolerance', caseOf({ tolerance: { absolute: -1 } }), /^tolerance\.absolute: /],
    ['with a shape of fractions', caseOf({ outputs: [{ ...y, shape: [0.5, 2] }] }), /^outputs\[0\]\.shape\[0\]: /],
    [
      'with an unknown input',
      caseOf({ inputs: [x, ids, { ...x, name: 'z' }] }),
      /^the model has no input "z": its inputs are "x", "ids"$/,
    ],
    [
      'with an unknown output',
      caseOf({ outputs: [{ ...y, name: 'x' }] }),
      /^the model has no output "x": its outputs are "y", "words"$/,
    ],
    ['without an input', caseOf({ inputs: [x] }), /^input "ids" is missing$/],
    ['with an input twice', caseOf({ inputs: [x, ids, x] }), /^input "x" is given twice$/],
    [
      'with another datatype',
      caseOf({ inputs: [{ ...x, datatype: 'FP64' }, ids] }),
      /^input "x": its datatype must be FP32$/,
    ],
    [
      'with another width',
      caseOf({ inputs: [{ ...x, shape: [1, 4] }, ids] }),
      /^input "x": it has shape \[1, 4\], but .*\[n, 2\]$/,
    ],
    ['with another rank', caseOf({ outputs: [{ ...y, shape: [4] }] }), /^output "y": it has shape \[4\]/],
    [
      'with elements missing',
      caseOf({ inputs: [{ ...x, data: [1, 2, 3] }, ids] }),
      /^input "x": it has 3 elements, but .* holds 4$/,
    ],
    [
      'nested otherwise',
      caseOf({ outputs: [{ ...y, data: [[0, 1, 2, 3]] }] }),
      /^output "y": its lists are not nested/,
    ],
    [
      'with lists of uneven length',
      caseOf({ outputs: [{ ...y, data: [[0], [1, 2, 3]] }] }),
      /^output "y": its lists are not nested/,
    ],
    [
      'nested without end',
      caseOf({ outputs: ['D'] }).replace('"D"', JSON.stringify({ ...y, data: ['D'] }).replace('"D"', deep)),
      /^output "y": /,
    ],
    [
      'with a string for a number',
      caseOf({ outputs: [{ ...y, data: [0, 1, 2, '3'] }] }),
      /^output "y": element 3 must be a number$/,
    ],
    [
      'of different numbers of rows',
      caseOf({ inputs: [x, { ...ids, shape: [1, 6] }] }),
      /"n" is 2 in another input|has 1 rows/,
    ],
    ['without rows', caseOf({ inputs: [{ ...x, shape: [0, 2], data: [] }, ids] }), /^input "x" is empty$/],
  ] as const)
    test(`${what} is refused with what is wrong`, () => {
      const read = readCase(text, contract)
      assert.equal(typeof read, 'string')
      assert.match(read as string, problem)
    })
})

/** What is said of a model that takes a number and answers as it is told. */
async function verdictOn(answer: Tensor | Ran, expected: object, more: object = {}): Promise<string[]> {
  const { name, datatype, shape } = expected as ReturnType<typeof tensor>
  const own = signature(
    [spec('x', 'FP32', [1])],
    [
      spec(
        name,
        datatype as Datatype,
        shape.map((_, i) => `d${i}`),
      ),
    ],
  )
  const file = { inputs: [tensor('x', 'FP32', [1], [1])], outputs: [expected], ...more }
  const folder = await folderWith({ 'a.json': JSON.stringify(file) })
  const program = { batched: false, repeatable: true, padding: noPadding } as Program
  const bundle = { file: 'm.onnx', golden: [join(folder, 'a.json')] }
  const ran: Ran = 'kind' in answer ? answer : { kind: 'done', outputs: [[answer]], computeMs: 1 }
  const mistakes = await tryGolden({ bundle, contract: own, program }, () => Promise.resolve(ran))
  assert.ok(mistakes.every(({ file: where }) => where === join(folder, 'a.json')))
  return mistakes.map(({ message }) => message)
}

const floats = (datatype: Datatype, data: TensorData): Tensor => ({ name: 'y', datatype, shape: [2], data })

suite('an answer is held against what is expected', () => {
  for (const [what, answer, expected, problem] of [
    ['near enough', floats('FP32', Float32Array.of(1000.09, 5e-7)), tensor('y', 'FP32', [2], [1000, 0]), undefined],
    [
      'too far off by its size',
      floats('FP32', Float32Array.of(1, 1000.2)),
      tensor('y', 'FP32', [2], [1, 1000]),
      /^output "y": element 1: expected 1000, found 1000\.2/,
    ],
    [
      'too far off by itself',
      floats('FP64', Float64Array.of(2e-6, 1)),
      tensor('y', 'FP64', [2], [0, 1]),
      /element 0: expected 0, found 0\.000002/,
    ],
    [
      'not a number',
      floats('FP32', Float32Array.of(1, NaN)),
      tensor('y', 'FP32', [2], [1, 1]),
      /element 1: expected 1, found NaN/,
    ],
    [
      'infinite',
      floats('FP32', Float32Array.of(Infinity, 1)),
      tensor('y', 'FP32', [2], [1, 1]),
      /element 0: expected 1, found Infinity/,
    ],
    [
      'half as exact, and near enough',
      floats('FP16', Uint16Array.of(0x3c00, 0xc000)),
      tensor('y', 'FP16', [2], [1.00005, -2]),
      undefined,
    ],
    [
      'half as exact, and of the other sign',
      floats('FP16', Uint16Array.of(0x3c00, 0x4000)),
      tensor('y', 'FP16', [2], [1, -2]),
      /element 1: expected -2, found 2$/,
    ],
    [
      'one beside it in whole numbers',
      floats('INT64', BigInt64Array.of(10n ** 15n, 1n)),
      tensor('y', 'INT64', [2], [10 ** 15 + 1, 1]),
      /element 0: expected 1000000000000001, found 1000000000000000$/,
    ],
    [
      'the same whole numbers',
      floats('INT64', BigInt64Array.of(2n ** 60n, 1n)),
      tensor('y', 'INT64', [2], [String(2n ** 60n), 1]),
      undefined,
    ],
    [
      'one beside it in small whole numbers',
      floats('UINT8', Uint8Array.of(1, 2)),
      tensor('y', 'UINT8', [2], [1, 3]),
      /element 1: expected 3, found 2$/,
    ],
    [
      'false for true',
      floats('BOOL', Uint8Array.of(1, 0)),
      tensor('y', 'BOOL', [2], [true, true]),
      /element 1: expected true, found false$/,
    ],
    [
      'the same words',
      floats('BYTES', dataOf('BYTES', ['ham', 'é']) as TensorData),
      tensor('y', 'BYTES', [2], ['ham', 'é']),
      undefined,
    ],
    [
      'another word',
      floats('BYTES', dataOf('BYTES', ['ham', 'spa']) as TensorData),
      tensor('y', 'BYTES', [2], ['ham', 'spam']),
      /element 1: expected "spam", found "spa"$/,
    ],
    [
      'more elements',
      floats('FP32', Float32Array.of(1, 1)),
      tensor('y', 'FP32', [1], [1]),
      /^output "y": expected shape \[1\], found \[2\]$/,
    ],
    [
      'none, because the model fails',
      { kind: 'failed', reason: 'no such id' },
      tensor('y', 'FP32', [1], [1]),
      /^the model fails on it: no such id$/,
    ],
    [
      'none, because the worker died',
      { kind: 'lost', reason: 'exit 1', mayRepeat: true },
      tensor('y', 'FP32', [1], [1]),
      /^the worker died of it: exit 1$/,
    ],
  ] as readonly [string, Tensor | Ran, object, RegExp | undefined][])
    test(`one that is ${what} ${problem ? 'does not agree' : 'agrees'}`, async () => {
      const said = await verdictOn(answer, expected)
      assert.equal(said.length, problem ? 1 : 0, said.join())
      if (problem) assert.match(said[0]!, problem)
    })

  test('a case has its own tolerance, which is for floats only', async () => {
    const wide = { tolerance: { absolute: 0.5, relative: 0 } }
    const near = floats('FP32', Float32Array.of(1.5, 1))
    const expected = tensor('y', 'FP32', [2], [1, 1])
    assert.deepEqual(await verdictOn(near, expected, wide), [])
    assert.equal((await verdictOn(near, expected, { tolerance: { absolute: 0.4 } })).length, 1)
    assert.equal((await verdictOn(near, expected, { tolerance: { absolute: 0, relative: 0.6 } })).length, 0)
    const whole = floats('INT32', Int32Array.of(1, 1))
    const large = { tolerance: { absolute: 9, relative: 9 } }
    assert.equal((await verdictOn(whole, tensor('y', 'INT32', [2], [1, 2]), large)).length, 1)
  })
})
