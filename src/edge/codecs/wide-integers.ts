/** Decimal digits in memory to integers of 64 bits, without making a BigInt of each: see `numbers.ts`. */
import {
  isPlain,
  isWhole,
  minus,
  shortDigits,
  slow,
  space,
  textOf,
  tokenEnd,
  turnedComma,
  zero,
  type Cursor,
} from './numbers.ts'

type Bigs = BigInt64Array | BigUint64Array

/** -9223372036854775808 */
const longestBig = 20

/**
 * Like `readIntegers`, for 64 bits, written as two words of 32; 18 digits are never out of their range. The loop stands
 * here again on purpose: one loop for both, told how to store, took about half as long again for UINT8.
 */
export function readBigs(bytes: Uint8Array, from: number, data: Bigs, cursor: Cursor): number {
  const words = new Int32Array(data.buffer, data.byteOffset, 2 * data.length)
  const unsigned = data instanceof BigUint64Array
  let at = from
  for (let i = cursor.next; ;) {
    cursor.at = at
    cursor.next = i
    const first = bytes[at] === minus ? at + 1 : at
    let p = first
    let digit = bytes[p]! ^ zero
    let digits = 0
    for (; digit < 10; digit = bytes[++p]! ^ zero) digits = (Math.imul(digits, 10) + digit) | 0
    if (p - first > shortDigits && isPlain(bytes, first, p, 2 * shortDigits) && (first === at || !unsigned)) {
      storeHalves(words, 2 * i, digitsIn(bytes, first, p - shortDigits), digitsIn(bytes, p - shortDigits, p))
      if (first > at) negate(words, 2 * i)
    } else {
      if (!isPlain(bytes, first, p, shortDigits)) return slow(readLongBig(bytes, at, data, i), cursor)
      const negative = first > at && digits > 0
      if (negative && unsigned) return -1
      words[2 * i] = negative ? -digits : digits
      words[2 * i + 1] = negative ? -1 : 0
    }
    i++
    at = p + 1
    const isLast = digit !== turnedComma || i === cursor.end || at + 1 >= cursor.limit
    if (!isLast && bytes[at] === space) at++
    if (isLast || bytes[at]! <= space) {
      cursor.next = i
      return p
    }
  }
}

/** With more digits than a double holds, or written another way than as digits. */
function readLongBig(bytes: Uint8Array, at: number, data: Bigs, i: number): number {
  const end = tokenEnd(bytes, at)
  if (end < 0) return -1
  const text = textOf(bytes, at, end)
  // So many digits are out of range, and long to turn into a number.
  if (end - at > longestBig && isWhole(text)) return -1
  const value = isWhole(text) ? BigInt(text) : exactOf(Number(text))
  if (value === undefined) return -1
  data[i] = value
  return data[i] === value ? end : -1
}

/** The number that at most nine digits make. */
function digitsIn(bytes: Uint8Array, from: number, to: number): number {
  let value = 0
  for (let p = from; p < to; p++) value = (Math.imul(value, 10) + bytes[p]! - zero) | 0
  return value
}

/** Stores two halves of nine digits as two words of 32 bits: every sum and product stays below 2^53. */
function storeHalves(words: Int32Array, at: number, high: number, low: number): void {
  const upper = (high >>> 16) * 1e9
  const sum = (upper % 65_536) * 65_536 + (high & 0xffff) * 1e9 + low
  words[at] = sum
  words[at + 1] = Math.floor(upper / 65_536) + Math.floor(sum / 2 ** 32)
}

/** In two's complement. */
function negate(words: Int32Array, at: number): void {
  const low = words[at]!
  words[at] = -low
  words[at + 1] = low === 0 ? -words[at + 1]! : ~words[at + 1]!
}

function exactOf(value: number): bigint | undefined {
  return Number.isSafeInteger(value) ? BigInt(value) : undefined
}
