/**
 * Decimal digits in memory to numbers in a typed array. Each reader takes the place of a token and stores its value as
 * element `i`; it returns the place behind the token, or -1 for whatever is not such a number or does not fit: the caller
 * then looks again, slowly, for words. Positions and not values are returned because a double that leaves a function
 * costs an allocation. Every value is bit for bit what `JSON.parse` and a store into the array would have given.
 *
 * Digits go into two halves of nine, so that the loops stay in 32-bit arithmetic. A mantissa below 2^53 times or over a
 * power of ten up to 10^22 is rounded once (W. D. Clinger, PLDI 1990). Anything longer has an interval around it, and is
 * taken if both ends are the same element: always for FP32 printed as doubles, as Python does. Rejected: Eisel-Lemire,
 * whose 128-bit products cost more in JavaScript than `Number` on the rare rest.
 */

/** Where reading a list's elements is. */
export interface Cursor {
  /** The beginning of the last token that was looked at. */
  at: number
  /** The next element to be stored. */
  next: number
  /** The element for which there is no room, or no place. */
  end: number
  /**
   * The byte before which no token is cut: the one before it stands behind a number. Nothing is read beyond, because code
   * that has once read behind the end of its bytes is slower ever after.
   */
  limit: number
}

/** Reads and stores one element, and may go on with those behind it; moves the cursor. */
export type ReadElements = (bytes: Uint8Array, at: number, data: never, cursor: Cursor) => number
type ReadElement = (bytes: Uint8Array, at: number, data: never, i: number) => number

type Floats = Float32Array | Float64Array
/** What `readIntegers` fills: its datatypes of at most 32 bits. */
type Integers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array

/** Of a number that is taken. A double written out in full has 1,077 characters at most. */
export const maxNumberBytes = 2_048

export const zero = 0x30
const nine = 0x39
/** As many digits as always fit into 32 bits. */
export const shortDigits = 9
export const minus = 0x2d
const plus = 0x2b
const point = 0x2e
export const space = 0x20
/** As they are when the bits of 0x30 are turned. */
export const turnedComma = 0x2c ^ zero
const turnedPoint = point ^ zero
const turnedE = 0x45 ^ zero
const turnedSmallE = 0x65 ^ zero
const signs = Float64Array.of(1, -1)
const maxExact = 2 ** 53
/** The last power of ten that a double holds exactly. */
const exactPower = 22
const powers = Float64Array.from({ length: exactPower + 1 }, (_, exponent) => Number(`1e${exponent}`))
/** At most three roundings, of 2^-53 each; the rest is room for those of the ends themselves. */
const below = 1 - 2 ** -50
const above = 1 + 2 ** -50
/** Near the end of FP32's range the slow way decides. */
const safelyFinite = 3e38

/**
 * The place behind a number as RFC 8259 section 6 writes it; -1 if there is none. Whatever goes on for more than
 * `maxNumberBytes` is told by a place beyond them, and not followed to its end.
 */
export function numberEnd(bytes: Uint8Array, at: number): number {
  const last = at + maxNumberBytes
  let p = bytes[at] === minus ? at + 1 : at
  if (bytes[p] === zero) p++
  else if ((p = digitsEnd(bytes, p, last)) < 0) return -1
  if (bytes[p] === point && (p = digitsEnd(bytes, p + 1, last)) < 0) return -1
  if ((bytes[p]! | 0x20) === 0x65) {
    p++
    if (bytes[p] === plus || bytes[p] === minus) p++
    p = digitsEnd(bytes, p, last)
  }
  // 01: a digit cannot follow a whole number.
  return isDigit(bytes[p]) && p <= last ? -1 : p
}

/** The same, for a number that is not too long. */
export function tokenEnd(bytes: Uint8Array, at: number): number {
  const end = numberEnd(bytes, at)
  return end - at > maxNumberBytes ? -1 : end
}

/** Behind the digits at `at`; -1 if there are none. Not far beyond `last`, where it does not matter any more. */
function digitsEnd(bytes: Uint8Array, at: number, last: number): number {
  let p = at
  while (p <= last && isDigit(bytes[p])) p++
  return p === at && p <= last ? -1 : p
}

/** False behind the end as well, where there is no byte. */
function isDigit(byte: number | undefined): boolean {
  return byte! >= zero && byte! <= nine
}

export function textOf(bytes: Uint8Array, from: number, to: number): string {
  return bufferOf(bytes).toString('latin1', from, to)
}

/** Bodies are buffers already, and another one costs as much as to read a short text. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/**
 * Hot, and all in one piece for it: what is passed on would be passed as doubles. It goes on from number to number while
 * nothing but a comma and a space is between them, because to be called costs a fifth of the whole. A digit is told from
 * other bytes, and from no byte, by one comparison: only 0x30 to 0x39 with the bits of 0x30 turned are below 10. Signs
 * are as good as random, and a branch on them would be mispredicted; so `sign` is a number: of all that may come first
 * only the minus has no bit 4. `half` takes the first nine digits and `rest` nine more; `kept` counts those behind the point.
 */
export function readFloats(bytes: Uint8Array, from: number, data: Floats, cursor: Cursor): number {
  let at = from
  let i = cursor.next
  for (;;) {
    cursor.at = at
    cursor.next = i
    const start = bytes[at]!
    const sign = (~start >> 4) & 1
    if ((start - minus) & -sign) return -1
    const first = at + sign
    let p = first
    let digit = bytes[p]! ^ zero
    let half = 0
    for (; digit < 10; digit = bytes[++p]! ^ zero) half = (Math.imul(half, 10) + digit) | 0
    const whole = p - first
    if (whole === 0) return -1
    if (whole > 1 && (whole > 9 || bytes[first] === zero)) return slow(readSlowly(bytes, at, data, i), cursor)
    let kept = 0
    let mantissa = half
    let dropped = 0
    if (digit === turnedPoint) {
      const fraction = ++p
      const full = fraction + 9 - whole
      digit = bytes[p]! ^ zero
      for (; digit < 10 && p < full; digit = bytes[++p]! ^ zero) half = (Math.imul(half, 10) + digit) | 0
      kept = p - fraction
      mantissa = half
      if (digit < 10) {
        let rest = 0
        const end = p + 9
        for (; digit < 10 && p < end; digit = bytes[++p]! ^ zero) rest = (Math.imul(rest, 10) + digit) | 0
        // The product is exact: half has at most 30 bits, and 5^9 has 21.
        mantissa = half * powers[p - fraction - kept]! + rest
        kept = p - fraction
        for (; digit < 10; digit = bytes[++p]! ^ zero) dropped = 1
      } else if (kept === 0) return -1
    }
    if (digit === turnedSmallE || digit === turnedE) return slow(readScaled(bytes, at, data, i), cursor)
    const value = (mantissa / powers[kept]!) * signs[sign]!
    if (mantissa < maxExact && dropped === 0) {
      data[i] = value
    } else {
      if (p - at > maxNumberBytes) return -1
      // What was dropped is less than one of the last digit that was kept.
      data[i] = dropped === 0 ? value * above : ((mantissa + 1) / powers[kept]!) * signs[sign]! * above
      const outer = data[i]
      data[i] = value * below
      if (data[i] !== outer) return slow(readSlowly(bytes, at, data, i), cursor)
    }
    i++
    at = p + 1
    const isLast = digit !== turnedComma || i === cursor.end || at + 1 >= cursor.limit
    if (!isLast && bytes[at] === space) at++
    // More white space than that is left to the caller.
    if (isLast || bytes[at]! <= space) {
      cursor.next = i
      return p
    }
  }
}

export function slow(end: number, cursor: Cursor): number {
  if (end >= 0) cursor.next++
  return end
}

/** A reader of one element at a time as one of as many as there are. */
export function oneByOne(read: ReadElement): ReadElements {
  return (bytes, at, data, cursor) => slow(read(bytes, at, data, cursor.next), cursor)
}

/** Numbers with an exponent: rarer, so a little slower, with the digits as one mantissa. */
function readScaled(bytes: Uint8Array, at: number, data: Floats, i: number): number {
  const end = tokenEnd(bytes, at)
  if (end < 0) return -1
  let mantissa = 0
  let scale = 0
  let exponent = 0
  let p = bytes[at] === minus ? at + 1 : at
  for (; isDigit(bytes[p]); p++) mantissa = mantissa * 10 + bytes[p]! - zero
  if (bytes[p] === point) for (p++; isDigit(bytes[p]); p++, scale--) mantissa = mantissa * 10 + bytes[p]! - zero
  // Beyond 2^53 the sum above was rounded more than once.
  if (mantissa >= maxExact) return readSlowly(bytes, at, data, i)
  p++
  const sign = bytes[p]
  if (sign === plus || sign === minus) p++
  for (; p < end && exponent < 1e4; p++) exponent = exponent * 10 + bytes[p]! - zero
  scale += sign === minus ? -exponent : exponent
  if (scale < -exactPower || scale > exactPower) return readSlowly(bytes, at, data, i)
  const value = scale < 0 ? mantissa / powers[-scale]! : mantissa * powers[scale]!
  if (value > safelyFinite) return readSlowly(bytes, at, data, i)
  data[i] = bytes[at] === minus ? -value : value
  return end
}

/** Like `readFloats`, with NaN, Infinity and -Infinity as Python and Triton write them. */
export function readAnyFloats(bytes: Uint8Array, from: number, data: Floats, cursor: Cursor): number {
  const behind = readFloats(bytes, from, data, cursor)
  return behind < 0 ? slow(readWord(bytes, cursor.at, data, cursor.next), cursor) : behind
}

function readWord(bytes: Uint8Array, at: number, data: Floats, i: number): number {
  for (const word of ['NaN', 'Infinity', '-Infinity']) {
    const end = at + word.length
    if (textOf(bytes, at, Math.min(end, bytes.length)) !== word) continue
    data[i] = Number(word)
    return end
  }
  return -1
}

function readSlowly(bytes: Uint8Array, at: number, data: Floats, i: number): number {
  const end = tokenEnd(bytes, at)
  if (end < 0) return -1
  data[i] = Number(textOf(bytes, at, end))
  return Number.isFinite(data[i]) ? end : -1
}

/** Like `readFloats`, for whole numbers of up to nine digits; others are left to `readLongInteger`. */
export function readIntegers(bytes: Uint8Array, from: number, data: Integers, cursor: Cursor): number {
  let at = from
  for (let i = cursor.next; ;) {
    cursor.at = at
    cursor.next = i
    const first = bytes[at] === minus ? at + 1 : at
    let p = first
    let digit = bytes[p]! ^ zero
    let digits = 0
    for (; digit < 10; digit = bytes[++p]! ^ zero) digits = (Math.imul(digits, 10) + digit) | 0
    if (!isPlain(bytes, first, p, shortDigits)) return slow(readLongInteger(bytes, at, data, i), cursor)
    const value = first > at ? -digits : digits
    // What an array cannot hold it wraps: 300 as UINT8 becomes 44.
    data[i] = value
    if (data[i] !== value) return -1
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

/** Whether digits from `first` to `end` are a whole number without more to it, and no more than `most`. */
export function isPlain(bytes: Uint8Array, first: number, end: number, most: number): boolean {
  const length = end - first
  if (length === 0 || length > most || (length > 1 && bytes[first] === zero)) return false
  return bytes[end] !== point && (bytes[end]! | 0x20) !== 0x65
}

function readLongInteger(bytes: Uint8Array, at: number, data: Integers, i: number): number {
  const end = tokenEnd(bytes, at)
  if (end < 0) return -1
  const value = Number(textOf(bytes, at, end))
  data[i] = value
  return data[i] === value ? end : -1
}

/** Whether it is written with all its digits. */
export function isWhole(text: string): boolean {
  return /^-?\d+$/.test(text)
}
