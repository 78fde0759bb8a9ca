/** The memory that bodies hold while they are read: in proportion to what has come, and nobody else's meanwhile. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { numerics } from '../src/core/datatype.ts'
import type { Signature } from '../src/core/signature.ts'
import { binaryTensor, byteStrings, bytesOf } from './support/client.ts'
import {
  bodyOf,
  contractOf,
  decoding,
  elements,
  inJson,
  measure,
  named,
  outcomeOf,
  SpoilingArena,
  valuesIn,
  valuesOf,
  type Cutting,
  type Outcome,
} from './support/decoding.ts'
import { drawFrom } from './support/draw.ts'

/** Where something is cut into pieces of so many bytes. */
function every(bytes: number, { length }: Buffer): number[] {
  return Array.from({ length: Math.ceil(length / bytes) - 1 }, (_, i) => (i + 1) * bytes)
}

/** Never may a body hold more than a small multiple of what has come of it. Says what it holds when all has come, too. */
function holdsLittle(body: Buffer, contract: Signature, cutting: Cutting = {}) {
  const memory = new SpoilingArena(2 ** 28)
  const steps = decoding(body, contract, cutting, memory)
  const ends = [...(cutting.cuts ?? []), body.length]
  const shown = body.toString('latin1', 0, 100)
  let heldAtEnd = 0
  for (let i = 0; ; i++) {
    const step = steps.next()
    const received = ends[i] ?? body.length
    const most = memory.mostHeldBytes
    assert.ok(most <= 32 * received + 32_768, `${most} bytes are held when ${received} have come: ${shown}`)
    if (step.done) return { outcome: step.value, heldAtEnd }
    heldAtEnd = memory.heldBytes
  }
}

test('elements take memory in proportion to the bytes that they came in, and in the end their own', () => {
  const element = { INT64: '9', FP32: '0.123', UINT8: '7', BYTES: '"abc"' } as const
  for (const [datatype, text] of Object.entries(element) as [keyof typeof element, string][]) {
    for (const isHeld of [false, true]) {
      for (let rows = 1; rows <= 512; rows *= 8) {
        const count = rows * 257
        const texts = Array.from({ length: count }, (_, i) => (i % 3 === 0 ? text : text.replace(/[379]|abc/, '1')))
        const body = bodyOf(datatype, [rows, 257], `[${texts.join()}]`, isHeld)
        const expected = valuesOf(datatype, texts)
        for (const bytes of [1_500, 16_384, 65_536]) {
          const { outcome, heldAtEnd } = holdsLittle(body, contractOf(datatype, named(2)), { cuts: every(bytes, body) })
          assert.deepStrictEqual(valuesIn(outcome), [expected])
          const own = datatype === 'BYTES' ? 7 * count : numerics[datatype].bytes * count
          // Beside them only what they have grown from, and the newest piece if it came behind half an element.
          assert.ok(
            isHeld || heldAtEnd <= 4 * own + 2 * bytes + 16_384,
            `${heldAtEnd} bytes for ${count} of ${datatype}`,
          )
        }
      }
    }
  }
})

test('a shape that promises much and sends little holds little', () => {
  for (const datatype of inJson) {
    const contract = contractOf(datatype, named(2))
    const shape = datatype === 'BYTES' ? [1_024, 256] : [1_024, 4_096]
    for (const data of ['[', '[[', `[${elements[datatype].join()}`, '[]', `[${elements[datatype].join()}]`])
      assert.equal(typeof holdsLittle(bodyOf(datatype, shape, data), contract).outcome, 'string')
    const json = Buffer.from(JSON.stringify({ inputs: [binaryTensor('x', datatype, shape, 2 ** 40)] }))
    const body = Buffer.concat([json, Buffer.alloc(100)])
    assert.equal(typeof holdsLittle(body, contract, { jsonBytes: json.length, isChunked: true }).outcome, 'string')
  }
})

test('more inputs than the model has hold no more than those that it has', () => {
  const contract = contractOf('BYTES')
  const again = '{"name":"x","datatype":"BYTES","shape":[1],"data":[""]}'
  for (const input of [again, '{"data":[]}', '{"data":[],"name":"x"}']) {
    const body = Buffer.from(`{"inputs":[${Array(900).fill(input).join()}]}`)
    assert.equal(typeof holdsLittle(body, contract, { cuts: every(5_000, body) }).outcome, 'string')
  }
})

test('a word without end in tensor data is refused before much of it is kept', () => {
  for (const datatype of inJson) {
    for (const word of ['x', '1', 'true', '-', 'NaN']) {
      const body = bodyOf(datatype, [2], `[${word.repeat(2 ** 18 / word.length)}`)
      const { outcome, mostHeldBytes } = measure(body, contractOf(datatype), { cuts: every(1_024, body) })
      assert.equal(typeof outcome, 'string')
      assert.ok(mostHeldBytes <= 32_768, `${datatype}: ${mostHeldBytes} bytes are held for ${word}...`)
    }
  }
})

const several: Signature = {
  inputs: [
    { name: 'a', datatype: 'BYTES', shape: ['n'] },
    { name: 'b', datatype: 'FP64', shape: ['n'] },
    { name: 'c', datatype: 'UINT8', shape: ['n'] },
  ],
  outputs: [{ name: 'y', datatype: 'FP32', shape: ['n'] }],
}

interface Sample {
  readonly body: Buffer
  readonly cutting: Cutting
}

/** A request whose inputs come in every way there is, cut at random; some are broken. */
function sample(draw: (below: number) => number): Sample {
  const count = 1 + draw(draw(4) === 0 ? 1_000 : 20)
  const words = Array.from({ length: count }, () => 'ü'.repeat(draw(30)) + String(draw(1e9)))
  const doubles = Float64Array.from(words, () => draw(2 ** 31) / 3)
  const smalls = Uint8Array.from(words, () => draw(256))
  const wires = { a: byteStrings(...words), b: bytesOf(doubles), c: bytesOf(smalls) }
  const tails: Buffer[] = []
  const inputs = (['a', 'b', 'c'] as const).map((name) => {
    const { datatype } = several.inputs.find((spec) => spec.name === name)!
    const data = name === 'a' ? words : [...(name === 'b' ? doubles : smalls)]
    const way = draw(3)
    if (way === 0) return { name, datatype, shape: [count], data }
    if (way === 1) return { data, name, shape: [count], datatype }
    tails.push(wires[name])
    return binaryTensor(name, datatype, [count], wires[name].length)
  })
  const json = Buffer.from(JSON.stringify({ id: words.join(), inputs }))
  const body = Buffer.concat([json, ...tails])
  if (draw(4) === 0) body[draw(body.length)]! ^= 1 << draw(8)
  const cuts = Array.from({ length: draw(12) }, () => 1 + draw(body.length - 1)).toSorted((a, b) => a - b)
  return { body, cutting: { cuts: [...new Set(cuts)], jsonBytes: json.length, isChunked: draw(2) === 0 } }
}

test('requests that are read at once from the same memory do not mix, whoever gives theirs back meanwhile', () => {
  const draw = drawFrom(20_261_124)
  const memory = new SpoilingArena(2 ** 26)
  const open: { steps: Generator<undefined, Outcome>; expected: Outcome }[] = []
  let takenRequests = 0
  for (let i = 0; i < 2_000 || open.length > 0;) {
    if (open.length < 8 && i < 2_000) {
      const { body, cutting } = sample(draw)
      const expected = outcomeOf(body, several, { ...cutting, cuts: [] })
      if (typeof expected !== 'string') takenRequests++
      open.push({ steps: decoding(body, several, cutting, memory), expected })
      i++
      continue
    }
    const at = draw(open.length)
    const { steps, expected } = open[at]!
    const step = steps.next()
    if (!step.done) continue
    assert.deepStrictEqual(step.value, expected)
    open.splice(at, 1)
  }
  assert.equal(memory.heldBytes, 0)
  assert.ok(takenRequests > 600, `${takenRequests} were taken`)
})

test('a body for which there is no memory is refused as such at any place, and gives back what it had', () => {
  const draw = drawFrom(5)
  let refused = 0
  for (let i = 0; i < 150; i++) {
    const { body, cutting } = sample(draw)
    const { outcome: expected, mostHeldBytes } = measure(body, several, cutting)
    for (let bytes = 0; bytes < mostHeldBytes; bytes += Math.ceil(mostHeldBytes / 20)) {
      const memory = new SpoilingArena(bytes)
      const steps = decoding(body, several, cutting, memory)
      let step = steps.next()
      while (!step.done) step = steps.next()
      assert.equal(memory.heldBytes, 0)
      if (step.value === 'overloaded: too many large bodies are being read; try again later') refused++
      else assert.deepStrictEqual(step.value, expected)
    }
  }
  assert.ok(refused > 500, `${refused} were refused`)
})
