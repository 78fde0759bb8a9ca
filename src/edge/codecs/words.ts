/** Where JSON's tokens begin and end: white space, and the words that are numbers, literals, or misspelt. */
import { maxNumberBytes } from './numbers.ts'
import type { Window } from './window.ts'

/** Goes to the next byte that is not white space; undefined if there is none yet. */
export function skipSpace(window: Window): number | undefined {
  const { bytes } = window
  let p = window.at
  let byte = bytes[p]
  // Most often there is none.
  if (byte! > 0x20) return byte
  while (isSpace(byte)) byte = bytes[++p]
  window.at = p
  return byte
}

export function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** The place behind whatever may be part of a number or a literal, as far as one can be long. */
export function wordEnd(bytes: Uint8Array, at: number): number {
  const last = at + maxNumberBytes
  let p = at
  while (p <= last && isWordByte(bytes[p])) p++
  return p
}

/** Whether a word may go on behind the bytes. One that is too long for anything need not be waited for. */
export function isCutWord(bytes: Uint8Array, at: number): boolean {
  return bytes.length - at <= maxNumberBytes && wordEnd(bytes, at) === bytes.length
}

/** Letters, digits, signs and the point. */
function isWordByte(byte: number | undefined): boolean {
  if (byte === undefined) return false
  const letter = byte | 0x20
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (letter >= 0x61 && letter <= 0x7a) ||
    byte === 0x2e ||
    byte === 0x2d ||
    byte === 0x2b
  )
}
