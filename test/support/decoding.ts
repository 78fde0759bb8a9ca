/** Bodies decoded as the edge does it, in one piece or in many. */
import assert from 'node:assert/strict'
import { Arena, Lease } from '../../src/core/arena.ts'
import type { InferRequest, WantedOutput } from '../../src/core/call.ts'
import { numerics, type Datatype, type NumericArray } from '../../src/core/datatype.ts'
import { isRefusal, type Refusal } from '../../src/core/refusal.ts'
import type { Dim, Signature } from '../../src/core/signature.ts'
import { isStrings, stringAt, stringCount, type TensorData } from '../../src/core/tensor.ts'
import type { DecodeOptions } from '../../src/edge/codecs/decoder.ts'
import { RawDecoder } from '../../src/edge/codecs/raw.ts'
import { RequestDecoder } from '../../src/edge/codecs/request.ts'
import { Scanner } from '../../src/edge/codecs/scanner.ts'
import { Window } from '../../src/edge/codecs/window.ts'

const arena = new Arena(2 ** 30)

export const decodeOptions: DecodeOptions = {
  json: { maxDepth: 32, maxValues: 10_000 },
  tensors: { maxRows: 1_024, maxElements: 2 ** 22, maxStrings: 2 ** 18, maxRank: 8 },
  nonFinite: false,
}

export interface Cutting {
  /** How many bytes of the body are JSON, if binary tensors follow. */
  readonly jsonBytes?: number
  /** Where the body is cut, in rising order. */
  readonly cuts?: readonly number[]
  readonly options?: DecodeOptions
  /** Whether only the end of the body tells how long it is. */
  readonly isChunked?: boolean
}

/** What a body comes to. Its memory is given back at once: read the tensors before the next call. */
export function decode(body: Buffer, contract: Signature, cutting: Cutting = {}): InferRequest | Refusal {
  const { jsonBytes, cuts = [], options = decodeOptions } = cutting
  const lease = new Lease(arena)
  const decoder = new RequestDecoder({ jsonBytes, length: body.length, options, lease }, contract)
  try {
    for (const piece of pieces(body, cuts)) {
      const refusal = decoder.write(piece)
      if (refusal) return refusal
    }
    for (;;) {
      const request = decoder.end()
      if (request) return request
    }
  } finally {
    lease.release()
  }
}

/** Its memory is spoilt before it is lent and once it is given back, and it knows how much was lent at most. */
export class SpoilingArena extends Arena {
  mostHeldBytes = 0

  override take(bytes: number): ArrayBuffer | undefined {
    const buffer = super.take(bytes)
    if (buffer) new Uint8Array(buffer).fill(0xa5)
    this.mostHeldBytes = Math.max(this.mostHeldBytes, this.heldBytes)
    return buffer
  }

  override giveBack(buffer: ArrayBuffer): void {
    new Uint8Array(buffer).fill(0x5a)
    super.giveBack(buffer)
  }
}

/** A request or a refusal, copied out of the memory that it lay in. */
export type Outcome = string | DecodedRequest

export interface DecodedRequest {
  readonly id: string | undefined
  readonly rows: number
  readonly key: string
  readonly wanted: readonly WantedOutput[]
  readonly inputs: readonly DecodedInput[]
}

export interface DecodedInput {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
  readonly values: NumericArray | string[]
}

/** Decodes a body piece by piece, and lets others have their turn behind each. */
export function* decoding(
  body: Buffer,
  contract: Signature,
  { jsonBytes, cuts = [], options = decodeOptions, isChunked = false }: Cutting,
  memory: Arena,
): Generator<undefined, Outcome> {
  const lease = new Lease(memory)
  const plan = { jsonBytes, length: isChunked ? undefined : body.length, options, lease }
  const decoder = jsonBytes === 0 ? new RawDecoder(plan, contract) : new RequestDecoder(plan, contract)
  let outcome: InferRequest | Refusal | undefined
  for (const piece of pieces(body, cuts)) {
    outcome = decoder.write(piece)
    if (outcome) break
    yield
  }
  while (!(outcome ??= decoder.end())) yield
  const copied = copyOf(outcome)
  lease.release()
  return copied
}

/** What a body comes to, and the most memory that it held meanwhile. */
export function measure(body: Buffer, contract: Signature, cutting: Cutting = {}) {
  const memory = new SpoilingArena(2 ** 30)
  const steps = decoding(body, contract, cutting, memory)
  let step = steps.next()
  while (!step.done) step = steps.next()
  assert.equal(memory.heldBytes, 0, 'all memory is given back')
  return { outcome: step.value, mostHeldBytes: memory.mostHeldBytes }
}

export function outcomeOf(body: Buffer, contract: Signature, cutting: Cutting = {}): Outcome {
  return measure(body, contract, cutting).outcome
}

function copyOf(outcome: InferRequest | Refusal): Outcome {
  if (isRefusal(outcome)) return `${outcome.code}: ${outcome.message}`
  const inputs = outcome.inputs.map(({ data, ...rest }) => ({ ...rest, values: valuesFrom(data) }))
  return { ...outcome, inputs }
}

function valuesFrom(data: TensorData): NumericArray | string[] {
  if (!isStrings(data)) return data.slice()
  return Array.from({ length: stringCount(data) }, (_, i) => Buffer.from(stringAt(data, i)).toString())
}

/** A document's value, tensor data kept as the values that it holds; or the refusal. */
export function scan(body: Buffer, cuts: readonly number[] = []): { readonly value: unknown } | Refusal {
  const lease = new Lease(arena)
  const window = new Window(lease)
  const scanner = new Scanner(window, decodeOptions.json, {
    openData: () => {
      throw new Error('no tensor was expected here')
    },
    hold: (bytes) => lease.hold(bytes),
  })
  for (const piece of pieces(body, cuts)) {
    window.push(piece)
    const progress = scanner.scan()
    if (typeof progress !== 'string') return progress
    window.keep()
  }
  window.closed = true
  const progress = scanner.scan()
  lease.release()
  return typeof progress === 'string' ? { value: scanner.value } : progress
}

/** Each piece in memory of its own that is spoilt once the next one comes, as a connection's may be. */
function* pieces(body: Buffer, cuts: readonly number[]): Generator<Buffer> {
  let from = 0
  for (const to of [...cuts, body.length]) {
    const piece = Buffer.from(body.subarray(from, to))
    yield piece
    piece.fill(0xff)
    from = to
  }
}

/** Elements of each datatype that JSON can carry, as it writes them: its ends, and odd forms of others. */
export const elements: Readonly<Record<Exclude<Datatype, 'FP16'>, readonly string[]>> = {
  BOOL: ['true', 'false', 'false', 'true', 'true', 'true', 'false', 'true'],
  UINT8: ['0', '255', '7', '1e2', '10', '3.0', '254', '99'],
  UINT16: ['0', '65535', '7', '1e2', '10', '3.0', '254', '99'],
  UINT32: ['0', '4294967295', '7', '1e2', '1234567890', '3.0', '254', '99'],
  UINT64: ['0', '18446744073709551615', '9007199254740993', '1e2', '10', '3.0', '254', '99'],
  INT8: ['0', '-128', '127', '1e2', '-0', '3.0', '-1', '99'],
  INT16: ['0', '-32768', '32767', '1e2', '-0', '3.0', '-1', '99'],
  INT32: ['0', '-2147483648', '2147483647', '1e2', '-0', '3.0', '-1', '99'],
  INT64: ['0', '-9223372036854775808', '9223372036854775807', '1e2', '-0', '3.0', '-1', '9007199254740993'],
  FP32: ['0', '-0.0', '0.1', '3.4028235e38', '1e-45', '-7.25', '16777217', '0.333333333333333333333333'],
  FP64: ['0', '-0.0', '0.1', '1.7976931348623157e308', '5e-324', '-7.25', '16777217', '0.333333333333333333333333'],
  BYTES: ['""', '"a"', '"grüße 😀"', '"\\ud83d\\ude00\\n"', '"\\""', '"],["', '"1"', '"null"'],
}
export const inJson = Object.keys(elements) as (keyof typeof elements)[]

function valueOf(datatype: Datatype, text: string): number | bigint | string {
  if (datatype === 'BYTES') return JSON.parse(text) as string
  if (datatype === 'BOOL') return Number(text === 'true')
  if (!datatype.endsWith('64') || datatype === 'FP64') return Number(text)
  return /^-?\d+$/.test(text) ? BigInt(text) : BigInt(Number(text))
}

/** What elements come to by `JSON.parse` and a store into the array. */
export function valuesOf(datatype: Datatype, texts: readonly string[]): NumericArray | string[] {
  const values = texts.map((text) => valueOf(datatype, text))
  if (datatype === 'BYTES') return values as string[]
  const data = new numerics[datatype].array(values.length)
  for (const [i, value] of values.entries()) data[i] = value as number
  return data
}

/** Of a model with one input, `x`. */
export function contractOf(datatype: Datatype, shape: readonly Dim[] = ['n']): Signature {
  return { inputs: [{ name: 'x', datatype, shape }], outputs: [{ name: 'y', datatype: 'FP32', shape }] }
}

export const named = (rank: number): Dim[] => ['n', 'h', 'w', 'c'].slice(0, rank)

/** A request with one input, whose data comes before its name, datatype and shape if it is to be held. */
export function bodyOf(datatype: Datatype, shape: readonly number[], data: string, isHeld = false): Buffer {
  const head = `"name":"x","datatype":"${datatype}","shape":${JSON.stringify(shape)}`
  return Buffer.from(`{"inputs":[{${isHeld ? `"data":${data},${head}` : `${head},"data":${data}`}}]}`)
}

/**
 * What a body comes to, whole; and it must come to that in two pieces, wherever they meet, and byte by byte. The middle of
 * a long one is the same for a while, so not every place in it is tried.
 */
export function cutAnywhere(body: Buffer, contract: Signature, cutting: Cutting = {}): Outcome {
  const whole = outcomeOf(body, contract, cutting)
  const places = Array.from({ length: body.length - 1 }, (_, i) => i + 1)
  const isDull = (at: number) => at > 150 && at < body.length - 150 && at % 17 > 0
  for (const at of places)
    if (!isDull(at)) assert.deepStrictEqual(outcomeOf(body, contract, { ...cutting, cuts: [at] }), whole)
  assert.deepStrictEqual(outcomeOf(body, contract, { ...cutting, cuts: places }), whole)
  return whole
}

export function taken(outcome: Outcome): DecodedRequest {
  if (typeof outcome === 'string') assert.fail(outcome)
  return outcome
}

export const valuesIn = (outcome: Outcome) => taken(outcome).inputs.map(({ values }) => values)
