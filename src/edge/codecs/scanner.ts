/**
 * JSON (RFC 8259) from bytes, strictly: what `JSON.parse` takes is taken and means the same, but for three things that
 * are refused because readers disagree on them or die of them: a key twice in one object, the key `__proto__`, and
 * nesting deeper than 32. Errors say at which byte.
 *
 * Tensor data does not become values here: at `inputs[*].data` the scanner calls back, and whoever is called moves `at`
 * behind the data. Rejected: `JSON.parse` with a reviver, which makes an object of each element first; an index of all
 * structure before (simdjson), which without SIMD is a second pass.
 */
import { bufferOf, numberEnd, textOf } from './numbers.ts'

export type Json = Readonly<Record<string, unknown>>

/** Called in front of the value of `data`, with what its tensor has said so far. Must leave `at` behind the value. */
export type ReadData = (tensor: Json, scanner: Scanner) => unknown

/** What is wrong with a document, as a sentence without a subject. */
export class NotJson extends Error {}

const maxDepth = 32

/** Where a value is in a request. Other parts of it are values like any others. */
type Place = 'root' | 'inputs' | 'input' | 'elsewhere'

export const quote = 0x22
const backslash = 0x5c
export const comma = 0x2c
export const listStart = 0x5b
export const listEnd = 0x5d
const objectStart = 0x7b
const objectEnd = 0x7d

/** Short strings that came lately: requests to a model have the same keys and names, and a new string costs more. */
const lately = Array.from({ length: 256 }, () => '')
const longestKept = 24

export class Scanner {
  readonly bytes: Uint8Array
  /** The next byte to be read. */
  at = 0
  /** Whether the last string that was skipped has escapes in it. */
  escaped = false
  #depth = 0
  readonly #readData: ReadData

  /** `bytes` must be UTF-8. */
  constructor(bytes: Uint8Array, readData: ReadData) {
    this.bytes = bytes
    this.#readData = readData
  }

  /** The whole of the bytes as one value. Throws NotJson. */
  document(): unknown {
    const value = this.#value('root')
    this.space()
    if (this.at < this.bytes.length) this.fail('nothing may follow its end')
    return value
  }

  /** Goes to the next byte that is not white space; undefined at the end. */
  space(): number | undefined {
    const { bytes } = this
    let p = this.at
    let byte = bytes[p]
    // Most often there is none.
    if (byte! > 0x20) return byte
    while (isSpace(byte)) byte = bytes[++p]
    this.at = p
    return byte
  }

  value(): unknown {
    return this.#value('elsewhere')
  }

  #value(place: Place): unknown {
    const byte = this.space()
    if (byte === quote) return this.#string()
    if (byte === objectStart) return this.#object(place)
    if (byte === listStart) return this.#list(place)
    const from = this.at
    const literal = this.#skipScalar(byte)
    return literal === undefined ? this.#number(from) : literal
  }

  /** What has been skipped from `from` on. Dimensions and the like are short and whole. */
  #number(from: number): number {
    const { bytes, at } = this
    let value = 0
    let p = at - from < 10 ? from : at
    for (; p < at && bytes[p]! >= 0x30 && bytes[p]! <= 0x39; p++) value = value * 10 + bytes[p]! - 0x30
    return p === at && at - from < 10 ? value : Number(textOf(bytes, from, at))
  }

  /** Undefined for a number, whose text nobody may need. */
  #skipScalar(byte: number | undefined): boolean | null | undefined {
    if (byte === 0x74) return this.#literal('true', true)
    if (byte === 0x66) return this.#literal('false', false)
    if (byte === 0x6e) return this.#literal('null', null)
    const end = numberEnd(this.bytes, this.at)
    if (end < 0) this.#failAtScalar()
    this.at = end
    return undefined
  }

  #literal<T>(text: string, value: T): T {
    for (let i = 0; i < text.length; i++) {
      if (this.bytes[this.at + i] !== text.charCodeAt(i)) this.#failAtScalar()
    }
    this.at += text.length
    return value
  }

  #object(place: Place): Json {
    this.#enter()
    const object: Record<string, unknown> = {}
    if (this.space() === objectEnd) return this.#leave(object)
    for (;;) {
      if (this.space() !== quote) this.fail('a key in double quotes is missing')
      const from = this.at
      const key = this.#string()
      if (key === '__proto__') this.#refuse('the key "__proto__" is not taken', from)
      if (Object.hasOwn(object, key)) this.#refuse('an object has the same key twice', from)
      if (this.space() !== 0x3a) this.fail('a colon is missing')
      this.at++
      if (place === 'input' && key === 'data') object[key] = this.#readData(object, this)
      else object[key] = this.#value(place === 'root' && key === 'inputs' ? 'inputs' : 'elsewhere')
      const byte = this.space()
      if (byte === objectEnd) return this.#leave(object)
      if (byte !== comma) this.fail('a comma or a closing brace is missing')
      this.at++
    }
  }

  #list(place: Place): unknown[] {
    const inner = place === 'inputs' ? 'input' : 'elsewhere'
    const list: unknown[] = []
    this.#enter()
    if (this.space() === listEnd) return this.#leave(list)
    do list.push(this.#value(inner))
    while (this.#more())
    return this.#leave(list)
  }

  /** Reads past a value without making one. Of a list it says how many elements it has. */
  skip(): number {
    const byte = this.space()
    if (byte === listStart) return this.#skipList()
    if (byte === quote) this.skipString()
    // An object's keys must be looked at.
    else if (byte === objectStart) this.value()
    else this.#skipScalar(byte)
    return 0
  }

  #skipList(): number {
    this.#enter()
    if (this.space() === listEnd) return this.#leave(0)
    let count = 0
    do {
      this.skip()
      count++
    } while (this.#more())
    return this.#leave(count)
  }

  /** Behind an element of a list: whether another follows. */
  #more(): boolean {
    const byte = this.space()
    if (byte === listEnd) return false
    if (byte !== comma) this.fail('a comma or a closing bracket is missing')
    this.at++
    return true
  }

  #enter(): void {
    if (++this.#depth > maxDepth) this.#refuse(`it nests deeper than ${maxDepth}`, this.at)
    this.at++
  }

  #leave<T>(value: T): T {
    this.#depth--
    this.at++
    return value
  }

  #string(): string {
    const { bytes } = this
    const from = this.at + 1
    let p = from
    let all = 0
    let hash = 0
    let byte = bytes[p]!
    for (; byte !== quote; byte = bytes[++p]!) {
      if (byte === backslash || !(byte >= 0x20)) return this.#longString()
      all |= byte
      hash = (hash * 31 + byte) | 0
    }
    this.at = p + 1
    if (all > 0x7f) return utf8Of(bytes, from, p)
    return p - from > longestKept ? textOf(bytes, from, p) : keptString(bytes, from, p, hash & 0xff)
  }

  #longString(): string {
    const from = this.at
    this.skipString()
    return JSON.parse(utf8Of(this.bytes, from, this.at)) as string
  }

  /** Reads past a string, and says by `escaped` whether its bytes are its text. */
  skipString(): void {
    const { bytes } = this
    this.escaped = false
    for (let p = this.at + 1; ; p++) {
      const byte = bytes[p]!
      if (byte === quote) {
        this.at = p + 1
        return
      }
      if (byte === backslash) {
        this.escaped = true
        const length = escapeLength(bytes, p)
        if (length === 0) this.#failIn('a string has an escape that does not exist', p)
        p += length - 1
      } else if (!(byte >= 0x20)) this.#failIn('a string has a control character, or no end', p)
    }
  }

  #failAtScalar(): never {
    const start = this.bytes[this.at] === 0x2d ? this.bytes[this.at + 1] : this.bytes[this.at]
    // N and I.
    if (start === 0x4e || start === 0x49) {
      this.#failIn('NaN and Infinity have no form in it, send such tensors as binary data', this.at)
    }
    const end = this.bytes.length
    const known = this.bytes[this.at] === undefined || (start === undefined && this.at + 1 === end)
    this.#failIn(known ? 'it ends too early' : 'a value is missing or misspelt', known ? end : this.at)
  }

  /** `what` is wrong, unless the bytes just end here. */
  fail(what: string): never {
    this.#failIn(this.at < this.bytes.length ? what : 'it ends too early', this.at)
  }

  #failIn(what: string, at: number): never {
    throw new NotJson(`not JSON: ${at < this.bytes.length ? what : 'it ends too early'}, at byte ${at}`)
  }

  #refuse(what: string, at: number): never {
    throw new NotJson(`not JSON as it is taken here: ${what}, at byte ${at}`)
  }
}

export function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** Zero if there is no such escape. */
function escapeLength(bytes: Uint8Array, at: number): number {
  const kind = bytes[at + 1]
  if (kind !== 0x75) return kind !== undefined && '"\\/bfnrt'.includes(String.fromCharCode(kind)) ? 2 : 0
  return /^[\da-f]{4}$/i.test(textOf(bytes, at + 2, Math.min(at + 6, bytes.length))) ? 6 : 0
}

function utf8Of(bytes: Uint8Array, from: number, to: number): string {
  return bufferOf(bytes).toString('utf8', from, to)
}

function keptString(bytes: Uint8Array, from: number, to: number, slot: number): string {
  const kept = lately[slot]!
  let i = kept.length === to - from ? kept.length : -1
  while (i > 0 && kept.charCodeAt(i - 1) === bytes[from + i - 1]) i--
  return i === 0 ? kept : (lately[slot] = textOf(bytes, from, to))
}
