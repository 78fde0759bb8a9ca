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

type Floats = Float32Array | Float64Array
type Bigs = BigInt64Array | BigUint64Array
/** What `readInteger` fills: its datatypes of at most 32 bits. */
type Integers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array

const zero = 0x30
const nine = 0x39
const minus = 0x2d
const plus = 0x2b
const point = 0x2e
const maxExact = 2 ** 53
/** The last power of ten that a double holds exactly. */
const exactPower = 22
const powers = Float64Array.from({ length: 65 }, (_, exponent) => Number(`1e${exponent}`))
/** At most three roundings, of 2^-53 each; the rest is room for those of the ends themselves. */
const below = 1 - 2 ** -50
const above = 1 + 2 ** -50
/** -9223372036854775808 */
const longestBig = 20
/** Near the end of FP32's range the slow way decides. */
const safelyFinite = 3e38

/** The place behind a number as RFC 8259 section 6 writes it; -1 if there is none. */
export function numberEnd(bytes: Uint8Array, at: number): number {
  let p = bytes[at] === minus ? at + 1 : at
  if (bytes[p] === zero) p++
  else if ((p = digitsEnd(bytes, p)) < 0) return -1
  if (bytes[p] === point && (p = digitsEnd(bytes, p + 1)) < 0) return -1
  if ((bytes[p]! | 0x20) === 0x65) {
    p++
    if (bytes[p] === plus || bytes[p] === minus) p++
    p = digitsEnd(bytes, p)
  }
  // 01: a digit cannot follow a whole number.
  return isDigit(bytes[p]) ? -1 : p
}

function digitsEnd(bytes: Uint8Array, at: number): number {
  let p = at
  while (isDigit(bytes[p])) p++
  return p === at ? -1 : p
}

/** False behind the end as well, where there is no byte. */
function isDigit(byte: number | undefined): boolean {
  return byte! >= zero && byte! <= nine
}

export function textOf(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1')
}

/**
 * Hot, and all in one piece for it: what is passed on would be passed as doubles. `half` takes the first nine digits
 * behind leading zeros and `rest` nine more; `kept` counts those behind the point.
 */
export function readFloat(bytes: Uint8Array, at: number, data: Floats, i: number): number {
  let p = at
  let byte = bytes[p]!
  const negative = byte === minus
  if (negative) byte = bytes[++p]!
  let half = 0
  const first = p
  if (byte === zero) byte = bytes[++p]!
  else {
    for (; byte >= zero && byte <= nine; byte = bytes[++p]!) half = (half * 10 + byte - zero) | 0
    if (p === first) return -1
    if (p - first > 9) return readSlowly(bytes, at, data, i)
  }
  const wholeDigits = p - first
  let kept = 0
  let rest = 0
  let restDigits = 0
  let dropped = false
  if (byte === point) {
    const fraction = p + 1
    byte = bytes[(p = fraction)]!
    if (half === 0) while (byte === zero) byte = bytes[++p]!
    const full = half === 0 ? p + 9 : fraction + 9 - wholeDigits
    for (; byte >= zero && byte <= nine && p < full; byte = bytes[++p]!) half = (half * 10 + byte - zero) | 0
    if (byte >= zero && byte <= nine) {
      const from = p
      for (; byte >= zero && byte <= nine && p < from + 9; byte = bytes[++p]!) rest = (rest * 10 + byte - zero) | 0
      restDigits = p - from
    }
    kept = p - fraction
    for (; byte >= zero && byte <= nine; byte = bytes[++p]!) dropped = true
    if (p === fraction) return -1
  }
  if (byte === 0x65 || byte === 0x45 || (byte >= zero && byte <= nine)) return readScaled(bytes, at, data, i)
  // Exact: half has at most 30 bits, and 5^9 has 21.
  const mantissa = restDigits === 0 ? half : half * powers[restDigits]! + rest
  if (kept <= exactPower && mantissa < maxExact && !dropped) {
    const value = kept === 0 ? mantissa : mantissa / powers[kept]!
    data[i] = negative ? -value : value
    return p
  }
  if (kept > 64) return readSlowly(bytes, at, data, i)
  data[i] = ((dropped ? mantissa + 1 : mantissa) / powers[kept]!) * above
  const upper = data[i]
  data[i] = (mantissa / powers[kept]!) * below
  if (data[i] !== upper) return readSlowly(bytes, at, data, i)
  if (negative) data[i] = -upper
  return p
}

/** Numbers with an exponent: rarer, so a little slower, with the digits as one mantissa. */
function readScaled(bytes: Uint8Array, at: number, data: Floats, i: number): number {
  const end = numberEnd(bytes, at)
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

function readSlowly(bytes: Uint8Array, at: number, data: Floats, i: number): number {
  const end = numberEnd(bytes, at)
  if (end < 0) return -1
  data[i] = Number(textOf(bytes, at, end))
  return Number.isFinite(data[i]) ? end : -1
}

export function readInteger(bytes: Uint8Array, at: number, data: Integers, i: number): number {
  let p = at
  let byte = bytes[p]!
  const negative = byte === minus
  if (negative) byte = bytes[++p]!
  const first = p
  let digits = 0
  for (; byte >= zero && byte <= nine; byte = bytes[++p]!) digits = (digits * 10 + byte - zero) | 0
  const length = p - first
  let value = negative ? -digits : digits
  const plain = length > 0 && length < 10 && byte !== point && (byte | 0x20) !== 0x65
  if (!plain || (bytes[first] === zero && length > 1)) {
    if ((p = numberEnd(bytes, at)) < 0) return -1
    value = Number(textOf(bytes, at, p))
  }
  // What an array cannot hold it wraps: 300 as UINT8 becomes 44, 1.5 becomes 1.
  data[i] = value
  return data[i] === value ? p : -1
}

export function readBig(bytes: Uint8Array, at: number, data: Bigs, i: number): number {
  const end = numberEnd(bytes, at)
  if (end < 0) return -1
  const text = textOf(bytes, at, end)
  // So many digits are out of range, and long to turn into a number.
  if (end - at > longestBig && isWhole(text)) return -1
  const value = isWhole(text) ? BigInt(text) : exactOf(Number(text))
  if (value === undefined) return -1
  data[i] = value
  return data[i] === value ? end : -1
}

/** Whether it is written with all its digits. */
export function isWhole(text: string): boolean {
  return /^-?\d+$/.test(text)
}

function exactOf(value: number): bigint | undefined {
  return Number.isSafeInteger(value) ? BigInt(value) : undefined
}
