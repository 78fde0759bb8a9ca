/** A tensor's elements as JSON, in slices: as much as the text takes at once. */
import { isStrings, stringCount, type Strings, type TensorData } from '../../core/tensor.ts'
import { writeFloat, writeInteger } from './decimals.ts'
import type { JsonText } from './json-text.ts'

/** Where writing is: the next element, and of a long string the next byte. */
export interface Spot {
  element: number
  byte: number
}

/** Writes from the spot on, with commas between, until all is written or the text full. False: one has no form in JSON. */
type Write<T> = (text: JsonText, data: T, spot: Spot, nonFinite: boolean) => boolean

/** The writer for tensor data of this kind. */
export function writerFor(data: TensorData, isBool: boolean): Write<never> {
  if (data instanceof Float32Array) return writeSingles
  if (isStrings(data)) return writeStrings
  if (data instanceof Float64Array) return writeDoubles
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return writeBigs
  return isBool ? writeBits : writeIntegers
}

export function countOf(data: TensorData): number {
  return isStrings(data) ? stringCount(data) : data.length
}

const comma = 0x2c
const quote = 0x22

/** Infinity minus itself is not a number, and that is not equal to itself. */
function isFinite(value: number): boolean {
  return value - value === 0
}

const writeSingles: Write<Float32Array> = (text, data, spot, nonFinite) => {
  const { memory, fullAt } = text
  let { at } = text
  let i = spot.element
  for (; i < data.length && at < fullAt; i++) {
    if (isFinite(data[i]!)) at = writeFloat(memory, at, data, i)
    else if (nonFinite) at += memory.write(String(data[i]), at, 'latin1')
    else return false
    memory[at++] = comma
  }
  spot.element = i
  // None behind the last.
  text.at = i === data.length && i > 0 ? at - 1 : at
  return true
}

/** Makes a writer of what gives the text of one element. */
function oneByOne<T extends { readonly length: number }>(
  textOf: (data: T, i: number, nonFinite: boolean) => string | undefined,
): Write<T> {
  return (text, data, spot, nonFinite) => {
    const last = data.length - 1
    for (; spot.element <= last && text.at < text.fullAt; spot.element++) {
      const element = textOf(data, spot.element, nonFinite)
      if (element === undefined) return false
      text.ascii(element)
      if (spot.element < last) text.byte(comma)
    }
    return true
  }
}

const writeDoubles = oneByOne((data: Float64Array, i, nonFinite) => {
  const value = data[i]!
  if (!nonFinite && !isFinite(value)) return undefined
  // Minus zero would be written as 0, which is another number.
  return Object.is(value, -0) ? '-0' : String(value)
})

const writeIntegers = oneByOne((data: Int32Array, i) => String(data[i]))
const writeLongBigs = oneByOne((data: BigInt64Array, i) => String(data[i]))

/** The largest number of nine digits. */
const longest = 999_999_999

/** Mostly they are labels and counts. */
const writeBigs: Write<BigInt64Array> = (text, data, spot, nonFinite) => {
  const { memory, fullAt } = text
  const last = data.length - 1
  for (; spot.element <= last && text.at < fullAt; spot.element++) {
    const value = Number(data[spot.element])
    if (value > longest || value < -longest) return writeLongBigs(text, data, spot, nonFinite)
    text.at = writeInteger(memory, text.at, value)
    if (spot.element < last) text.byte(comma)
  }
  return true
}
const writeBits = oneByOne((data: Uint8Array, i) => (data[i] === 1 ? 'true' : 'false'))

/** Of a string, in one go. */
const mostBytes = 8_192
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

const writeStrings: Write<Strings> = (text, { offsets, bytes }, spot) => {
  const last = offsets.length - 2
  while (spot.element <= last && text.at < text.fullAt) {
    const from = offsets[spot.element]! + spot.byte
    const end = offsets[spot.element + 1]!
    const to = end - from > mostBytes ? characterEnd(bytes, from + mostBytes) : end
    if (spot.byte === 0) text.byte(quote)
    text.text(JSON.stringify(utf8.decode(bytes.subarray(from, to))).slice(1, -1))
    spot.byte += to - from
    if (to < end) continue
    text.byte(quote)
    if (spot.element < last) text.byte(comma)
    spot.element++
    spot.byte = 0
  }
  return true
}

/** The last place at or before `at` that is not inside a character (RFC 3629 section 3). */
function characterEnd(bytes: Uint8Array, at: number): number {
  let end = at
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return end
}
