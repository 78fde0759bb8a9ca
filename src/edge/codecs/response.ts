/**
 * An answer onto the wire: JSON, and binary tensors behind it where they were asked for. It is put together in slices, so
 * that a large one holds nobody up, and without an array of numbers between.
 */
import type { Answer } from '../../core/call.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import { isStrings, stringAt, stringCount, type Strings, type Tensor, type TensorData } from '../../core/tensor.ts'
import { writeBinary } from './binary.ts'
import { writeFloat, writeInteger } from './decimals.ts'
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
  #binaries: Uint8Array[] | undefined
  /** The output that is being written, and its next element. */
  #output = 0
  #element = 0

  constructor(answer: Answer, options: EncodeOptions) {
    this.#answer = answer
    this.#options = options
  }

  /** Writes the next slice. Undefined if there is more to do: call again, once others have had their turn. */
  next(): Payload | Refusal | undefined {
    const { wanted, outputs } = this.#answer
    const text = this.#text
    if (this.#output === 0 && this.#element === 0) this.#begin()
    for (; this.#output < wanted.length; this.#output++) {
      const { name, binary } = wanted[this.#output]!
      const tensor = outputs.length === 1 ? outputs[0]! : outputs.find((output) => output.name === name)!
      if (this.#element === 0) this.#open(tensor)
      if (binary) this.#addBinary(tensor)
      else if (!this.#writeData(tensor)) return notFinite(name)
      if (this.#element > 0) {
        text.flush()
        return undefined
      }
    }
    text.byte(listEnd)
    text.byte(objectEnd)
    return this.#finish()
  }

  #begin(): void {
    const { model, version, id } = this.#answer
    const text = this.#text
    if (id === undefined) text.put(opening(model, version))
    else {
      text.put(nameAndVersion(model, version))
      text.text(`"id":${JSON.stringify(id)},"outputs":[`)
    }
  }

  #open({ name, datatype, shape }: Tensor): void {
    const text = this.#text
    if (this.#output > 0) text.byte(comma)
    text.put(nameAndDatatype(name, datatype))
    for (let axis = 0; axis < shape.length; axis++) {
      if (axis > 0) text.byte(comma)
      text.at = writeInteger(text.memory, text.at, shape[axis]!)
    }
  }

  #addBinary({ data }: Tensor): void {
    const bytes = writeBinary(data)
    this.#binaries ??= []
    this.#binaries.push(bytes)
    this.#text.ascii(`],"parameters":{"binary_data_size":${bytes.byteLength}}}`)
  }

  /** Writes a tensor to its end, or as far as one slice goes; says whether its elements have a form in JSON. */
  #writeData({ data, datatype }: Tensor): boolean {
    const text = this.#text
    if (this.#element === 0) text.put(dataStart)
    const count = isStrings(data) ? stringCount(data) : data.length
    const write = writerFor(data, datatype === 'BOOL')
    const end = write(text, data as never, { from: this.#element, to: count }, this.#options.nonFinite)
    this.#element = end < count ? end : 0
    if (end === count) {
      text.byte(listEnd)
      text.byte(objectEnd)
    }
    return end >= 0
  }

  #finish(): Payload {
    const pieces = this.#text.finish()
    if (!this.#binaries) return { pieces, jsonBytes: undefined }
    const jsonBytes = pieces.reduce((sum, piece) => sum + piece.length, 0)
    return { pieces: [...pieces, ...this.#binaries], jsonBytes }
  }
}

const comma = 0x2c
const listEnd = 0x5d
const objectEnd = 0x7d
const dataStart = phrase('],"data":[')

function notFinite(name: string): Refusal {
  return refuse('model_failed', `output "${name}" holds NaN or Infinity, which JSON cannot carry: ask for binary data`)
}

interface Range {
  readonly from: number
  readonly to: number
}

/**
 * Writes elements until they are all there or the text is full; returns the one behind the last. Returns -1 if one has no
 * form in JSON.
 */
type Write<T> = (text: JsonText, data: T, range: Range, nonFinite: boolean) => number

function writerFor(data: TensorData, isBool: boolean): Write<never> {
  if (data instanceof Float32Array) return writeSingles
  if (isStrings(data)) return writeStrings
  if (data instanceof Float64Array) return writeDoubles
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return writeBigs
  return isBool ? writeBits : writeIntegers
}

/** Infinity minus itself is not a number, and that is not equal to itself. */
function isFinite(value: number): boolean {
  return value - value === 0
}

const writeSingles: Write<Float32Array> = (text, data, { from, to }, nonFinite) => {
  const { memory, fullAt } = text
  let { at } = text
  let i = from
  for (; i < to && at < fullAt; i++) {
    if (isFinite(data[i]!)) at = writeFloat(memory, at, data, i)
    else if (nonFinite) at += memory.write(String(data[i]), at, 'latin1')
    else return -1
    memory[at++] = comma
  }
  // None behind the last.
  text.at = i === to ? at - 1 : at
  return i
}

/** Makes a writer of ranges of one that gives the text of an element. */
function oneByOne<T>(textOf: (data: T, i: number, nonFinite: boolean) => string | undefined): Write<T> {
  return (text, data, { from, to }, nonFinite) => {
    for (let i = from; i < to; i++) {
      if (text.at >= text.fullAt) return i
      const element = textOf(data, i, nonFinite)
      if (element === undefined) return -1
      text.text(element)
      if (i < to - 1) text.byte(comma)
    }
    return to
  }
}

const writeDoubles = oneByOne((data: Float64Array, i, nonFinite) => {
  const value = data[i]!
  if (!nonFinite && !isFinite(value)) return undefined
  // Minus zero would be written as 0, which is another number.
  return Object.is(value, -0) ? '-0' : String(value)
})

const writeIntegers = oneByOne((data: Int32Array, i) => String(data[i]))
const writeBigs = oneByOne((data: BigInt64Array, i) => String(data[i]))
const writeBits = oneByOne((data: Uint8Array, i) => (data[i] === 1 ? 'true' : 'false'))

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

const writeStrings = oneByOne((data: Strings, i) => JSON.stringify(utf8.decode(stringAt(data, i))))

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
