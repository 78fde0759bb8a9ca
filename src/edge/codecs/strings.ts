/** JSON strings (RFC 8259 section 7) as bytes, in as many pieces as they come. */
import { isUtf8 } from 'node:buffer'
import { bufferOf, textOf } from './numbers.ts'

export const quote = 0x22
const backslash = 0x5c

/** Looks for the end of a string; one at a time, from its first piece to its last. */
export class StringEnd {
  /** Whether there are escapes in it, so that its bytes are not its text. */
  escaped = false
  /** Whether it goes beyond ASCII. */
  wide = false
  problem = ''
  /** Where in the bytes the problem is. */
  problemAt = 0
  /** How many bytes from the opening quote on are known to be no end. */
  #searched = 1

  /** Whether a string has been looked at that was not whole. */
  get begun(): boolean {
    return this.#searched > 1
  }

  /** The place behind the closing quote of the string at `at`; -1 if it has not come, or if there is a problem. */
  find(bytes: Uint8Array, at: number): number {
    let all = 0
    for (let p = at + this.#searched; ; p++) {
      const byte = bytes[p]!
      all |= byte
      if (byte === quote) {
        this.wide ||= all > 0x7f
        return p + 1
      }
      if (byte === backslash) {
        const length = escapeLength(bytes, p)
        if (length === 0) return this.#fail('a string has an escape that does not exist', p)
        if (length < 0) return this.#pause(all, p - at)
        this.escaped = true
        p += length - 1
      } else if (!(byte >= 0x20)) {
        if (byte === undefined) return this.#pause(all, p - at)
        return this.#fail('a string has a control character', p)
      }
    }
  }

  /** Forgets the string, for the next one. */
  reset(): void {
    this.escaped = false
    this.wide = false
    this.#searched = 1
  }

  #pause(all: number, searched: number): -1 {
    this.wide ||= all > 0x7f
    this.#searched = searched
    return -1
  }

  #fail(problem: string, at: number): -1 {
    this.problem = problem
    this.problemAt = at
    return -1
  }
}

/** What a letter behind a backslash stands for; 0 if that is for nothing, or for more than the letter. */
export const plainEscapes = new Uint8Array(256)
for (const [i, letter] of Object.entries('"\\/bfnrt'))
  plainEscapes[letter.charCodeAt(0)] = '"\\/\b\f\n\r\t'.charCodeAt(Number(i))

/** Of the escapes that stand for a UTF-16 unit. */
export const unitEscape = 0x75
/** A unit that has not come whole, and one that is none. */
export const cutUnit = -1
export const noUnit = -2

/** What a hexadecimal digit is worth; 16 for what is none. */
const digitValues = new Uint8Array(256).fill(16)
for (const digit of '0123456789abcdefABCDEF') digitValues[digit.charCodeAt(0)] = parseInt(digit, 16)

/** The UTF-16 unit in the four digits at `at`. */
export function unitAt(bytes: Uint8Array, at: number): number {
  let unit = 0
  for (let p = at; p < at + 4; p++) {
    if (p >= bytes.length) return cutUnit
    const value = digitValues[bytes[p]!]!
    if (value === 16) return noUnit
    unit = unit * 16 + value
  }
  return unit
}

/** Of an escape at `at`: 0 if there is no such one, -1 if that cannot be told yet. */
function escapeLength(bytes: Uint8Array, at: number): number {
  const kind = bytes[at + 1]
  if (kind === undefined) return -1
  if (kind !== unitEscape) return plainEscapes[kind]! > 0 ? 2 : 0
  const unit = unitAt(bytes, at + 2)
  if (unit === noUnit) return 0
  return unit === cutUnit ? -1 : 6
}

/** The text of a string whose end was found, between its quotes; undefined if its bytes are not UTF-8. */
export function stringText(
  bytes: Uint8Array,
  from: number,
  to: number,
  { escaped, wide }: StringEnd,
): string | undefined {
  if (wide && !isUtf8(bytes.subarray(from, to))) return undefined
  if (escaped) return JSON.parse(utf8Of(bytes, from - 1, to + 1)) as string
  return wide ? utf8Of(bytes, from, to) : textOf(bytes, from, to)
}

export function utf8Of(bytes: Uint8Array, from: number, to: number): string {
  return bufferOf(bytes).toString('utf8', from, to)
}
