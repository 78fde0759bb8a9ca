/**
 * An inference request's body, JSON alone or JSON followed by binary tensors, into a request that fits the contract. It
 * is read as it comes: tensor data goes straight to typed memory, and what is wrong ends it at the first byte that is.
 */
import type { InferRequest } from '../../core/call.ts'
import { isRefusal, type Refusal } from '../../core/refusal.ts'
import type { Signature } from '../../core/signature.ts'
import type { Tensor } from '../../core/tensor.ts'
import { BinaryTensor } from './binary.ts'
import { invalid, noMemory } from './complaints.ts'
import type { BodyPlan, Decoder } from './decoder.ts'
import type { Said } from './envelope.ts'
import { fit, prepare, type Unfitted } from './fit.ts'
import { describeInputs, openData, type InputTools, type Source } from './inputs.ts'
import { readParameters } from './parameters.ts'
import { isObject, Scanner } from './scanner.ts'
import { readWanted } from './wanted.ts'
import { Window } from './window.ts'

/** What the JSON says, once it is whole. */
interface Described {
  readonly rest: Unfitted
  /** In the order of the request's list. */
  readonly sources: readonly Source[]
}

export class RequestDecoder implements Decoder {
  readonly #tools: InputTools
  readonly #plan: BodyPlan
  readonly #window: Window
  readonly #scanner: Scanner
  /** Bytes of JSON still to come. */
  #jsonLeft: number
  #described: Described | undefined
  /** Tensors whose bytes are to come, and how many of them are complete. */
  #binaries: readonly BinaryTensor[] = []
  #filled = 0
  /** In the order of the request's list. */
  readonly #tensors: Tensor[] = []

  constructor(plan: BodyPlan, contract: Signature) {
    const { options, lease } = plan
    this.#plan = plan
    this.#tools = { known: prepare(contract), options, lease }
    this.#jsonLeft = plan.jsonBytes ?? Infinity
    this.#window = new Window(lease)
    this.#scanner = new Scanner(this.#window, options.json, {
      openData: (input, place) => openData(input, place, this.#tools),
      hold: (bytes) => lease.hold(bytes),
    })
  }

  write(chunk: Uint8Array): Refusal | undefined {
    if (chunk.length === 0) return undefined
    const left = this.#jsonLeft
    if (chunk.length <= left) return this.#scan(chunk)
    const refusal = left > 0 ? this.#scan(chunk.subarray(0, left)) : undefined
    return refusal ?? this.#fill(chunk.subarray(left))
  }

  end(): InferRequest | Refusal | undefined {
    if (!this.#described) {
      if (this.#plan.jsonBytes !== undefined) return invalid('the body is shorter than its JSON part should be')
      const refusal = this.#finishJson()
      if (refusal) return refusal
    }
    const { rest, sources } = this.#described!
    for (let i = this.#tensors.length; i < sources.length; i++) {
      const source = sources[i]!
      const data = source.finish()
      if (data === undefined || isRefusal(data)) return data
      this.#tensors.push({ name: source.spec.name, datatype: source.spec.datatype, shape: source.shape, data })
    }
    return fit(this.#tools.known, this.#tensors, rest)
  }

  /** What the body said, for whoever may see such a body again. */
  said(request: InferRequest): Said {
    const specs = this.#described!.sources.map(({ spec }) => spec)
    return { options: this.#plan.options, holes: this.#scanner.holes, specs, request }
  }

  #scan(json: Uint8Array): Refusal | undefined {
    this.#jsonLeft -= json.length
    if (!this.#window.push(json)) return noMemory()
    if (this.#jsonLeft === 0) return this.#finishJson()
    const progress = this.#scanner.scan()
    if (isRefusal(progress)) return progress
    return this.#window.keep() ? undefined : noMemory()
  }

  /** Behind the last byte of JSON. */
  #finishJson(): Refusal | undefined {
    this.#window.closed = true
    const progress = this.#scanner.scan()
    if (isRefusal(progress)) return progress
    const described = describe(this.#scanner.value, this.#tools)
    if (isRefusal(described)) return described
    this.#described = described
    this.#binaries = described.sources.filter((source) => source instanceof BinaryTensor)
    return this.#plan.length === undefined ? undefined : this.#checkLength(this.#plan.length)
  }

  /** Whether as many bytes follow the JSON as its inputs claim, before they are waited for. */
  #checkLength(length: number): Refusal | undefined {
    let left = length - (this.#plan.jsonBytes ?? length)
    for (const binary of this.#binaries) {
      left -= binary.missing
      if (left < 0) return binary.tooShort()
    }
    return left > 0 ? invalid(`the body holds ${left} bytes of binary data that no input claims`) : undefined
  }

  #fill(bytes: Uint8Array): Refusal | undefined {
    let from = 0
    for (; this.#filled < this.#binaries.length; this.#filled++) {
      const binary = this.#binaries[this.#filled]!
      const to = Math.min(bytes.length, from + binary.missing)
      const refusal = binary.write(bytes.subarray(from, to))
      if (refusal) return refusal
      if (binary.missing > 0) return undefined
      from = to
    }
    return from < bytes.length ? invalid('the body holds more binary data than its inputs claim') : undefined
  }
}

function describe(request: unknown, tools: InputTools): Described | Refusal {
  if (!isObject(request)) return invalid('the body must be a JSON object with "inputs"')
  const { id } = request
  if (id !== undefined && typeof id !== 'string') return invalid('"id" must be a string')
  const parameters = readParameters(request['parameters'])
  if (typeof parameters === 'string') return invalid(parameters)
  const sources = describeInputs(request['inputs'], tools)
  if (isRefusal(sources)) return sources
  const wanted = readWanted(request, tools.known)
  return typeof wanted === 'string' ? invalid(wanted) : { rest: { id, wanted, ...parameters }, sources }
}
