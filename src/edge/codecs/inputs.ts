/**
 * A request's inputs as its JSON describes them. Each becomes a source, which has the tensor's data once the body is
 * read: from JSON as it came, from JSON that had to be held, or from the bytes behind the JSON.
 */
import type { Lease } from '../../core/arena.ts'
import { isRefusal, type Refusal } from '../../core/refusal.ts'
import type { TensorSpec } from '../../core/signature.ts'
import type { TensorData } from '../../core/tensor.ts'
import { BinaryTensor } from './binary.ts'
import { badInput, invalid, noMemory } from './complaints.ts'
import { sliceBytes, type DecodeOptions } from './decoder.ts'
import { ElementReader } from './elements.ts'
import { fittingShape, type Prepared } from './fit.ts'
import { HeldReader } from './held.ts'
import { isObject, type Json, type ValueReader } from './scanner.ts'
import { namesOf, quoted } from './wanted.ts'
import { Window } from './window.ts'

/** Where a tensor's data comes from. */
export interface Source {
  readonly spec: TensorSpec
  readonly shape: readonly number[]
  /** Undefined if there is more to do: call again. */
  finish(): TensorData | Refusal | undefined
}

export interface InputTools {
  readonly known: Prepared
  readonly options: DecodeOptions
  readonly lease: Lease
}

/**
 * Asked in front of an input's `data`: reads it at once if the input has said all that it takes. `place` is the input's in
 * the list; one more than the model takes would only hold memory until the list's end.
 */
export function openData(input: Json, place: number, { known, options, lease }: InputTools): ValueReader {
  const { inputs } = known.contract
  if (place >= inputs.length) {
    const refusal = invalid(`the request has more inputs than the model takes, which are ${namesOf(inputs)}`)
    return { read: () => refusal }
  }
  const { name, datatype, shape } = input
  if (name === undefined || datatype === undefined || shape === undefined) return new HeldReader(lease)
  const reader = elementReader(input, { known, options, lease })
  return isRefusal(reader) ? { read: () => reader } : reader
}

function elementReader(input: Json, { known, options, lease }: InputTools): ElementReader | Refusal {
  const spec = specOf(input, known)
  if (isRefusal(spec)) return spec
  const shape = fittingShape(known, spec, input, options.tensors)
  if (isRefusal(shape)) return shape
  if (spec.datatype === 'FP16') return badInput(spec.name, 'FP16 has no form in JSON: send it as binary tensor data')
  return new ElementReader(spec, { shape, nonFinite: options.nonFinite }, lease)
}

function specOf({ name }: Json, { contract: { inputs } }: Prepared): TensorSpec | Refusal {
  const spec = inputs.find((each) => each.name === name)
  return spec ?? invalid(`the model has no input ${quoted(name)}; it takes ${namesOf(inputs)}`)
}

/** One source for each input of the contract, in the order of the request's list. */
export function describeInputs(list: unknown, tools: InputTools): Source[] | Refusal {
  if (!Array.isArray(list)) return invalid('"inputs" must be a list of tensors')
  const sources: Source[] = []
  for (const input of list as unknown[]) {
    if (!isObject(input)) return invalid('each of "inputs" must be an object')
    const source = describe(input, tools)
    if (isRefusal(source)) return source
    if (sources.some(({ spec }) => spec === source.spec)) return invalid(`input "${source.spec.name}" is given twice`)
    sources.push(source)
  }
  const { inputs } = tools.known.contract
  const missing = inputs.find((spec) => !sources.some((source) => source.spec === spec))
  if (missing) return invalid(`input "${missing.name}" is missing; the model takes ${namesOf(inputs)}`)
  return sources
}

function describe(input: Json, tools: InputTools): Source | Refusal {
  const spec = specOf(input, tools.known)
  if (isRefusal(spec)) return spec
  const data = input['data'] as ElementReader | HeldReader | undefined
  const size = binarySize(input)
  if (typeof size === 'string') return badInput(spec.name, size)
  if (data instanceof ElementReader) return data
  if (data) {
    const reader = elementReader(input, tools)
    return isRefusal(reader) ? reader : new HeldSource(reader, data, tools.lease)
  }
  if (size === undefined) {
    return badInput(spec.name, 'it has no data: give "data", or "binary_data_size" with binary data')
  }
  const shape = fittingShape(tools.known, spec, input, tools.options.tensors)
  if (isRefusal(shape)) return shape
  const binary = new BinaryTensor(spec, shape, size, tools.lease)
  return binary.misfit === undefined ? binary : badInput(spec.name, binary.misfit)
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

/** Reads held bytes as if they came now, a slice at a time. */
class HeldSource implements Source {
  readonly spec: TensorSpec
  readonly shape: readonly number[]
  readonly #reader: ElementReader
  readonly #held: HeldReader
  readonly #window: Window
  #from = 0
  #isRead = false

  constructor(reader: ElementReader, held: HeldReader, lease: Lease) {
    this.spec = reader.spec
    this.shape = reader.shape
    this.#reader = reader
    this.#held = held
    this.#window = new Window(lease, held.place)
  }

  finish(): TensorData | Refusal | undefined {
    if (this.#isRead) return this.#reader.finish()
    if (!this.#held.settle(sliceBytes)) return undefined
    const { bytes } = this.#held
    const slice = bytes.subarray(this.#from, this.#from + sliceBytes)
    this.#from += slice.length
    this.#window.closed = this.#from === bytes.length
    if (!this.#window.push(slice)) return noMemory()
    const progress = this.#reader.read(this.#window)
    if (isRefusal(progress)) return progress
    this.#isRead = progress === 'done'
    if (this.#isRead) return this.#reader.finish()
    if (this.#window.closed) return invalid(`input "${this.spec.name}": its data ends too early`)
    return this.#window.keep() ? undefined : noMemory()
  }
}
