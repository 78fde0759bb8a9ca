/**
 * What a body must come to, by JSON.parse and the plainest code there is: the judge of the decoder. It knows no pieces,
 * no places and no words for what is wrong.
 */
import { isUtf8 } from 'node:buffer'
import type { WantedOutput } from '../../src/core/call.ts'
import { numerics, type Datatype, type NumericArray, type NumericDatatype } from '../../src/core/datatype.ts'
import { hasRowAxis, type Signature, type TensorSpec } from '../../src/core/signature.ts'
import type { DecodeOptions } from '../../src/edge/codecs/decoder.ts'
import type { DecodedInput, DecodedRequest } from './decoding.ts'

export interface Question {
  readonly body: Buffer
  readonly contract: Signature
  readonly jsonBytes: number | undefined
  readonly options: DecodeOptions
}

/** All but the key, which is for batches. */
type Expected = Omit<DecodedRequest, 'key'>

/**
 * Begins strings that stand for what JSON.parse does not keep: numbers as they are written, and NaN and infinities. No
 * case has it elsewhere.
 */
const mark = '\u26a1'
const numberMark = `${mark}#`
const longestNumber = 2_048

/** What the request is; undefined if it must be refused. */
export function judge(question: Question): Expected | undefined {
  const { body, jsonBytes, options } = question
  if (jsonBytes === 0) return judgeRaw(question)
  if (jsonBytes !== undefined && jsonBytes > body.length) return undefined
  const json = body.subarray(0, jsonBytes)
  if (!isUtf8(json)) return undefined
  const parsed = parse(json.toString(), options.nonFinite)
  if (parsed === undefined || hasKeyTwice(json.toString())) return undefined
  const tensors = dataOf(parsed)
  const { maxDepth, maxValues } = options.json
  if (!(weigh(parsed, maxDepth, tensors) <= maxValues)) return undefined
  const request = plain(parsed, tensors)
  return isObject(request) ? readRequest(request, body.subarray(json.length), question) : undefined
}

/** JSON with its numbers and bare words as marked strings; undefined if it is none. */
function parse(text: string, nonFinite: boolean): unknown {
  const words = /"(?:[^"\\]|\\[^])*"?|-?Infinity|NaN/g
  const marked = nonFinite ? text.replace(words, (word) => (word.startsWith('"') ? word : `"${mark}${word}"`)) : text
  try {
    JSON.parse(marked)
  } catch {
    return undefined
  }
  const numbers = /"(?:[^"\\]|\\[^])*"|-?\d[\d.eE+-]*/g
  const all = marked.replace(numbers, (token) => (token.startsWith('"') ? token : `"${numberMark}${token}"`))
  return JSON.parse(all)
}

/** How a number is written; undefined if it is none. */
function digitsOf(value: unknown): string | undefined {
  return typeof value === 'string' && value.startsWith(numberMark) ? value.slice(numberMark.length) : undefined
}

function hasKeyTwice(text: string): boolean {
  const open: (Set<string> | undefined)[] = []
  for (const [token, string] of text.matchAll(/("(?:[^"\\]|\\[^])*")\s*:|"(?:[^"\\]|\\[^])*"|[{}[\]]/g)) {
    if (string !== undefined) {
      const key = JSON.parse(string) as string
      if (open.at(-1)!.has(key)) return true
      open.at(-1)!.add(key)
    } else if (token === '{' || token === '[') open.push(token === '{' ? new Set() : undefined)
    else if (token === '}' || token === ']') open.pop()
  }
  return false
}

type Json = Readonly<Record<string, unknown>>

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The lists that are tensor data and count as one value. */
function dataOf(parsed: unknown): ReadonlySet<unknown> {
  const inputs = isObject(parsed) ? parsed['inputs'] : undefined
  const list = Array.isArray(inputs) ? (inputs as unknown[]) : []
  return new Set(
    list
      .filter(isObject)
      .map(({ data }) => data)
      .filter(Array.isArray),
  )
}

/** Keys and values; infinitely many if something is not taken at all. */
function weigh(value: unknown, depth: number, tensors: ReadonlySet<unknown>): number {
  const digits = digitsOf(value)
  if (digits !== undefined) return digits.length > longestNumber ? Infinity : 1
  if (typeof value === 'string') return value.startsWith(mark) ? Infinity : 1
  if (typeof value !== 'object' || value === null || tensors.has(value)) return 1
  if (depth === 0) return Infinity
  let weight = 1
  if (Array.isArray(value)) for (const each of value as unknown[]) weight += weigh(each, depth - 1, tensors)
  else {
    for (const [key, each] of Object.entries(value)) {
      if (key === '__proto__' || key.startsWith(mark)) return Infinity
      weight += 1 + weigh(each, depth - 1, tensors)
    }
  }
  return weight
}

function plain(value: unknown, tensors: ReadonlySet<unknown>): unknown {
  const digits = digitsOf(value)
  if (digits !== undefined) return Number(digits)
  if (typeof value !== 'object' || value === null || tensors.has(value)) return value
  if (Array.isArray(value)) return value.map((each) => plain(each, tensors))
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each, tensors)]))
}

function readRequest(request: Json, tail: Buffer, question: Question): Expected | undefined {
  const { id, parameters = {}, inputs } = request
  if ((id !== undefined && typeof id !== 'string') || !isObject(parameters) || !Array.isArray(inputs)) return undefined
  if (parameters['sequence_id'] || parameters['sequence_start'] || parameters['sequence_end']) return undefined
  if (Object.keys(parameters).some((key) => key.startsWith('triton_'))) return undefined
  const found: DecodedInput[] = []
  let from = 0
  for (const input of inputs as unknown[]) {
    if (!isObject(input)) return undefined
    const { size } = sizeOf(input) ?? { size: NaN }
    if (Number.isNaN(size)) return undefined
    const one = readInput(input, size === undefined ? undefined : tail.subarray(from, from + size), question)
    if (!one || found.some(({ name }) => name === one.name)) return undefined
    if (size !== undefined && from + size > tail.length) return undefined
    from += size ?? 0
    found.push(one)
  }
  const wanted = readWanted(request['outputs'], parameters['binary_data_output'], question.contract)
  if (from < tail.length || !wanted) return undefined
  return together(found, { id, wanted }, question)
}

/** How many bytes an input has behind the JSON, if that is where it is. */
function sizeOf({ parameters = {}, data }: Json): { size: number | undefined } | undefined {
  if (!isObject(parameters) || parameters['shared_memory_region'] !== undefined) return undefined
  const size = parameters['binary_data_size']
  if (size === undefined) return data === undefined ? undefined : { size: undefined }
  return data === undefined && Number.isSafeInteger(size) && (size as number) >= 0
    ? { size: size as number }
    : undefined
}

function readInput(input: Json, wire: Buffer | undefined, question: Question): DecodedInput | undefined {
  const { contract, options } = question
  const spec = contract.inputs.find(({ name }) => name === input['name'])
  const { shape } = input
  if (!spec || input['datatype'] !== spec.datatype || !isShape(shape) || !isAllowed(spec, shape, question))
    return undefined
  const { name, datatype } = spec
  const count = product(shape)
  if (wire) {
    const values = datatype === 'BYTES' ? readStrings(wire, count) : readWire(datatype, wire, count)
    return values && { name, datatype, shape, values }
  }
  const leaves = Array.isArray(input['data']) ? flatten(input['data'], shape) : undefined
  const values = leaves && datatype !== 'FP16' ? store(datatype, leaves, options.nonFinite) : undefined
  return values && { name, datatype, shape, values }
}

function isShape(shape: unknown): shape is number[] {
  return Array.isArray(shape) && shape.every((dim) => Number.isSafeInteger(dim) && dim >= 1)
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

function isAllowed(
  { datatype, shape: dims }: TensorSpec,
  shape: readonly number[],
  { contract, options }: Question,
): boolean {
  const { maxRank, maxRows, maxElements, maxStrings } = options.tensors
  if (shape.length > maxRank || shape.length !== dims.length) return false
  if (dims.some((dim, axis) => typeof dim === 'number' && dim !== shape[axis])) return false
  if (hasRowAxis(contract) && shape[0]! > maxRows) return false
  return product(shape) <= (datatype === 'BYTES' ? maxStrings : maxElements)
}

/** The elements of data that is flat, or nested just as the shape says. */
function flatten(data: readonly unknown[], shape: readonly number[]): unknown[] | undefined {
  if (!data.some(Array.isArray)) return data.length === product(shape) ? [...data] : undefined
  const [size, ...rest] = shape
  if (shape.length < 2 || data.length !== size) return undefined
  const lists = data.map((each) => {
    if (!Array.isArray(each) || (rest.length > 1 && !each.every(Array.isArray))) return undefined
    return flatten(each, rest)
  })
  return lists.every((list) => list !== undefined) ? lists.flat() : undefined
}

function store(
  datatype: Datatype,
  leaves: readonly unknown[],
  nonFinite: boolean,
): NumericArray | string[] | undefined {
  if (datatype === 'BYTES') return leaves.every(isText) ? (leaves as string[]) : undefined
  const { array } = numerics[datatype]
  const data = new array(leaves.length)
  for (const [i, leaf] of leaves.entries()) {
    const value = datatype === 'BOOL' ? bitOf(leaf) : numberOf(datatype, leaf, nonFinite)
    if (value === undefined) return undefined
    data[i] = value
    if (datatype === 'FP32' && digitsOf(leaf) !== undefined && !Number.isFinite(data[i])) return undefined
  }
  return data
}

function isText(leaf: unknown): boolean {
  return typeof leaf === 'string' && leaf.isWellFormed() && !leaf.includes('\0') && !leaf.startsWith(mark)
}

function bitOf(leaf: unknown): number | undefined {
  return typeof leaf === 'boolean' ? Number(leaf) : undefined
}

function numberOf(datatype: NumericDatatype, leaf: unknown, nonFinite: boolean): number | undefined {
  const { float, min, max } = numerics[datatype]
  const digits = digitsOf(leaf)
  if (digits === undefined) {
    const isWord = float && nonFinite && typeof leaf === 'string' && leaf.startsWith(mark)
    return isWord ? Number(leaf.slice(mark.length)) : undefined
  }
  if (digits.length > longestNumber) return undefined
  const number = Number(digits)
  if (float) return Number.isFinite(number) ? number : undefined
  const isWide = datatype === 'INT64' || datatype === 'UINT64'
  const isExact = isWide && /^-?\d+$/.test(digits)
  if (!isExact && !(isWide ? Number.isSafeInteger(number) : Number.isInteger(number))) return undefined
  const whole = BigInt(isExact ? digits : number)
  // What goes into an array of 64 bits is a bigint.
  return whole < min || whole > max ? undefined : ((isWide ? whole : number) as number)
}

function readWire(datatype: NumericDatatype, wire: Buffer, count: number): NumericArray | undefined {
  const { array, bytes } = numerics[datatype]
  if (wire.length !== count * bytes || (datatype === 'BOOL' && wire.some((byte) => byte > 1))) return undefined
  return new array(new Uint8Array(wire).buffer)
}

function readStrings(wire: Buffer, count: number): string[] | undefined {
  const strings: string[] = []
  let at = 0
  for (; strings.length < count;) {
    if (at + 4 > wire.length) return undefined
    const from = at + 4
    at = from + wire.readUInt32LE(at)
    const bytes = wire.subarray(from, at)
    if (at > wire.length || !isUtf8(bytes) || bytes.includes(0)) return undefined
    strings.push(bytes.toString())
  }
  return at === wire.length ? strings : undefined
}

function readWanted(list: unknown, byDefault: unknown, { outputs }: Signature): WantedOutput[] | undefined {
  if (byDefault !== undefined && typeof byDefault !== 'boolean') return undefined
  if (list !== undefined && !Array.isArray(list)) return undefined
  const asked: unknown[] = list && list.length > 0 ? list : outputs.map(({ name }) => ({ name }))
  const wanted: WantedOutput[] = []
  for (const one of asked) {
    const spec = isObject(one) ? outputs.find(({ name }) => name === one['name']) : undefined
    const parameters = (isObject(one) ? one['parameters'] : undefined) ?? {}
    if (!spec || !isObject(parameters) || wanted.some(({ name }) => name === spec.name)) return undefined
    const { classification, shared_memory_region: region, binary_data: own = byDefault ?? false } = parameters
    if (classification || region !== undefined || typeof own !== 'boolean') return undefined
    if (!own && spec.datatype === 'FP16') return undefined
    wanted.push({ name: spec.name, binary: own })
  }
  return wanted
}

/** Inputs that each fit their specification, in the order of the contract, if they fit each other. */
function together(
  found: readonly DecodedInput[],
  rest: Pick<Expected, 'id' | 'wanted'>,
  { contract }: Question,
): Expected | undefined {
  const inputs = contract.inputs.flatMap(({ name }) => found.filter((input) => input.name === name))
  if (inputs.length < contract.inputs.length) return undefined
  const bound = new Map<string, number>()
  for (const [i, { shape: dims }] of contract.inputs.entries()) {
    for (const [axis, dim] of dims.entries()) {
      const size = inputs[i]!.shape[axis]!
      if (typeof dim !== 'string' || dim === '') continue
      if ((bound.get(dim) ?? size) !== size) return undefined
      bound.set(dim, size)
    }
  }
  const rows = hasRowAxis(contract) ? inputs[0]!.shape[0]! : 1
  if (hasRowAxis(contract) && inputs.some(({ shape }) => shape[0] !== rows)) return undefined
  return { ...rest, inputs, rows }
}

function judgeRaw({ body, contract, options }: Question): Expected | undefined {
  const [spec, second] = contract.inputs
  if (!spec || second) return undefined
  const { name, datatype, shape: dims } = spec
  const open = dims.map((dim, axis) => (axis === 0 && hasRowAxis(contract) ? 1 : dim))
  if (open.filter((dim) => typeof dim === 'string').length > 1) return undefined
  const elements = datatype === 'BYTES' ? 1 : body.length / numerics[datatype].bytes
  const free = elements / product(open.filter((dim) => typeof dim === 'number'))
  const shape = open.map((dim) => (typeof dim === 'string' ? free : dim))
  const question = { body, contract, options, jsonBytes: 0 }
  if (!isShape(shape) || product(shape) !== elements || !isAllowed(spec, shape, question)) return undefined
  const isBad = datatype === 'BYTES' && (!isUtf8(body) || body.includes(0))
  const values = datatype === 'BYTES' ? [body.toString()] : readWire(datatype, body, elements)
  const wanted = contract.outputs.map((output) => ({ name: output.name, binary: true }))
  return values && !isBad ? { id: undefined, rows: 1, wanted, inputs: [{ name, datatype, shape, values }] } : undefined
}
