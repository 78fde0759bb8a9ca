/**
 * A tensor's `data` that comes before its name, datatype or shape, which the protocol allows: kept as bytes until it is
 * known how to read them. Only where it ends is looked for; what is in it is judged when it is read.
 */
import { GrowingBytes, type Lease } from '../../core/arena.ts'
import { invalid, noMemory } from './complaints.ts'
import { notAList } from './elements.ts'
import { listEnd, listStart, objectEnd, objectStart, type Progress, type ValueReader } from './scanner.ts'
import { skipSpace } from './words.ts'
import { quote } from './strings.ts'
import type { Window } from './window.ts'

const backslash = 0x5c

export class HeldReader implements ValueReader {
  /** Where in the body it begins. */
  place = 0
  readonly #held: GrowingBytes
  #depth = 0
  #inString = false
  #escaped = false

  constructor(lease: Lease) {
    this.#held = new GrowingBytes(lease)
  }

  /** Once they are settled. */
  get bytes(): Uint8Array {
    return this.#held.bytes
  }

  settle(bytes: number): boolean {
    return this.#held.settle(bytes)
  }

  read(window: Window): Progress {
    const { bytes } = window
    if (this.#depth === 0) {
      const byte = skipSpace(window)
      if (byte === undefined) return 'hungry'
      if (byte !== listStart) return invalid(`an input: ${notAList}`)
      this.place = window.placeOf(window.at)
    }
    const from = window.at
    const end = this.#findEnd(bytes, from)
    window.at = end < 0 ? bytes.length : end
    if (!this.#held.append(bytes.subarray(from, window.at))) return noMemory()
    return end < 0 ? 'hungry' : 'done'
  }

  #findEnd(bytes: Uint8Array, from: number): number {
    let depth = this.#depth
    let inString = this.#inString
    let escaped = this.#escaped
    let end = -1
    for (let p = from; p < bytes.length && end < 0; p++) {
      const byte = bytes[p]!
      if (escaped) escaped = false
      else if (byte === quote) inString = !inString
      else if (inString) escaped = byte === backslash
      else if (byte === listStart || byte === objectStart) depth++
      else if ((byte === listEnd || byte === objectEnd) && --depth === 0) end = p + 1
    }
    this.#depth = depth
    this.#inString = inString
    this.#escaped = escaped
    return end
  }
}
