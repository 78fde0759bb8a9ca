/**
 * BYTES elements out of JSON strings, straight to where they stay, in as many pieces as they come: an element may be an
 * image of megabytes, so it is neither collected first nor made a JavaScript string.
 */
import { isUtf8 } from 'node:buffer'
import { GrowingBytes, type Lease } from '../../core/arena.ts'
import type { TensorData } from '../../core/tensor.ts'
import { textOf, type Cursor } from './numbers.ts'
import { enlarge, notWhole, type ElementStore, type StoreProblem } from './store.ts'
import { quote } from './strings.ts'

const backslash = 0x5c

/** By the letter behind the backslash. */
const plainEscapes = new Map(
  Object.entries({ '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }).map(
    ([letter, meant]) => [letter.charCodeAt(0), meant.charCodeAt(0)],
  ),
)

export class StringStore implements ElementStore {
  problem: StoreProblem | undefined
  readonly #lease: Lease
  readonly #bytes: GrowingBytes
  #offsets: Uint32Array | undefined
  /** Whether the beginning of an element has been read and not its end. */
  #isOpen = false
  /** Whether the element goes beyond ASCII. */
  #isWide = false
  /** The first half of a surrogate pair whose second half must come next. */
  #high = 0

  constructor(lease: Lease) {
    this.#lease = lease
    this.#bytes = new GrowingBytes(lease)
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  get capacity(): number {
    return this.#offsets ? this.#offsets.length - 1 : 0
  }

  grow(capacity: number): boolean {
    const larger = enlarge(this.#offsets, 'UINT32', capacity + 1, this.#lease) as Uint32Array | undefined
    if (!larger) return false
    larger[0] = 0
    this.#offsets = larger
    return true
  }

  read(bytes: Uint8Array, at: number, cursor: Cursor): number {
    let p = at
    if (!this.#isOpen) {
      if (bytes[at] !== quote) return -1
      this.#isOpen = true
      p++
    }
    for (;;) {
      const end = this.#plainEnd(bytes, p)
      if (end > p && !this.#append(bytes.subarray(p, end))) return -1
      p = end
      cursor.at = p
      const byte = bytes[p]
      if (byte === undefined) return notWhole
      if (byte === quote) return this.#close(cursor) ? p + 1 : -1
      if (byte !== backslash) {
        this.#fail({ notJson: 'a string has a control character', at: p })
        return -1
      }
      const length = this.#readEscape(bytes, p)
      if (length <= 0) return length === 0 ? notWhole : -1
      p += length
    }
  }

  finish(count: number): TensorData {
    return { offsets: this.#offsets!.subarray(0, count + 1), bytes: this.#bytes.bytes }
  }

  /** The place of the next byte that is not part of the text as it stands. */
  #plainEnd(bytes: Uint8Array, from: number): number {
    let all = 0
    let p = from
    for (; p < bytes.length; p++) {
      const byte = bytes[p]!
      if (byte === quote || byte === backslash || byte < 0x20) break
      all |= byte
    }
    this.#isWide ||= all > 0x7f
    return p
  }

  #append(bytes: Uint8Array): boolean {
    if (this.#high > 0) return this.#fail(halfPair)
    return this.#bytes.append(bytes) || this.#fail('memory')
  }

  /** How many bytes an escape has; 0 if they have not all come, negative if it is wrong. */
  #readEscape(bytes: Uint8Array, at: number): number {
    const kind = bytes[at + 1]
    if (kind === undefined) return 0
    const plain = plainEscapes.get(kind)
    if (plain !== undefined) return this.#append(Buffer.of(plain)) ? 2 : -1
    const digits = textOf(bytes, at + 2, Math.min(at + 6, bytes.length))
    if (kind !== 0x75 || !/^[\da-f]*$/i.test(digits)) {
      this.#fail({ notJson: 'a string has an escape that does not exist', at })
      return -1
    }
    if (digits.length < 4) return 0
    return this.#putUnit(parseInt(digits, 16)) ? 6 : -1
  }

  #putUnit(unit: number): boolean {
    if (unit === 0) return this.#fail({ why: 'holds a NUL character, where ONNX Runtime would cut it' })
    if (unit >= 0xd800 && unit < 0xdc00) {
      if (this.#high > 0) return this.#fail(halfPair)
      this.#high = unit
      return true
    }
    if (unit < 0xdc00 || unit > 0xdfff) return this.#append(Buffer.from(String.fromCharCode(unit)))
    if (this.#high === 0) return this.#fail(halfPair)
    const pair = String.fromCharCode(this.#high, unit)
    this.#high = 0
    return this.#append(Buffer.from(pair))
  }

  #close(cursor: Cursor): boolean {
    if (this.#high > 0) return this.#fail(halfPair)
    const from = this.#offsets![cursor.next]!
    if (this.#isWide && !isUtf8(this.#bytes.bytes.subarray(from))) return this.#fail({ why: 'is not UTF-8' })
    this.#isOpen = false
    this.#isWide = false
    this.#offsets![++cursor.next] = this.#bytes.length
    return true
  }

  #fail(problem: StoreProblem): false {
    this.problem = problem
    return false
  }
}

const halfPair = { why: 'holds half of a surrogate pair' }
