/**
 * JSON (RFC 8259) from bytes as they arrive, strictly: what `JSON.parse` takes is taken and means the same, but for a few
 * things that are refused because readers disagree on them or die of them: a key twice in one object, the key
 * `__proto__`, nesting and numbers without end, and more values than a request has use for. Problems say at which byte.
 *
 * Tensor data does not become values here: at `inputs[*].data` the scanner asks for a reader, which takes the bytes from
 * there on. A token that is not whole stays in the window until the next chunk, so what a document comes to, and what is
 * wrong with it, does not depend on where it was cut. There is no recursion: what is open is on a stack.
 *
 * Rejected: `JSON.parse` with a reviver, which makes an object of each element first; an index of all structure before
 * (simdjson), which without SIMD is a second pass.
 */
import type { Refusal } from '../../core/refusal.ts'
import { longNumber, misspelt, noMemory, notFinite, notJson, notTaken } from './complaints.ts'
import type { Hole, JsonLimits } from './decoder.ts'
import { longestKept, recentString } from './recent-strings.ts'
import { maxNumberBytes, numberEnd, textOf } from './numbers.ts'
import { quote, StringEnd, stringText } from './strings.ts'
import type { Window } from './window.ts'
import { isCutWord, skipSpace } from './words.ts'

export type Json = Readonly<Record<string, unknown>>

/** `hungry` waits for more of the body. */
export type Progress = 'done' | 'hungry' | Refusal

/** Reads a value that is more than the scanner makes of it, in as many pieces as it comes. */
export interface ValueReader {
  /** Goes on from where the window is, and leaves it behind what was read. */
  read(window: Window): Progress
}

export interface ScannerAround {
  /** Called in front of a tensor's `data`, with what the tensor has said so far and its place in `inputs`. */
  readonly openData: (tensor: Json, place: number) => ValueReader
  /** Asks for leave to hold so many bytes more; says whether there is the memory. */
  readonly hold: (bytes: number) => boolean
}

export const comma = 0x2c
export const listStart = 0x5b
export const listEnd = 0x5d
export const objectStart = 0x7b
export const objectEnd = 0x7d
const colon = 0x3a

// What may come next.
const aValue = 0
const anElement = 1
const aKey = 2
const aFirstKey = 3
const aColon = 4
const aSeparator = 5
const nothing = 6

/** What a key or a value takes in memory, about. */
const bytesPerValue = 64
/** A usual request need not ask for it. */
const freelyHeld = 4_096
const heldAtOnce = 16_384

/** Of a string outside of tensor data, quotes included: names and ids have no use for more. */
const maxStringBytes = 65_536

export class Scanner {
  /** The document's value, once it is done. */
  value: unknown
  /** In the order of the document. */
  readonly holes: Hole[] = []
  readonly #window: Window
  readonly #limits: JsonLimits
  readonly #around: ScannerAround
  readonly #open: (Record<string, unknown> | unknown[])[] = []
  #string: StringEnd | undefined
  #expected = aValue
  #key = ''
  /** Whether the root's value that is being read is that of `inputs`. */
  #inInputs = false
  #reader: ValueReader | undefined
  /** Where what it reads begins, and whose it is. */
  #data = { from: 0, input: 0 }
  #values = 0
  /** Memory that what was read takes, about, and how much of it may be taken. */
  #heldBytes = 0
  #mayHold = freelyHeld
  #refusal: Refusal | undefined

  constructor(window: Window, limits: JsonLimits, around: ScannerAround) {
    this.#window = window
    this.#limits = limits
    this.#around = around
  }

  /** Goes through what the window holds. Behind a document that is `done` only white space may come. */
  scan(): Progress {
    const window = this.#window
    for (;;) {
      if (this.#reader) {
        const progress = this.#readData(this.#reader)
        if (progress !== 'done') return progress
      }
      const byte = skipSpace(window)
      if (byte === undefined) return this.#expected === nothing ? 'done' : this.#wait()
      if (!this.#step(byte)) return this.#refusal ?? this.#wait()
    }
  }

  #readData(reader: ValueReader): Progress {
    const progress = reader.read(this.#window)
    if (progress === 'hungry') return this.#wait()
    if (progress !== 'done') return progress
    this.#reader = undefined
    this.holes.push({ ...this.#data, to: this.#place })
    return this.#put(reader) ? 'done' : this.#refusal!
  }

  /** Where the scanner is in the document. */
  get #place(): number {
    return this.#window.placeOf(this.#window.at)
  }

  #wait(): Progress {
    const { closed, bytes } = this.#window
    return closed ? notJson(tooEarly, this.#window.placeOf(bytes.length)) : 'hungry'
  }

  /** Reads one token; says whether to go on. */
  #step(byte: number): boolean {
    switch (this.#expected) {
      case anElement:
        return byte === listEnd ? this.#close() : this.#readValue(byte)
      case aValue:
        return this.#readValue(byte)
      case aFirstKey:
        return byte === objectEnd ? this.#close() : this.#readKey(byte)
      case aKey:
        return this.#readKey(byte)
      case aColon:
        return this.#readColon(byte)
      case aSeparator:
        return this.#readSeparator(byte)
      default:
        return this.#fail('nothing may follow its end')
    }
  }

  #readValue(byte: number): boolean {
    if (byte === quote) return this.#readText()
    if (byte === objectStart) return this.#enter({}, aFirstKey)
    if (byte === listStart) return this.#enter([], anElement)
    if (byte === 0x74) return this.#readLiteral('true', true)
    if (byte === 0x66) return this.#readLiteral('false', false)
    if (byte === 0x6e) return this.#readLiteral('null', null)
    return this.#readNumber()
  }

  #readText(): boolean {
    const from = this.#place + 1
    const text = this.#readString()
    if (text === undefined) return false
    if (this.#key === 'id' && this.#open.length === 1) this.holes.push({ from, to: this.#place - 1, input: undefined })
    return this.#put(text)
  }

  #readKey(byte: number): boolean {
    if (byte !== quote) return this.#fail('a key in double quotes is missing')
    const from = this.#window.at
    const key = this.#readString()
    if (key === undefined) return false
    if (key === '__proto__') return this.#refuse('the key "__proto__" is not taken', from)
    const { length } = this.#open
    if (Object.hasOwn(this.#open[length - 1]!, key)) return this.#refuse('an object has the same key twice', from)
    if (length === 1) this.#inInputs = key === 'inputs'
    this.#key = key
    this.#expected = aColon
    return this.#count()
  }

  #readColon(byte: number): boolean {
    if (byte !== colon) return this.#fail('a colon is missing')
    this.#window.at++
    this.#expected = aValue
    if (this.#key === 'data' && this.#isTensor()) this.#openData()
    return true
  }

  #openData(): void {
    const [, inputs, tensor] = this.#open
    const input = (inputs as unknown[]).length - 1
    this.#data = { from: this.#place, input }
    this.#reader = this.#around.openData(tensor as Json, input)
  }

  /** Whether what is open is an object right inside the list `inputs` of the document. */
  #isTensor(): boolean {
    const [root, inputs] = this.#open
    return this.#open.length === 3 && this.#inInputs && Array.isArray(inputs) && !Array.isArray(root)
  }

  #readSeparator(byte: number): boolean {
    const isList = Array.isArray(this.#open.at(-1))
    if (byte === (isList ? listEnd : objectEnd)) return this.#close()
    if (byte !== comma) return this.#fail(`a comma or a closing ${isList ? 'bracket' : 'brace'} is missing`)
    this.#window.at++
    this.#expected = isList ? aValue : aKey
    return true
  }

  #enter(container: Record<string, unknown> | unknown[], expected: number): boolean {
    const { maxDepth } = this.#limits
    if (this.#open.length === maxDepth) return this.#refuse(`it nests deeper than ${maxDepth}`, this.#window.at)
    if (!this.#put(container)) return false
    this.#open.push(container)
    this.#expected = expected
    this.#window.at++
    return true
  }

  #close(): boolean {
    this.#open.pop()
    this.#expected = this.#open.length === 0 ? nothing : aSeparator
    this.#window.at++
    return true
  }

  #put(value: unknown): boolean {
    const parent = this.#open.at(-1)
    if (!parent) this.value = value
    else if (Array.isArray(parent)) parent.push(value)
    else parent[this.#key] = value
    this.#expected = parent ? aSeparator : nothing
    return this.#count()
  }

  #count(): boolean {
    const { maxValues } = this.#limits
    if (++this.#values <= maxValues) return this.#hold(bytesPerValue)
    return this.#refuse(`it holds more than ${maxValues} keys and values outside of tensor data`, this.#window.at)
  }

  #hold(bytes: number): boolean {
    this.#heldBytes += bytes
    while (this.#heldBytes > this.#mayHold) {
      if (!this.#around.hold(heldAtOnce)) return this.#stop(noMemory())
      this.#mayHold += heldAtOnce
    }
    return true
  }

  /** Undefined if it is not whole yet, or if there is a problem. */
  #readString(): string | undefined {
    if (this.#string?.begun) return this.#readLongString()
    const { bytes, at } = this.#window
    const from = at + 1
    let p = from
    let all = 0
    let hash = 0
    let byte = bytes[p]!
    for (; byte !== quote; byte = bytes[++p]!) {
      if (byte === 0x5c || !(byte >= 0x20)) return this.#readLongString()
      all |= byte
      hash = (hash * 31 + byte) | 0
    }
    if (all > 0x7f) return this.#readLongString()
    if (p - from > longestKept) return this.#readLongString()
    this.#window.at = p + 1
    return recentString(bytes, from, p, hash)
  }

  #readLongString(): string | undefined {
    const { bytes, at } = this.#window
    const string = (this.#string ??= new StringEnd())
    const end = string.find(bytes, at)
    const reached = string.problem === '' ? bytes.length : string.problemAt
    if ((end < 0 ? reached : end) - at > maxStringBytes) {
      this.#refuse(`a string has more than ${maxStringBytes} bytes`, at)
      return undefined
    }
    if (end < 0) {
      if (string.problem !== '') this.#fail(string.problem, string.problemAt)
      return undefined
    }
    const text = stringText(bytes, at + 1, end - 1, string)
    string.reset()
    if (text === undefined) return void this.#fail('a string is not UTF-8')
    this.#window.at = end
    // Beyond ASCII a character takes two.
    return this.#hold(2 * text.length) ? text : undefined
  }

  #readLiteral(text: string, value: boolean | null): boolean {
    const { bytes, at } = this.#window
    for (let i = 0; i < text.length; i++) {
      const byte = bytes[at + i]
      if (byte !== text.charCodeAt(i)) return byte !== undefined && this.#failAtWord()
    }
    this.#window.at += text.length
    return this.#put(value)
  }

  #readNumber(): boolean {
    const { bytes, at, closed } = this.#window
    const end = numberEnd(bytes, at)
    if (end - at > maxNumberBytes) return this.#stop(longNumber(this.#window.placeOf(at)))
    if ((end < 0 || end === bytes.length) && !closed && isCutWord(bytes, at)) return false
    if (end < 0) return this.#failAtWord()
    this.#window.at = end
    return this.#put(numberOf(bytes, at, end))
  }

  #failAtWord(): false {
    const { bytes, at } = this.#window
    const start = bytes[at] === 0x2d ? bytes[at + 1] : bytes[at]
    // N and I.
    return this.#fail(start === 0x4e || start === 0x49 ? notFinite : misspelt)
  }

  #fail(what: string, at: number = this.#window.at): false {
    return this.#stop(notJson(what, this.#window.placeOf(at)))
  }

  #refuse(what: string, at: number): false {
    return this.#stop(notTaken(what, this.#window.placeOf(at)))
  }

  #stop(refusal: Refusal): false {
    this.#refusal = refusal
    return false
  }
}

const tooEarly = 'it ends too early'

/** Dimensions and the like are short and whole. */
function numberOf(bytes: Uint8Array, from: number, to: number): number {
  let value = 0
  let p = to - from < 10 ? from : to
  for (; p < to && bytes[p]! >= 0x30 && bytes[p]! <= 0x39; p++) value = value * 10 + bytes[p]! - 0x30
  return p === to && to - from < 10 ? value : Number(textOf(bytes, from, to))
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
