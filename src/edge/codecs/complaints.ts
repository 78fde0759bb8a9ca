/** What is wrong with a body, in words that say where. */
import { refuse, type Refusal } from '../../core/refusal.ts'
import { maxNumberBytes } from './numbers.ts'

export function invalid(message: string): Refusal {
  return refuse('invalid', message)
}

/** `place` counts bytes from the beginning of the body; `input` is the one whose data it is. */
export function notJson(what: string, place: number, input?: string): Refusal {
  return invalid(`the body is not JSON: ${what}, at byte ${place}${ofInput(input)}`)
}

/** JSON, but more than is taken. */
export function notTaken(what: string, place: number, input?: string): Refusal {
  return invalid(`the body is not JSON as it is taken here: ${what}, at byte ${place}${ofInput(input)}`)
}

function ofInput(input: string | undefined): string {
  return input === undefined ? '' : `, in the data of input "${input}"`
}

export function longNumber(place: number, input?: string): Refusal {
  return notTaken(`a number has more than ${maxNumberBytes} characters`, place, input)
}

export function badInput(input: string, what: string): Refusal {
  return invalid(`input "${input}": ${what}`)
}

export function noMemory(): Refusal {
  return refuse('overloaded', 'too many large bodies are being read; try again later')
}

export const misspelt = 'a value is missing or misspelt'
export const notFinite = 'NaN and Infinity have no form in it, send such tensors as binary data'
