/** Why a JSON value is not an element of a tensor, given that it could not be stored as one. Slow; nobody waits for it. */
import { numerics, type Datatype } from '../../core/datatype.ts'
import type { Refusal } from '../../core/refusal.ts'
import type { TensorSpec } from '../../core/signature.ts'
import { badInput, longNumber, misspelt, notFinite, notJson } from './complaints.ts'
import { isWhole, maxNumberBytes, numberEnd, textOf } from './numbers.ts'
import { listStart, objectStart } from './scanner.ts'
import { isCutWord, wordEnd } from './words.ts'
import { quote } from './strings.ts'
import type { Window } from './window.ts'

/** Of the value at which the window is; `hungry` if it may go on beyond. */
export function misfitOf({ name, datatype }: TensorSpec, element: number, window: Window): Refusal | 'hungry' {
  const { bytes, at } = window
  const place = window.placeOf(at)
  const because = (why: string): Refusal => badInput(name, `element ${element} ${why}`)
  const first = bytes[at]!
  if (first === quote || first === listStart || first === objectStart) return because(notA(datatype))
  if (!window.closed && isCutWord(bytes, at)) return 'hungry'
  const word = textOf(bytes, at, wordEnd(bytes, at))
  if (word === 'true' || word === 'false' || word === 'null') return because(notA(datatype))
  const end = numberEnd(bytes, at)
  if (end - at > maxNumberBytes) return longNumber(place, name)
  if (end >= 0) return because(numberMisfit(datatype, textOf(bytes, at, end)))
  return notJson(/^-?[NI]/.test(word) ? notFinite : misspelt, place, name)
}

function notA(datatype: Datatype): string {
  if (datatype === 'BYTES') return 'is not a string'
  if (datatype === 'BOOL') return 'is neither true nor false'
  return numerics[datatype].float ? 'is not a number' : 'is not a whole number'
}

function numberMisfit(datatype: Datatype, text: string): string {
  if (datatype === 'BYTES' || datatype === 'BOOL') return notA(datatype)
  const outOfRange = `is outside the range of ${datatype}`
  const isWide = datatype === 'INT64' || datatype === 'UINT64'
  if (numerics[datatype].float || (isWide && isWhole(text))) return outOfRange
  const value = Number(text)
  if (!Number.isInteger(value)) return 'is not a whole number'
  if (isWide && !Number.isSafeInteger(value)) {
    return 'is beyond 2^53: write it with all its digits, without exponent or fraction'
  }
  return outOfRange
}
