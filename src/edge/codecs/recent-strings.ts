/** Short strings that came lately: requests to a model have the same keys and names, and making a string anew costs more than looking. */
import { textOf } from './numbers.ts'

/** In bytes. */
export const longestKept = 24

const kept = Array.from({ length: 256 }, () => '')

/** The string in some bytes of ASCII. `hash` is any number that depends on all of them. */
export function recentString(bytes: Uint8Array, from: number, to: number, hash: number): string {
  const slot = hash & (kept.length - 1)
  const last = kept[slot]!
  let i = last.length === to - from ? last.length : -1
  while (i > 0 && last.charCodeAt(i - 1) === bytes[from + i - 1]) i--
  return i === 0 ? last : (kept[slot] = asKey(textOf(bytes, from, to)))
}

/** The same text as the engine keeps it for names of properties: an object is then faster to fill and to read. */
function asKey(text: string): string {
  return Object.keys({ [text]: undefined })[0]!
}
