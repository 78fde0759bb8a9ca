/** Models that give back what they get, and requests for them that hold a number each. */
import { identity, onnx } from '../../test/support/onnx.ts'
import type { HttpRequest } from './requests.ts'

const width = 64
const digits = 8
/** About a millisecond of it. */
const work = 1_536
const base = 16

/** Gives back its numbers. */
export const numbersModel = identity('FP32', ['n', width])
/** Gives back its numbers after some work, so that deaths find it at work: it adds what is always zero. */
export const workingModel = onnx({
  inputs: [{ name: 'x', type: 'FP32', shape: ['n', width] }],
  outputs: [{ name: 'y', type: 'FP32', shape: ['n', width] }],
  constants: [
    { name: 'first', type: 'INT64', shape: [2], data: [width, work] },
    { name: 'second', type: 'INT64', shape: [2], data: [work, work] },
  ],
  nodes: [
    { op: 'ConstantOfShape', inputs: ['first'], outputs: ['zeros'] },
    { op: 'ConstantOfShape', inputs: ['second'], outputs: ['more'] },
    { op: 'MatMul', inputs: ['x', 'zeros'], outputs: ['wide'] },
    { op: 'MatMul', inputs: ['wide', 'more'], outputs: ['worked'] },
    { op: 'ReduceMax', inputs: ['worked'], outputs: ['zero'], attributes: { axes: [1], keepdims: 1 } },
    { op: 'Add', inputs: ['x', 'zero'], outputs: ['y'] },
  ],
})
/** Gives back its words. */
export const wordsModel = identity('BYTES', ['n'])
/** Takes words, and tells how many there are. */
export const countModel = onnx({
  inputs: [{ name: 'x', type: 'BYTES', shape: ['n'] }],
  outputs: [{ name: 'y', type: 'INT64', shape: [1] }],
  nodes: [{ op: 'Shape', inputs: ['x'], outputs: ['y'] }],
})
/** Looks digits up in a table, and fails on one that is not there. */
export const lookupModel = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', digits] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['n', digits] }],
  nodes: [{ op: 'Gather', inputs: ['table', 'x'], outputs: ['y'] }],
  constants: [
    { name: 'table', type: 'INT64', shape: [base], data: Array.from({ length: base }, (_, i) => lookedUp(i)) },
  ],
})

export interface Asked {
  readonly model: string
  readonly what: 'numbers' | 'words' | 'lookup'
  readonly rows: number
}

export interface Numbered {
  readonly request: HttpRequest
  /** The binary part of the answer. */
  readonly expected: Uint8Array
}

export function numberedRequest({ model, what, rows }: Asked, number: number): Numbered {
  if (what === 'numbers') {
    // Whole numbers up to 2 ** 24 are exact.
    const data = bytesOf(Float32Array.from({ length: rows * width }, (_, i) => (i % width === 0 ? number : i)))
    return { request: requestOf(model, number, { datatype: 'FP32', shape: [rows, width], data }), expected: data }
  }
  if (what === 'words') {
    const data = wordsOf(Array.from({ length: rows }, (_, row) => `row ${row} of request ${number}`))
    return { request: requestOf(model, number, { datatype: 'BYTES', shape: [rows], data }), expected: data }
  }
  const spelt = Array.from({ length: rows * digits }, (_, i) => Math.floor((number + i) / base ** (i % digits)) % base)
  return {
    request: requestOf(model, number, { datatype: 'INT64', shape: [rows, digits], data: integers(spelt) }),
    expected: integers(spelt.map(lookedUp)),
  }
}

/** No table has its digits. */
export function impossibleRequest(model: string): HttpRequest {
  const data = integers(Array.from({ length: digits }, () => base + 1))
  return requestOf(model, 0, { datatype: 'INT64', shape: [1, digits], data })
}

/** So many words of so many bytes each. */
export function hugeRequest(model: string, words: number, bytes: number): HttpRequest {
  const data = wordsOf(Array.from({ length: words }, (_, i) => `${i}`.padEnd(bytes)))
  return requestOf(model, 0, { datatype: 'BYTES', shape: [words], data })
}

interface Input {
  readonly datatype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

function requestOf(model: string, number: number, { data, ...input }: Input): HttpRequest {
  const json = JSON.stringify({
    id: String(number),
    parameters: { binary_data_output: true },
    inputs: [{ name: 'x', ...input, parameters: { binary_data_size: data.byteLength } }],
  })
  const headers = {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(Buffer.byteLength(json)),
  }
  return { path: `/v2/models/${model}/infer`, headers, body: Buffer.concat([Buffer.from(json), data]) }
}

function lookedUp(digit: number): number {
  return 1_000_003 * (digit + 1) ** 3
}

/** As they travel: each behind its length. */
function wordsOf(words: readonly string[]): Uint8Array {
  const parts = words.flatMap((word) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(Buffer.byteLength(word))
    return [length, Buffer.from(word)]
  })
  return Buffer.concat(parts)
}

function integers(values: readonly number[]): Uint8Array {
  return bytesOf(BigInt64Array.from(values, BigInt))
}

function bytesOf({ buffer }: Float32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(buffer)
}
