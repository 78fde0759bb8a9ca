/**
 * An answer onto the wire: JSON, and binary tensors behind it where they were asked for. It is put together in slices, so
 * that a large one holds nobody up, and without an array of numbers between.
 */
import type { Answer } from '../../core/call.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import { bytesOf, isStrings, stringCount, type Tensor, type TensorData } from '../../core/tensor.ts'
import { wireSize, writeStrings } from './binary.ts'
import { writeInteger } from './decimals.ts'
import { countOf, writerFor, type Spot } from './element-writers.ts'
import { JsonText, phrase, type Phrase } from './json-text.ts'

export interface Payload {
  /** One behind the other. What is a string is ASCII. */
  readonly pieces: readonly (string | Uint8Array)[]
  /** How many bytes of it are JSON, if others follow. */
  readonly jsonBytes: number | undefined
}

export interface EncodeOptions {
  /** Whether JSON may hold NaN, Infinity and -Infinity. */
  readonly nonFinite: boolean
}

export class AnswerEncoder {
  readonly #answer: Answer
  readonly #options: EncodeOptions
  readonly #text = new JsonText()
  /** The output that is being written, and where. */
  #output = 0
  readonly #spot: Spot = { element: 0, byte: 0 }
  #isBegun = false
  /** Whether what the output begins with is written. */
  #isOpen = false
  /** What is behind the JSON, once that is whole. */
  #binary: BinaryPart | undefined

  constructor(answer: Answer, options: EncodeOptions) {
    this.#answer = answer
    this.#options = options
  }

  /** Writes the next slice. Undefined if there is more to do: call again, once others have had their turn. */
  next(): Payload | Refusal | undefined {
    if (!this.#binary) {
      const done = this.#writeJson()
      if (done !== true) return done
      const pieces = this.#text.finish()
      if (!this.#answer.wanted.some(({ binary }) => binary)) return { pieces, jsonBytes: undefined }
      this.#binary = new BinaryPart(this.#binaries(), pieces)
    }
    return this.#binary.write() ? this.#binary.payload : undefined
  }

  /** Says whether all JSON is written; undefined if there is more to do. */
  #writeJson(): true | Refusal | undefined {
    const { wanted } = this.#answer
    const text = this.#text
    const spot = this.#spot
    if (!this.#isBegun) this.#begin()
    for (; this.#output < wanted.length; this.#output++) {
      const { name, binary } = wanted[this.#output]!
      const tensor = this.#tensorOf(name)
      if (!this.#isOpen) {
        if (text.at >= text.fullAt) return this.#pause()
        this.#open(tensor, binary)
      }
      if (!binary) {
        const write = writerFor(tensor.data, tensor.datatype === 'BOOL')
        if (!write(text, tensor.data as never, spot, this.#options.nonFinite)) return notFinite(name)
        if (spot.element < countOf(tensor.data)) return this.#pause()
        text.byte(listEnd)
        text.byte(objectEnd)
        spot.element = 0
      }
      this.#isOpen = false
    }
    text.byte(listEnd)
    text.byte(objectEnd)
    return true
  }

  #pause(): undefined {
    this.#text.flush()
  }

  #tensorOf(name: string): Tensor {
    const { outputs } = this.#answer
    return outputs.length === 1 ? outputs[0]! : outputs.find((output) => output.name === name)!
  }

  #binaries(): TensorData[] {
    return this.#answer.wanted.filter(({ binary }) => binary).map(({ name }) => this.#tensorOf(name).data)
  }

  #begin(): void {
    this.#isBegun = true
    const { model, version, arm, id, fallback } = this.#answer
    const text = this.#text
    if (id === undefined && !fallback && arm === undefined) text.put(opening(model, version))
    else {
      text.put(nameAndVersion(model, version))
      if (id !== undefined) {
        text.put(idStart)
        text.quoted(id)
        text.byte(comma)
      }
      if (fallback ?? arm) text.text(`"parameters":${JSON.stringify({ arm, fallback })},`)
      text.put(outputsStart)
    }
  }

  #open({ name, datatype, shape, data }: Tensor, binary: boolean): void {
    const text = this.#text
    this.#isOpen = true
    if (this.#output > 0) text.byte(comma)
    text.put(nameAndDatatype(name, datatype))
    for (let axis = 0; axis < shape.length; axis++) {
      if (axis > 0) text.byte(comma)
      text.at = writeInteger(text.memory, text.at, shape[axis]!)
    }
    if (binary) text.ascii(`],"parameters":{"binary_data_size":${wireSize(data)}}}`)
    else text.put(dataStart)
  }
}

const comma = 0x2c
const listEnd = 0x5d
const objectEnd = 0x7d
const idStart = phrase('"id":')
const outputsStart = phrase('"outputs":[')
const dataStart = phrase('],"data":[')

function notFinite(name: string): Refusal {
  return refuse('model_failed', `output "${name}" holds NaN or Infinity, which JSON cannot carry: ask for binary data`)
}

/** How many strings are put behind their lengths in one go. */
const sliceStrings = 4_096

/** The tensors behind the JSON. */
class BinaryPart {
  readonly #tensors: readonly TensorData[]
  readonly #pieces: (string | Uint8Array)[]
  readonly #jsonBytes: number
  #tensor = 0
  #element = 0

  constructor(tensors: readonly TensorData[], json: (string | Uint8Array)[]) {
    this.#tensors = tensors
    this.#jsonBytes = json.reduce((sum, piece) => sum + piece.length, 0)
    this.#pieces = json
  }

  get payload(): Payload {
    return { pieces: this.#pieces, jsonBytes: this.#jsonBytes }
  }

  /** Says whether all of it is there. */
  write(): boolean {
    for (; this.#tensor < this.#tensors.length; this.#tensor++) {
      const data = this.#tensors[this.#tensor]!
      if (!isStrings(data)) {
        this.#pieces.push(bytesOf(data))
        continue
      }
      const to = Math.min(stringCount(data), this.#element + sliceStrings)
      this.#pieces.push(writeStrings(data, this.#element, to))
      this.#element = to < stringCount(data) ? to : 0
      if (this.#element > 0) return false
    }
    return true
  }
}

type Opening = (first: string, second: string) => Phrase

/** Remembers what an answer or an output begins with, by two names of which there are only so many. */
function remember(make: (first: string, second: string) => string): Opening {
  const known = new Map<string, Map<string, Phrase>>()
  return (first, second) => {
    const said = known.get(first)?.get(second)
    if (said) return said
    const fresh = phrase(make(first, second))
    known.set(first, (known.get(first) ?? new Map<string, Phrase>()).set(second, fresh))
    return fresh
  }
}

const nameAndVersion = remember(
  (model, version) => `{"model_name":${JSON.stringify(model)},"model_version":${JSON.stringify(version)},`,
)
/** Where there is no id between. */
const opening = remember(
  (model, version) => `{"model_name":${JSON.stringify(model)},"model_version":${JSON.stringify(version)},"outputs":[`,
)
const nameAndDatatype = remember((output, datatype) => {
  return `{"name":${JSON.stringify(output)},"datatype":"${datatype}","shape":[`
})
