/**
 * A tensor's JSON elements from bytes into typed memory, flat or nested as the shape says, without an array of JavaScript
 * values between. What is wrong is said of the first byte that is wrong, wherever the body was cut.
 */
import type { Lease } from '../../core/arena.ts'
import { elementCount, type TensorData } from '../../core/tensor.ts'
import type { Refusal } from '../../core/refusal.ts'
import type { TensorSpec } from '../../core/signature.ts'
import { badInput, misspelt, noMemory, notJson } from './complaints.ts'
import { misfitOf } from './misfits.ts'
import { maxNumberBytes, type Cursor } from './numbers.ts'
import { comma, listEnd, listStart } from './scanner.ts'
import { isSpace, skipSpace } from './words.ts'
import type { Progress, ValueReader } from './scanner.ts'
import { NumberStore } from './number-store.ts'
import { notWhole, type ElementStore, type StoreProblem } from './store.ts'
import { StringStore } from './string-store.ts'
import type { Window } from './window.ts'

export interface ElementOptions {
  readonly shape: readonly number[]
  /** Whether NaN, Infinity and -Infinity are taken for floats. */
  readonly nonFinite: boolean
}

/** So many elements get their memory at once; beyond it, as many as can be in the bytes that are there. */
const firstCapacity = 1_024
/** Each growth copies what is there; all of them together copy less than half of what there is in the end. */
const growth = 4
/** Elements between two looks at the memory, and what is moved then: growing fourfold, all is moved before it grows again. */
const elementsAtOnce = 8_192
const settledBytes = 65_536
/** Nothing has been seen yet that tells flat data from nested. */
const unknown = -1

export class ElementReader implements ValueReader {
  readonly spec: TensorSpec
  readonly shape: readonly number[]
  readonly #store: ElementStore
  readonly #count: number
  /** How many elements are in one list at each depth of brackets, if `data` is nested. */
  #sizes: readonly number[] = []
  /** The depth at which the elements are: 1 if `data` is flat. */
  #full: number
  #depth = 0
  /** Whether an element or a list comes next, and not what is behind one. */
  #wantsItem = true
  readonly #cursor: Cursor = { at: 0, next: 0, end: 0, limit: 0 }
  /** The element behind the list that is being read. */
  #rowEnd = 0
  /** The element before which the memory need not be looked at. */
  #roomEnd = 0

  constructor(spec: TensorSpec, { shape, nonFinite }: ElementOptions, lease: Lease) {
    this.spec = spec
    this.shape = shape
    this.#count = elementCount(shape)
    this.#full = shape.length > 1 ? unknown : 1
    const { datatype } = spec
    this.#store = datatype === 'BYTES' ? new StringStore(lease) : new NumberStore(datatype, nonFinite, lease)
  }

  /** All elements, once they are read; undefined if there is more to do. */
  finish(): TensorData | undefined {
    return this.#store.finish(this.#count)
  }

  read(window: Window): Progress {
    this.#cursor.limit = this.#wholeTokensEnd(window)
    for (;;) {
      const progress = this.#depth === this.#full ? this.#readRow(window) : this.#readBracket(window)
      if (progress !== undefined) return progress
    }
  }

  /** Behind the last byte at which no number can be cut. A string says itself whether it is whole. */
  #wholeTokensEnd({ bytes, at }: Window): number {
    let end = bytes.length
    if (this.spec.datatype !== 'BYTES') while (end > at && !isDelimiter(bytes[end - 1]!)) end--
    return end
  }

  /** One token of the brackets around the elements; undefined to go on. */
  #readBracket(window: Window): Progress | undefined {
    const byte = skipSpace(window)
    if (byte === undefined) return 'hungry'
    if (this.#depth === 0) return byte === listStart ? this.#enter(window) : badInput(this.spec.name, notAList)
    if (this.#full === unknown) return this.#settle(byte === listStart)
    if (this.#wantsItem) return byte === listStart ? this.#enter(window) : this.#failRagged()
    const listSize = this.#sizes[this.#depth - 1]!
    const isLast = this.#cursor.next % listSize === 0
    if (byte === listEnd) return isLast ? this.#leave(window) : this.#failRagged()
    if (byte !== comma) return this.#failAt(window, missingSeparator)
    if (isLast) return this.#failRagged()
    window.at++
    this.#wantsItem = true
    return undefined
  }

  /** Behind the first bracket: whether another one follows tells nested data from flat. */
  #settle(isNested: boolean): undefined {
    this.#full = isNested ? this.shape.length : 1
    if (isNested) this.#sizes = this.shape.map((_, axis) => elementCount(this.shape.slice(axis)))
  }

  #enter(window: Window): undefined {
    window.at++
    const size = this.#depth === 0 ? this.#count : this.#sizes[this.#depth]!
    this.#depth++
    this.#rowEnd = this.#cursor.next + size
    this.#cursor.end = Math.min(this.#rowEnd, this.#roomEnd)
  }

  #leave(window: Window): 'done' | undefined {
    window.at++
    this.#depth--
    this.#wantsItem = false
    return this.#depth === 0 ? 'done' : undefined
  }

  /** The elements of one list, to its end or to that of the window. */
  #readRow(window: Window): Progress | undefined {
    const { bytes } = window
    const cursor = this.#cursor
    let p = window.at
    for (;;) {
      if (this.#wantsItem) {
        if (!this.#store.isOpen) while (p < cursor.limit && isSpace(bytes[p])) p++
        if (p >= cursor.limit) return this.#pause(window, p)
        if (cursor.next === this.#rowEnd) return this.#failAtItem(window, p)
        if (cursor.next === cursor.end && !this.#makeRoom(bytes.length - p)) return noMemory()
        cursor.at = p
        const behind = this.#store.read(bytes, p, cursor)
        if (behind === notWhole) return this.#pause(window, cursor.at)
        if (behind < 0) return this.#failAtItem(window, cursor.at)
        p = behind
        this.#wantsItem = false
      }
      while (isSpace(bytes[p])) p++
      if (bytes[p] !== comma) break
      p++
      this.#wantsItem = true
    }
    window.at = p
    if (p >= bytes.length) return 'hungry'
    if (bytes[p] !== listEnd) return this.#failAt(window, missingSeparator)
    return cursor.next === this.#rowEnd ? this.#leave(window) : this.#failCount()
  }

  /** Says whether there is memory for one more element, given how many bytes there are for it and those behind. */
  #makeRoom(bytes: number): boolean {
    const { next } = this.#cursor
    const store = this.#store
    if (next === store.capacity) {
      // An element and its comma are two bytes at least.
      const wanted = Math.max(firstCapacity, Math.ceil(bytes / 2), next * growth)
      if (!store.grow(Math.min(this.#count, wanted))) return false
    }
    store.settle(settledBytes)
    this.#roomEnd = Math.min(store.capacity, next + elementsAtOnce)
    this.#cursor.end = Math.min(this.#rowEnd, this.#roomEnd)
    return true
  }

  #pause(window: Window, at: number): Progress {
    window.at = at
    const isTooLong = this.spec.datatype !== 'BYTES' && window.bytes.length - at > maxNumberBytes
    return isTooLong ? this.#readLongWord(window) : 'hungry'
  }

  /** What is too long for an element may begin with one: then what is wrong is behind it. */
  #readLongWord(window: Window): Refusal | 'hungry' {
    const { bytes, at } = window
    const cursor = this.#cursor
    if (cursor.next === this.#rowEnd) return this.#failAtItem(window, at)
    if (cursor.next === cursor.end && !this.#makeRoom(bytes.length - at)) return noMemory()
    // With an end to it, because nothing is read beyond.
    const word = new Uint8Array(maxNumberBytes + 2).fill(0x20)
    word.set(bytes.subarray(at, at + maxNumberBytes + 1))
    const length = this.#store.read(word, 0, { ...cursor, limit: 0 })
    if (length < 0) return misfitOf(this.spec, cursor.next, window)
    window.at = at + length
    return this.#failAt(window, missingSeparator)
  }

  /** What is at `at` is no element, or one too many. */
  #failAtItem(window: Window, at: number): Refusal | 'hungry' {
    const { next } = this.#cursor
    window.at = at
    const { problem } = this.#store
    if (problem) return this.#failStored(window, problem)
    const isEnd = window.bytes[at] === listEnd
    const rowStart = this.#rowEnd - (this.#depth === 1 ? this.#count : this.#sizes[this.#depth - 1]!)
    if (isEnd && next > rowStart) return this.#failAt(window, misspelt)
    if (isEnd || next === this.#rowEnd) return this.#failCount()
    return misfitOf(this.spec, next, window)
  }

  #failStored(window: Window, problem: StoreProblem): Refusal {
    const { name } = this.spec
    if (problem === 'memory') return noMemory()
    if ('notJson' in problem) return notJson(problem.notJson, window.placeOf(problem.at), name)
    return badInput(name, `element ${this.#cursor.next} ${problem.why}`)
  }

  #failCount(): Refusal {
    if (this.#full > 1) return this.#failRagged()
    const { next } = this.#cursor
    const found = next === this.#count ? `more than ${next}` : String(next)
    return badInput(this.spec.name, `its data holds ${found} elements but its shape needs ${this.#count}`)
  }

  /** Nested lists must be nested just as the shape says, or rows would silently slip into each other. */
  #failRagged(): Refusal {
    const depth = this.#wantsItem && this.#depth < this.#full ? this.#depth + 1 : this.#depth
    const size = this.shape[depth - 1]
    return badInput(this.spec.name, `its nested data must hold lists of ${size} at depth ${depth}, as its shape says`)
  }

  #failAt(window: Window, what: string): Refusal {
    return notJson(what, window.placeOf(window.at), this.spec.name)
  }
}

export const notAList = 'its data must be a list'
const missingSeparator = 'a comma or a closing bracket is missing'

/** What stands behind every number. */
function isDelimiter(byte: number): boolean {
  return byte === comma || byte === listEnd || isSpace(byte)
}
