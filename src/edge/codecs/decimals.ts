/**
 * Numbers as decimals, straight into bytes: whole ones, and 32-bit floats as the shortest decimal that reads back to the
 * same float. JavaScript prints those as doubles, with about twice the digits.
 *
 * A float is scaled so that nine or ten digits stand before the point, which are as many as one ever needs, and so is half
 * the distance to its neighbours. Then as many digits are dropped, up to three, as leave it within that distance. A double
 * is precise enough by 27 bits to tell. Of the decimals with three digits less only one can be so near, so it has the
 * shortest form's digits and zeros behind. What is on the edge, or too near it to tell, gets one digit more: a reader might
 * round it the other way. Rejected: Ryu (U. Adams, PLDI 2018), whose 64-bit products have no fast form in JavaScript.
 */

const zero = 0x30
const minus = 0x2d
const point = 0x2e
const exponentSign = 0x65

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

const mostDigits = 9
const mostDropped = 3
const tens = Float64Array.of(1, 10, 100, 1_000)
const tenths = Float64Array.of(1, 0.1, 0.01, 0.001)

// By biased exponent. The least such float times ten to the power of the scale has nine digits before the point.
const scales = Int8Array.from(
  { length: 256 },
  (_, biased) => mostDigits - 1 - Math.floor((biased - 127) * Math.log10(2)),
)
const factors = Float64Array.from(scales, (scale) => Number(`1e${scale}`))
/** Half the distance between neighbours, scaled; a little less, because the scaling is rounded. */
const reaches = Float64Array.from(factors, (factor, biased) => 2 ** (biased - 127 - 24) * factor * (1 - 2 ** -24))

/** Two digits for each number below a hundred. */
const pairs = Uint8Array.from({ length: 200 }, (_, i) => zero + (i % 2 === 0 ? Math.floor(i / 20) : (i >> 1) % 10))

/**
 * Writes element `i`, which must be finite, at `at`; returns the place behind. There must be room for 32 bytes.
 * Hot, so the array is passed and not its element, because a double that is passed on costs an allocation; and always ten
 * digits are written, of which some are none, because loops of any length are mispredicted.
 */
export function writeFloat(target: Uint8Array, at: number, data: Float32Array, i: number): number {
  const value = data[i]!
  float[0] = value
  const all = bits[0]!
  let p = at
  if (all >>> 31) target[p++] = minus
  const biased = (all >>> 23) & 0xff
  const v = Math.abs(value)
  if (v < 1e7 && v === Math.floor(v)) return writeWhole(target, p, v | 0)
  if (biased === 0) return writeSlowly(target, p, v)
  const scaled = v * factors[biased]!
  const above = reaches[biased]!
  // Below a power of two the neighbour is only half as far away.
  const below = (all & 0x7fffff) === 0 ? -above / 2 : -above
  let mantissa = Math.floor(scaled + 0.5)
  let dropped = 0
  while (dropped < mostDropped) {
    const shorter = Math.floor(scaled * tenths[dropped + 1]! + 0.5) * tens[dropped + 1]!
    if (shorter - scaled >= above || shorter - scaled <= below) break
    mantissa = shorter
    dropped++
  }
  const whole = mantissa | 0
  // One if the first of ten digits is none.
  const skipped = (whole - 1_000_000_000) >>> 31
  const exponent = mostDigits - skipped - scales[biased]!
  let digits = mostDigits + 1 - skipped - dropped
  if (dropped === mostDropped) digits -= zerosBehind(whole / 1_000)
  const tail = (exponent < 0 ? 2 : 1) + (Math.abs(exponent) > 9 ? 2 : 1) + (digits > 1 ? 1 : 0)
  if (exponent < 0 && 1 - exponent <= tail) {
    // 0.00123
    writeTen(target, p + 1 - exponent - skipped, whole)
    target[p] = zero
    target[p + 1] = point
    for (let j = p + 2; j < p + 1 - exponent; j++) target[j] = zero
    return p + 1 - exponent + digits
  }
  writeTen(target, p + 1 - skipped, whole)
  if (exponent >= 0 && exponent < mostDigits && exponent + 1 <= digits + tail)
    return insertPoint(target, p, exponent, digits)
  return writeExponent(target, insertPoint(target, p, 0, digits), exponent)
}

/** Writes a whole number of at most nine digits; returns the place behind. */
export function writeInteger(target: Uint8Array, at: number, value: number): number {
  if (value >= 0) return writeWhole(target, at, value)
  target[at] = minus
  return writeWhole(target, at + 1, -value)
}

/** How many zeros a whole number ends in. */
function zerosBehind(whole: number): number {
  let zeros = 0
  for (let rest = whole; rest % 10 === 0; rest /= 10) zeros++
  return zeros
}

/** Ten digits, with zeros in front. Written out, because what is called from here is not taken in any more. */
function writeTen(target: Uint8Array, at: number, value: number): void {
  const first = (value / 100_000_000) | 0
  const rest = value - first * 100_000_000
  const middle = (rest / 10_000) | 0
  const last = rest - middle * 10_000
  const third = (middle / 100) | 0
  const seventh = (last / 100) | 0
  const fifth = middle - third * 100
  const ninth = last - seventh * 100
  target[at] = pairs[2 * first]!
  target[at + 1] = pairs[2 * first + 1]!
  target[at + 2] = pairs[2 * third]!
  target[at + 3] = pairs[2 * third + 1]!
  target[at + 4] = pairs[2 * fifth]!
  target[at + 5] = pairs[2 * fifth + 1]!
  target[at + 6] = pairs[2 * seventh]!
  target[at + 7] = pairs[2 * seventh + 1]!
  target[at + 8] = pairs[2 * ninth]!
  target[at + 9] = pairs[2 * ninth + 1]!
}

/** Puts a point behind the digit of the exponent zero, and moves those before it to where they belong. */
function insertPoint(target: Uint8Array, at: number, exponent: number, digits: number): number {
  for (let i = at; i <= at + exponent; i++) target[i] = target[i + 1]!
  if (digits <= exponent + 1) return at + exponent + 1
  target[at + exponent + 1] = point
  return at + digits + 1
}

function writeExponent(target: Uint8Array, at: number, exponent: number): number {
  target[at] = exponentSign
  return writeInteger(target, at + 1, exponent)
}

function writeWhole(target: Uint8Array, at: number, value: number): number {
  const digits = digitsOf(value)
  let rest = value
  for (let p = at + digits - 1; p >= at; p--) {
    const next = (rest / 10) | 0
    target[p] = zero + rest - next * 10
    rest = next
  }
  return at + digits
}

function digitsOf(value: number): number {
  let digits = 1
  for (let bound = 10; value >= bound && digits < 10; bound *= 10) digits++
  return digits
}

/** Subnormal numbers have fewer digits than the fast way begins with. */
function writeSlowly(target: Uint8Array, at: number, v: number): number {
  let text = ''
  for (let digits = 1; digits <= mostDigits && !readsBack(text, v); digits++)
    text = String(Number(v.toPrecision(digits)))
  for (let i = 0; i < text.length; i++) target[at + i] = text.charCodeAt(i)
  return at + text.length
}

/** Also where a reader rounds to a double first: what lies just between two floats may go either way. */
function readsBack(text: string, v: number): boolean {
  const back = Number(text)
  const mirrored = 2 * back - v
  return text !== '' && Math.fround(back) === v && (mirrored === v || Math.fround(mirrored) !== mirrored)
}
