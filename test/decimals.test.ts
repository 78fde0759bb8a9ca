/** Floats as decimals: the same float again, in JSON's grammar, without a digit too many. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { writeFloat, writeInteger } from '../src/edge/codecs/decimals.ts'
import { seeded } from './support/draw.ts'

const room = Buffer.alloc(64)
const one = new Float32Array(1)
const bits = new Uint32Array(one.buffer)
const at = 7
const untouched = 0xee

/** What is written for a float that stands among others, in the middle of other text. */
function written(value: number): string {
  one[0] = value
  room.fill(untouched)
  const end = writeFloat(room, at, one, 0)
  if (room[at - 1] !== untouched) assert.fail(`${value}: what stands before it is written over`)
  if (room.indexOf(untouched, at) > at + 32) assert.fail(`${value}: more than 32 bytes are touched`)
  return room.toString('latin1', at, end)
}

const json = /^-?(0|[1-9]\d*)(\.\d*[1-9])?(e-?[1-9]\d*)?$/

/** Significant digits: those between the zeros. */
function digitsOf(text: string): number {
  return text
    .replace(/e.*$/, '')
    .replace(/[-.]/g, '')
    .replace(/^0+|0+$/g, '').length
}

/** Whether a decimal is just as near to another float, so that readers may differ. */
function isMidpoint(decimal: number, value: number): boolean {
  const mirrored = 2 * decimal - value
  return mirrored !== value && Math.fround(mirrored) === mirrored
}

/** Whether a decimal with fewer digits reads back to the same float, with every reader. */
function isShorter(value: number, digits: number): boolean {
  if (digits < 1) return false
  const shorter = Number(value.toPrecision(digits))
  return Math.fround(shorter) === value && !isMidpoint(shorter, value)
}

function check(value: number): void {
  const text = written(value)
  const back = Math.fround(Number(text))
  if (!Object.is(back, value)) assert.fail(`${value} is written as ${text}, which is ${back}`)
  if (isMidpoint(Number(text), value)) assert.fail(`${value} is written as ${text}, which is between two floats`)
  if (text.length > 15) assert.fail(`${value} is written as ${text}, in ${text.length} bytes`)
  if (!json.test(text)) assert.fail(`${value} is written as ${text}, which is no JSON or has zeros too many`)
  if (isShorter(value, digitsOf(text) - 1)) assert.fail(`${value} is written as ${text}, with a digit too many`)
}

/** A float, those right beside it, and their negatives. */
function checkAround(value: number): void {
  one[0] = value
  const middle = bits[0]!
  for (let i = -3; i <= 3; i++) {
    bits[0] = middle + i
    const neighbour = one[0]
    if (!Number.isFinite(neighbour)) continue
    check(neighbour)
    check(-neighbour)
  }
}

function fromBits(pattern: number): number {
  bits[0] = pattern
  return one[0]!
}

test('every power of two and of ten reads back, and so do its neighbours', () => {
  for (let exponent = -149; exponent <= 127; exponent++) checkAround(2 ** exponent)
  for (let exponent = -45; exponent <= 38; exponent++)
    for (let digit = 1; digit <= 9; digit++) checkAround(Number(`${digit}e${exponent}`))
})

test('floats of every exponent read back', () => {
  const draw = seeded(11)
  for (let exponent = 0; exponent < 255; exponent++)
    for (let i = 0; i < 400; i++) {
      check(fromBits(exponent * 2 ** 23 + Math.floor(draw() * 2 ** 23)))
      // Few bits, and all but few.
      check(fromBits(exponent * 2 ** 23 + 2 ** Math.floor(draw() * 23)))
      check(fromBits(exponent * 2 ** 23 + 2 ** 23 - 2 ** Math.floor(draw() * 23)))
    }
})

test('zeros, the ends of the range and the subnormal floats read back', () => {
  assert.equal(written(0), '0')
  assert.equal(written(-0), '-0')
  for (const value of [3.4028234663852886e38, 1.1754943508222875e-38, 1.401298464324817e-45]) checkAround(value)
  for (let pattern = 0; pattern < 5_000; pattern++) check(fromBits(pattern))
  for (let pattern = 2 ** 23 - 2_000; pattern < 2 ** 23 + 2_000; pattern++) check(fromBits(pattern))
  for (let pattern = 5_000; pattern < 2 ** 23; pattern += 997) check(fromBits(pattern))
})

test('whole floats and decimals of few digits are written with those digits', () => {
  for (const text of '1 10 100 1200 65536 1234567 9999999 16777216 0.1 0.5 0.25 -0.3 1.5 3.14159 0.0125 123.456'.split(
    ' ',
  ))
    assert.equal(written(Math.fround(Number(text))), text)
  for (const middle of [2 ** 24, 1e7, 1e8, 1e9, 1e10, 2 ** 31, 2 ** 32, 2 ** 53, 9_999_999, 99_999_999])
    for (let i = -300; i <= 300; i++) check(Math.fround(middle + i * Math.max(1, middle / 2 ** 23)))
  const draw = seeded(12)
  for (let i = 0; i < 100_000; i++) {
    const value = Math.fround(Number((draw() * 2_000 - 1_000).toFixed(i % 7)))
    check(value)
  }
})

test('a million floats of random bits read back', () => {
  const draw = seeded(20_261_123)
  for (let i = 0; i < 1_000_000; i++) {
    const value = fromBits(Math.floor(draw() * 2 ** 32))
    if (Number.isFinite(value)) check(value)
  }
})

test('whole numbers of up to nine digits are written as they are', () => {
  const draw = seeded(13)
  const checkWhole = (value: number): void => {
    room.fill(untouched)
    const end = writeInteger(room, at, value)
    assert.equal(room.toString('latin1', at, end), String(value))
    assert.deepEqual([room[at - 1], room[end]], [untouched, untouched])
  }
  for (let power = 1; power < 1e9; power *= 10)
    for (const value of [power - 1, power, power + 1, -power, 1 - power]) checkWhole(value)
  for (const value of [999_999_999, -999_999_999, 2 ** 24, 0]) checkWhole(value)
  for (let i = 0; i < 10_000; i++) checkWhole(Math.floor(draw() * 2e9) - 1e9)
})
