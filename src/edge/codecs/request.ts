/**
 * An inference request's body, JSON alone or JSON followed by binary tensors, into a request that fits the contract. All
 * that can be wrong with it is found here, before it meets other requests in a batch.
 */
import { isUtf8 } from 'node:buffer'
import type { InferRequest, WantedOutput } from '../../core/call.ts'
import type { Datatype } from '../../core/datatype.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import { bindShapes, hasRowAxis, shapeMisfit, varies, type Signature, type TensorSpec } from '../../core/signature.ts'
import type { Tensor, TensorData } from '../../core/tensor.ts'
import { readBinary } from './binary.ts'
import { scanElements } from './elements.ts'
import { NotJson, Scanner, type Json } from './scanner.ts'

/** What can be known of a contract before any request. */
interface Prepared {
  readonly contract: Signature
  readonly rowAxis: boolean
  /** Whether requests of different shapes are possible, which may not share a run. */
  readonly manyShapes: boolean
  readonly allAsJson: readonly WantedOutput[]
}

const prepared = new WeakMap<Signature, Prepared>()

function prepare(contract: Signature): Prepared {
  const known = prepared.get(contract)
  if (known) return known
  const fresh = {
    contract,
    rowAxis: hasRowAxis(contract),
    manyShapes: contract.inputs.some(({ shape }) => shape.slice(1).some(varies)),
    allAsJson: contract.outputs.map(({ name }) => ({ name, binary: false })),
  }
  prepared.set(contract, fresh)
  return fresh
}

/** `jsonBytes` is how many bytes of the body are JSON; the rest are binary tensors in the order of the JSON's inputs. */
export function decodeRequest(body: Uint8Array, jsonBytes: number, contract: Signature): InferRequest | Refusal {
  const known = prepare(contract)
  const request = parseJson(body.subarray(0, jsonBytes), contract)
  if (typeof request === 'string') return invalid(request)
  const { id } = request
  if (id !== undefined && typeof id !== 'string') return invalid('"id" must be a string')
  const unsupported = unsupportedParameter(request['parameters'])
  if (unsupported) return invalid(unsupported)
  const inputs = readInputs(request['inputs'], body.subarray(jsonBytes), contract)
  if (typeof inputs === 'string') return invalid(inputs)
  const wanted = readWanted(request, known)
  if (typeof wanted === 'string') return invalid(wanted)
  return fit(known, inputs, { id, wanted })
}

/** Holds the inputs' shapes against the contract and each other. */
export function fitRequest(contract: Signature, inputs: readonly Tensor[], wanted: readonly WantedOutput[]) {
  return fit(prepare(contract), inputs, { id: undefined, wanted })
}

function fit(
  { contract, rowAxis, manyShapes }: Prepared,
  inputs: readonly Tensor[],
  rest: { readonly id: string | undefined; readonly wanted: readonly WantedOutput[] },
): InferRequest | Refusal {
  const bound = bindShapes(
    contract.inputs,
    inputs.map(({ shape }) => shape),
  )
  if (typeof bound === 'string') return invalid(bound)
  const rows = rowAxis ? inputs[0]!.shape[0]! : 1
  const uneven = rowAxis ? inputs.find(({ shape }) => shape[0] !== rows) : undefined
  if (uneven) return invalid(`input "${uneven.name}" has ${uneven.shape[0]} rows and "${inputs[0]!.name}" has ${rows}`)
  const key = manyShapes ? inputs.map(({ shape }) => shape.slice(1).join('x')).join(' ') : ''
  return { ...rest, inputs, rows, key }
}

function invalid(message: string): Refusal {
  return refuse('invalid', message)
}

/** `data` that has been read, or why it cannot be; and the shape, which fitted when it was. */
interface Read {
  readonly elements: TensorData | string
  readonly shape: readonly number[]
}

/** `data` in front of what it takes to read it, which the protocol allows: read once more from here when that is known. */
interface Postponed {
  readonly at: number
  readonly scanner: Scanner
}

function parseJson(bytes: Uint8Array, contract: Signature): Json | string {
  if (!isUtf8(bytes)) return 'the body is not UTF-8'
  let tensor: string | undefined
  const readData = (input: Json, scanner: Scanner): Read | Postponed => {
    const spec = contract.inputs.find(({ name }) => name === input['name'])
    tensor = spec?.name
    const shape = spec && fittingShape(spec, input)
    const data =
      typeof shape === 'object' ? { elements: scanElements(scanner, spec!.datatype, shape), shape } : postpone(scanner)
    tensor = undefined
    return data
  }
  try {
    const value = new Scanner(bytes, readData).document()
    return isObject(value) ? value : 'the body must be a JSON object with "inputs"'
  } catch (error) {
    if (!(error instanceof NotJson)) throw error
    return `the body is ${error.message}${tensor === undefined ? '' : `, in the data of input "${tensor}"`}`
  }
}

function postpone(scanner: Scanner): Postponed {
  const at = (scanner.space(), scanner.at)
  scanner.skip()
  return { at, scanner }
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const sequenceKeys = ['sequence_id', 'sequence_start', 'sequence_end']

/** Parameters that would change the answer and that nobody here acts on: to ignore them would be to lie. */
function unsupportedParameter(parameters: unknown): string | undefined {
  if (parameters === undefined) return undefined
  if (!isObject(parameters)) return '"parameters" must be an object'
  const sequence = sequenceKeys.find((key) => parameters[key])
  if (sequence) return `parameter "${sequence}": sequences are not supported; feed state tensors back as inputs`
  const reserved = Object.keys(parameters).find((key) => key.startsWith('triton_'))
  return reserved && 'parameters that begin with "triton_" are reserved'
}

function readInputs(list: unknown, binary: Uint8Array, contract: Signature): Tensor[] | string {
  if (!Array.isArray(list)) return '"inputs" must be a list of tensors'
  const tensors: Tensor[] = []
  let at = 0
  for (const input of list as unknown[]) {
    if (!isObject(input)) return 'each of "inputs" must be an object'
    const index = contract.inputs.findIndex(({ name }) => name === input['name'])
    const spec = contract.inputs[index]
    if (!spec) return `the model has no input ${quote(input['name'])}; it takes ${names(contract.inputs)}`
    if (tensors[index]) return `input "${spec.name}" is given twice`
    const size = binarySize(input)
    if (typeof size === 'string') return `input "${spec.name}": ${size}`
    if (size !== undefined && at + size > binary.byteLength)
      return `input "${spec.name}": the body ends before its binary data`
    const tensor = readInput(spec, input, size === undefined ? undefined : binary.subarray(at, at + size))
    if (typeof tensor === 'string') return `input "${spec.name}": ${tensor}`
    tensors[index] = tensor
    at += size ?? 0
  }
  const missing = contract.inputs.find((_, index) => !tensors[index])
  if (missing) return `input "${missing.name}" is missing; the model takes ${names(contract.inputs)}`
  if (at < binary.byteLength)
    return `the body holds ${binary.byteLength - at} bytes of binary data that no input claims`
  return tensors
}

function names(specs: readonly TensorSpec[]): string {
  return specs.map(({ name }) => `"${name}"`).join(', ')
}

function quote(name: unknown): string {
  return typeof name === 'string' ? JSON.stringify(name.slice(0, 64)) : 'without a name'
}

/** How many bytes of binary data belong to this input; undefined if its data is JSON. */
function binarySize({ parameters, data }: Json): number | undefined | string {
  if (parameters === undefined) return undefined
  if (!isObject(parameters)) return 'its parameters must be an object'
  if (parameters['shared_memory_region'] !== undefined) return 'shared memory is not supported: send the data'
  const size = parameters['binary_data_size']
  if (size === undefined) return undefined
  if (data !== undefined) return 'it has both "data" and "binary_data_size"; give one'
  if (!Number.isSafeInteger(size) || (size as number) < 0) return '"binary_data_size" must be a whole number of bytes'
  return size as number
}

function readInput(spec: TensorSpec, input: Json, binary: Uint8Array | undefined): Tensor | string {
  const { name, datatype } = spec
  const data = input['data'] as Read | Postponed | undefined
  const shape = data && 'shape' in data ? data.shape : fittingShape(spec, input)
  if (typeof shape === 'string') return shape
  if (!binary && !data) return 'it has no data: give "data", or "binary_data_size" with binary data'
  const elements = binary ? readBinary(datatype, binary, shape) : elementsOf(datatype, data!, shape)
  return typeof elements === 'string' ? elements : { name, datatype, shape, data: elements }
}

function elementsOf(datatype: Datatype, data: Read | Postponed, shape: readonly number[]): TensorData | string {
  if ('elements' in data) return data.elements
  data.scanner.at = data.at
  return scanElements(data.scanner, datatype, shape)
}

/** The shape of an input that has the right datatype, or what is wrong with either. */
function fittingShape(spec: TensorSpec, { datatype, shape }: Json): readonly number[] | string {
  if (datatype !== spec.datatype) return `its datatype must be ${spec.datatype}`
  const problem = shapeProblem(shape, spec.datatype === 'BYTES' ? maxStrings : maxElements)
  return problem ?? shapeMisfit(spec, shape as readonly number[]) ?? (shape as readonly number[])
}

const maxElements = 2 ** 31 - 1
/** Each becomes an object in the worker, whatever its length. */
const maxStrings = 2 ** 18

function shapeProblem(shape: unknown, most: number): string | undefined {
  if (!Array.isArray(shape)) return '"shape" must be a list of whole numbers'
  let elements = 1
  for (const dim of shape as unknown[]) {
    if (!Number.isInteger(dim) || (dim as number) < 1) return '"shape" must hold whole numbers from 1'
    elements *= dim as number
    if (elements > most) return `its shape is too large: ${most} elements are the most`
  }
  return undefined
}

function readWanted(request: Json, { contract, allAsJson }: Prepared): readonly WantedOutput[] | string {
  const byDefault = (request['parameters'] as Json | undefined)?.['binary_data_output'] ?? false
  if (typeof byDefault !== 'boolean') return 'parameter "binary_data_output" must be true or false'
  const list = request['outputs']
  if (list !== undefined && !Array.isArray(list)) return '"outputs" must be a list'
  if (!list || list.length === 0) {
    const all = byDefault ? allAsJson.map(({ name }) => ({ name, binary: true })) : allAsJson
    return wantedProblem(all, contract) ?? all
  }
  const wanted: WantedOutput[] = []
  for (const output of list as unknown[]) {
    if (!isObject(output)) return 'each of "outputs" must be an object'
    const spec = contract.outputs.find(({ name }) => name === output['name'])
    if (!spec) return `the model has no output ${quote(output['name'])}; it gives ${names(contract.outputs)}`
    if (wanted.some(({ name }) => name === spec.name)) return `output "${spec.name}" is asked for twice`
    const parameters = output['parameters'] ?? {}
    if (!isObject(parameters)) return `output "${spec.name}": its parameters must be an object`
    if (parameters['classification']) return `output "${spec.name}": classification is not supported; sort the scores`
    if (parameters['shared_memory_region'] !== undefined) return `output "${spec.name}": shared memory is not supported`
    const { binary_data: own } = parameters
    if (own !== undefined && typeof own !== 'boolean')
      return `output "${spec.name}": "binary_data" must be true or false`
    wanted.push({ name: spec.name, binary: own ?? byDefault })
  }
  return wantedProblem(wanted, contract) ?? wanted
}

/** What cannot be written as asked is refused before it is computed. */
function wantedProblem(wanted: readonly WantedOutput[], { outputs }: Signature): string | undefined {
  const problem = wanted.find(
    ({ name, binary }) => !binary && outputs.some((spec) => spec.name === name && spec.datatype === 'FP16'),
  )
  return problem && `output "${problem.name}" is FP16, which has no form in JSON: ask for it with "binary_data": true`
}
