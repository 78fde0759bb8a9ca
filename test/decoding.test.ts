/** How bodies become requests: each body here comes to the same, to the word, wherever it is cut. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Datatype } from '../src/core/datatype.ts'
import { elementCount } from '../src/core/tensor.ts'
import type { DecodeOptions } from '../src/edge/codecs/decoder.ts'
import { binaryTensor } from './support/client.ts'
import {
  bodyOf,
  contractOf,
  cutAnywhere,
  decodeOptions,
  elements,
  inJson,
  named,
  outcomeOf,
  taken,
  valuesIn,
  valuesOf,
  type Cutting,
} from './support/decoding.ts'

type Nested = string | Nested[]

function nest(texts: readonly string[], [size, ...rest]: readonly number[]): Nested {
  if (size === undefined) return texts[0]!
  const each = texts.length / size
  return Array.from({ length: size }, (_, i) => nest(texts.slice(i * each, (i + 1) * each), rest))
}

function show(nested: Nested, space = ''): string {
  return typeof nested === 'string' ? nested : `${space}[${nested.map((each) => show(each, space)).join(`${space},`)}]`
}

const shapes = [
  [2, 2],
  [4, 2],
  [2, 1, 2],
  [2, 2, 2],
  [1, 1, 1, 1],
  [2, 1, 2, 2],
]

test('nested data comes to the same as flat data, for every datatype and rank, with white space and without', () => {
  for (const datatype of inJson) {
    for (const shape of shapes) {
      const texts = elements[datatype].slice(0, elementCount(shape))
      const nested = nest(texts, shape)
      for (const data of [`[${texts.join()}]`, show(nested), show(nested, ' \n\t\r')]) {
        const contract = contractOf(datatype, named(shape.length))
        for (const isHeld of [false, true]) {
          const { rows, inputs } = taken(outcomeOf(bodyOf(datatype, shape, data, isHeld), contract))
          assert.equal(rows, shape[0])
          assert.deepStrictEqual(inputs, [{ name: 'x', datatype, shape, values: valuesOf(datatype, texts) }])
        }
      }
    }
    const cut = cutAnywhere(
      bodyOf(datatype, [2, 2], show(nest(elements[datatype].slice(4), [2, 2]), ' ')),
      contractOf(datatype, named(2)),
    )
    assert.deepStrictEqual(valuesIn(cut), [valuesOf(datatype, elements[datatype].slice(4))])
  }
})

/** The list at each place of nested data, and the depth at which it is, from 1. */
function* lists(nested: Nested, depth = 1): Generator<[list: Nested[], depth: number]> {
  if (typeof nested === 'string') return
  yield [nested, depth]
  for (const each of nested) yield* lists(each, depth + 1)
}

test('nested data with a list too short, too long or missing is refused with the depth and the size there', () => {
  const ragged = (shape: readonly number[], depth: number) =>
    `invalid: input "x": its nested data must hold lists of ${shape[depth - 1]} at depth ${depth}, as its shape says`
  for (const datatype of ['FP32', 'INT64', 'BOOL', 'BYTES'] as const) {
    for (const shape of shapes.filter(([rows]) => rows! > 1)) {
      const rank = shape.length
      const fresh = () => nest(elements[datatype].slice(0, elementCount(shape)), shape)
      const refused = (nested: Nested, depth: number) => {
        for (const isHeld of [false, true]) {
          const body = bodyOf(datatype, shape, show(nested), isHeld)
          assert.equal(outcomeOf(body, contractOf(datatype, named(rank))), ragged(shape, depth), body.toString())
        }
      }
      for (let i = 0; i < [...lists(fresh())].length; i++) {
        const mangle = (how: (list: Nested[], depth: number) => number | undefined) => {
          const nested = fresh()
          const [list, depth] = [...lists(nested)][i]!
          const where = how(list, depth)
          if (where !== undefined) refused(nested, where)
        }
        mangle((list, depth) => (list.push(list[0]!), depth))
        // In an empty list it is the one inside that is missing.
        mangle((list, depth) => (list.pop(), list.length === 0 && depth < rank ? depth + 1 : depth))
        // The first one tells nested data from flat.
        if (i > 0) mangle((list, depth) => (depth < rank ? ((list[list.length - 1] = '1'), depth + 1) : undefined))
      }
    }
  }
})

test('data that is not nested as its shape says is refused at the element where that shows', () => {
  const refused = (shape: number[], data: string, message: string) =>
    assert.equal(cutAnywhere(bodyOf('FP32', shape, data), contractOf('FP32', named(shape.length))), message)
  refused([2], '[[1],[2]]', 'invalid: input "x": element 0 is not a number')
  refused([2, 1], '[[[1]],[[2]]]', 'invalid: input "x": element 0 is not a number')
  refused([2, 2], '[[1,2],[3,[4]]]', 'invalid: input "x": element 3 is not a number')
  refused([2, 2], '[1,[2,3],4]', 'invalid: input "x": element 1 is not a number')
  refused([2, 2], '[1,2,3]', 'invalid: input "x": its data holds 3 elements but its shape needs 4')
  refused([2, 2], '[1,2,3,4,5]', 'invalid: input "x": its data holds more than 4 elements but its shape needs 4')
  refused([2, 2], '[]', 'invalid: input "x": its data holds 0 elements but its shape needs 4')
  for (const data of ['1', '"[1,2]"', '{}', 'null']) refused([2], data, 'invalid: input "x": its data must be a list')
})

function* orders<T>(list: readonly T[]): Generator<T[]> {
  if (list.length === 0) yield []
  for (const [i, first] of list.entries()) for (const rest of orders(list.toSpliced(i, 1))) yield [first, ...rest]
}

test('an input says its name, datatype, shape and data in any order, and is judged the same', () => {
  const contract = contractOf('BYTES', named(2))
  for (const [data, expected] of [
    ['[["a]","\\u005b\\\\"],["\\"","ü"]]', [['a]', '[\\', '"', 'ü']]],
    ['["a","b",7,"d"]', 'invalid: input "x": element 2 is not a string'],
  ] as const) {
    for (const space of ['', ' \n']) {
      for (const keys of orders([`"data":${data}`, '"name":"x"', '"datatype":"BYTES"', '"shape":[2,2]'])) {
        const body = `{"inputs":${space}[{${space}${keys.join(`${space},${space}`)}${space}}${space}]}`
        const outcome = cutAnywhere(Buffer.from(body.replaceAll(':', `${space}:${space}`)), contract)
        assert.deepStrictEqual(typeof expected === 'string' ? outcome : valuesIn(outcome), expected)
      }
    }
  }
})

test('what is no JSON in held data is refused with its place in the body', () => {
  for (const data of ['[1,x]', '[1, 2', '[1}', '[[1,]', '["\\x"]', '[1,2,]', '[1 2]']) {
    for (const space of ['', '  ']) {
      const body = bodyOf('FP32', [2], `${space}${data}`, true)
      const outcome = cutAnywhere(body, contractOf('FP32')) as string
      assert.match(outcome, /^invalid: /)
      const place = /^invalid: the body is not JSON: .*, at byte (\d+)/.exec(outcome)?.[1]
      if (data === '[1,x]') assert.equal(Number(place), body.indexOf('x]'))
      if (data === '[1 2]') assert.equal(Number(place), body.indexOf('2]'))
    }
  }
})

test('several inputs come in any order, held or not, and are given in the order of the contract', () => {
  const types = ['INT64', 'BYTES', 'BOOL'] as const
  const inputs = types.map((datatype) => ({ name: datatype.toLowerCase(), datatype, shape: ['n', 2] }))
  const expected = types.map((datatype) => valuesOf(datatype, elements[datatype].slice(0, 4)))
  for (const [i, order] of [...orders(types)].entries()) {
    const parts = order.map((datatype, at) => {
      const head = `"name":"${datatype.toLowerCase()}","datatype":"${datatype}","shape":[2,2]`
      const data = `"data":[${elements[datatype].slice(0, 4).join()}]`
      return `{${(at + i) % 2 === 0 ? `${data},${head}` : `${head},${data}`}}`
    })
    const body = Buffer.from(`{"inputs":[${parts.join()}]}`)
    assert.deepStrictEqual(valuesIn(cutAnywhere(body, { inputs, outputs: inputs })), expected)
  }
})

const withJson = (json: Partial<DecodeOptions['json']>): Cutting => {
  return { options: { ...decodeOptions, json: { ...decodeOptions.json, ...json } } }
}

test('JSON may nest as deep and hold as many keys and values as the limits say, tensor data aside', () => {
  const odd = (value: string) =>
    Buffer.from(`{"odd":${value},${bodyOf('FP32', [2, 1], '[[1],[2]]').toString().slice(1)}`)
  const contract = contractOf('FP32', named(2))
  taken(cutAnywhere(odd('[[[{}]]]'), contract, withJson({ maxDepth: 5 })))
  assert.match(
    cutAnywhere(odd('[[[{}]]]'), contract, withJson({ maxDepth: 4 })) as string,
    /^invalid: .*: it nests deeper than 4, at byte 10$/,
  )
  // 3 for `odd` and what is in it, 1 for the root, 2 for `inputs`, 1 for its element, and 4 keys with 6 values.
  taken(cutAnywhere(odd('[7]'), contract, withJson({ maxValues: 17 })))
  assert.match(
    cutAnywhere(odd('[7]'), contract, withJson({ maxValues: 16 })) as string,
    /^invalid: .*: it holds more than 16 keys and values outside of tensor data, at byte \d+$/,
  )
})

test('tensors have as many rows, elements and dimensions as the limits say, in JSON, binary and the raw form', () => {
  const limited = (most: Partial<DecodeOptions['tensors']>) => ({
    ...decodeOptions,
    tensors: { ...decodeOptions.tensors, ...most },
  })
  const attempt = (datatype: Datatype, shape: number[], most: Partial<DecodeOptions['tensors']>) => {
    const count = elementCount(shape)
    const contract = contractOf(datatype, named(shape.length))
    const options = limited(most)
    const data = `[${Array.from({ length: count }, () => (datatype === 'BYTES' ? '""' : '1')).join()}]`
    const json = Buffer.from(JSON.stringify({ inputs: [binaryTensor('x', datatype, shape, 4 * count)] }))
    const outcomes = [
      cutAnywhere(bodyOf(datatype, shape, data), contract, { options }),
      cutAnywhere(bodyOf(datatype, shape, data, true), contract, { options }),
      cutAnywhere(Buffer.concat([json, Buffer.alloc(4 * count)]), contract, { options, jsonBytes: json.length }),
    ]
    return outcomes.map((outcome) => (typeof outcome === 'string' ? outcome : 'taken'))
  }
  const thrice = (outcome: string) => [outcome, outcome, outcome]
  assert.deepEqual(attempt('FP32', [3, 2], { maxRows: 3, maxElements: 6, maxRank: 2, maxStrings: 1 }), thrice('taken'))
  assert.deepEqual(attempt('BYTES', [3, 2], { maxStrings: 6, maxElements: 1 }), thrice('taken'))
  const excess = 'too_large: input "x" has shape [3, 2]: '
  assert.deepEqual(
    attempt('FP32', [3, 2], { maxRows: 2 }),
    thrice(`${excess}2 rows are the most, send several requests`),
  )
  assert.deepEqual(attempt('FP32', [3, 2], { maxElements: 5 }), thrice(`${excess}5 elements are the most`))
  assert.deepEqual(attempt('BYTES', [3, 2], { maxStrings: 5 }), thrice(`${excess}5 elements are the most`))
  const rank = 'too_large: input "x" has 2 dimensions; 1 are the most'
  assert.deepEqual(attempt('FP32', [3, 2], { maxRank: 1 }), thrice(rank))
  const raw = (count: number) =>
    outcomeOf(Buffer.alloc(count), contractOf('UINT8', ['n', 'w']), {
      jsonBytes: 0,
      options: limited({ maxElements: 9 }),
    })
  assert.equal(taken(raw(9)).inputs[0]!.shape[1], 9)
  assert.equal(raw(10), 'too_large: input "x" has shape [1, 10]: 9 elements are the most')
})

test('a number has 2,048 characters at most, in tensor data of every datatype and anywhere else', () => {
  const long = (length: number) => `1.${'0'.repeat(length - 2)}`
  const tooLong =
    /^invalid: the body is not JSON as it is taken here: a number has more than 2048 characters, at byte \d+/
  for (const datatype of inJson) {
    for (const isHeld of datatype === 'FP32' ? [false, true] : [false]) {
      const most = cutAnywhere(bodyOf(datatype, [1], `[${long(2048)}]`, isHeld), contractOf(datatype))
      const isNumber = datatype !== 'BOOL' && datatype !== 'BYTES'
      if (isNumber) assert.deepStrictEqual(valuesIn(most), [valuesOf(datatype, ['1.0'])])
      else assert.match(most as string, /element 0 is n/)
      assert.match(
        cutAnywhere(bodyOf(datatype, [1], `[${long(2049)}]`, isHeld), contractOf(datatype)) as string,
        tooLong,
      )
    }
  }
  const odd = (length: number) => Buffer.from(`{"odd":${long(length)},"inputs":[]}`)
  assert.match(cutAnywhere(odd(2048), contractOf('FP32')) as string, /"x" is missing/)
  assert.match(cutAnywhere(odd(2049), contractOf('FP32')) as string, tooLong)
})
