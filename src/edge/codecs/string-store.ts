/**
 * BYTES elements out of JSON strings, straight to where they stay, in as many pieces as they come: an element may be an
 * image of megabytes, so it is neither collected first nor made a JavaScript string.
 */
import { isUtf8 } from 'node:buffer'
import { GrowingBytes, type Lease } from '../../core/arena.ts'
import type { TensorData } from '../../core/tensor.ts'
import { sliceBytes } from './decoder.ts'
import type { Cursor } from './numbers.ts'
import { GrowingArray, notWhole, type ElementStore, type StoreProblem } from './store.ts'
import { cutUnit, noUnit, plainEscapes, quote, unitAt, unitEscape } from './strings.ts'

const backslash = 0x5c

export class StringStore implements ElementStore {
  problem: StoreProblem | undefined
  readonly #bytes: GrowingBytes
  readonly #offsets: GrowingArray<Uint32Array>
  /** Whether the beginning of an element has been read and not its end. */
  #isOpen = false
  /** The first half of a surrogate pair whose second half must come next. */
  #high = 0

  constructor(lease: Lease) {
    this.#bytes = new GrowingBytes(lease)
    this.#offsets = new GrowingArray('UINT32', lease)
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  get capacity(): number {
    return Math.max(0, this.#offsets.capacity - 1)
  }

  grow(capacity: number): boolean {
    const isFirst = this.#offsets.capacity === 0
    if (!this.#offsets.grow(capacity + 1)) return false
    if (isFirst) this.#offsets.data![0] = 0
    return true
  }

  settle(bytes: number): void {
    this.#offsets.settle(bytes)
  }

  read(bytes: Uint8Array, at: number, cursor: Cursor): number {
    let p = at
    if (!this.#isOpen) {
      if (bytes[at] !== quote) return -1
      this.#isOpen = true
      p++
    }
    for (;;) {
      p = this.#readPlain(bytes, p)
      if (p < 0) return -1
      cursor.at = p
      const byte = bytes[p]
      // Or a character that is cut.
      if (byte === undefined || byte > 0x7f) return notWhole
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

  finish(count: number): TensorData | undefined {
    if (!this.#offsets.settle(sliceBytes) || !this.#bytes.settle(sliceBytes)) return undefined
    return { offsets: this.#offsets.data!.subarray(0, count + 1), bytes: this.#bytes.bytes }
  }

  /** Takes the text that stands for itself; returns the place behind, or -1. */
  #readPlain(bytes: Uint8Array, from: number): number {
    let all = 0
    let p = from
    for (; p < bytes.length; p++) {
      const byte = bytes[p]!
      if (byte === quote || byte === backslash || byte < 0x20) break
      all |= byte
    }
    if (p === bytes.length && all > 0x7f) p -= cutBytes(bytes, from)
    if (p === from) return p
    if (this.#high > 0) return this.#failed(halfPair)
    if (all > 0x7f && !isUtf8(bytes.subarray(from, p))) return this.#failed({ why: 'is not UTF-8' })
    return this.#bytes.appendFrom(bytes, from, p) ? p : this.#failed('memory')
  }

  /** How many bytes an escape has; 0 if they have not all come, negative if it is wrong. */
  #readEscape(bytes: Uint8Array, at: number): number {
    const kind = bytes[at + 1]
    if (kind === undefined) return 0
    const plain = plainEscapes[kind]!
    if (plain > 0) return this.#putCharacter(plain) ? 2 : -1
    const unit = kind === unitEscape ? unitAt(bytes, at + 2) : noUnit
    if (unit === noUnit) return this.#failed({ notJson: 'a string has an escape that does not exist', at })
    if (unit === cutUnit) return 0
    return this.#putUnit(unit) ? 6 : -1
  }

  #putUnit(unit: number): boolean {
    if (unit === 0) return this.#fail({ why: 'holds a NUL character, where ONNX Runtime would cut it' })
    if (unit >= 0xd800 && unit < 0xdc00) {
      if (this.#high > 0) return this.#fail(halfPair)
      this.#high = unit
      return true
    }
    if (unit < 0xdc00 || unit > 0xdfff) return this.#putCharacter(unit)
    if (this.#high === 0) return this.#fail(halfPair)
    const character = 0x10000 + (this.#high - 0xd800) * 0x400 + unit - 0xdc00
    this.#high = 0
    return this.#putCharacter(character)
  }

  /** In UTF-8 (RFC 3629 section 3). */
  #putCharacter(code: number): boolean {
    if (this.#high > 0) return this.#fail(halfPair)
    const bytes = this.#bytes
    if (!bytes.makeRoom(4)) return this.#fail('memory')
    if (code < 0x80) bytes.put(code)
    else {
      if (code < 0x800) bytes.put(0xc0 | (code >> 6))
      else {
        if (code < 0x10000) bytes.put(0xe0 | (code >> 12))
        else {
          bytes.put(0xf0 | (code >> 18))
          bytes.put(0x80 | ((code >> 12) & 0x3f))
        }
        bytes.put(0x80 | ((code >> 6) & 0x3f))
      }
      bytes.put(0x80 | (code & 0x3f))
    }
    return true
  }

  #close(cursor: Cursor): boolean {
    if (this.#high > 0) return this.#fail(halfPair)
    this.#isOpen = false
    this.#offsets.data![++cursor.next] = this.#bytes.length
    return true
  }

  #fail(problem: StoreProblem): false {
    this.problem = problem
    return false
  }

  #failed(problem: StoreProblem): -1 {
    this.problem = problem
    return -1
  }
}

/** How many bytes at the end are the beginning of a character whose others have not come. */
function cutBytes(bytes: Uint8Array, from: number): number {
  for (let back = 1; back <= 3 && bytes.length - back >= from; back++) {
    const byte = bytes[bytes.length - back]!
    if ((byte & 0xc0) === 0x80) continue
    const whole = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
    return whole > back ? back : 0
  }
  return 0
}

const halfPair = { why: 'holds half of a surrogate pair' }
