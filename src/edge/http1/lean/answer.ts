/** The head of an answer, as it goes over the wire. */
import { STATUS_CODES } from 'node:http'
import type { Clock } from '../../../core/clock.ts'

/** What would end a field, or is no text (RFC 9110 section 5.5). */
const unfit = /[^\t\x20-\x7e\x80-\xff]/

export class AnswerHead {
  readonly #clock: Clock
  readonly #goesOn: string
  /** The second that `#date` names. */
  #second = NaN
  #date = ''

  /** `idleMs` is how long a connection may stay open without a request, which clients are told. */
  constructor(idleMs: number, clock: Clock) {
    this.#clock = clock
    this.#goesOn = `connection: keep-alive\r\nkeep-alive: timeout=${Math.floor(idleMs / 1_000)}\r\n\r\n`
  }

  /** `fields` are names and values in turn. Throws where a value would not stay one. */
  write(status: number, fields: readonly string[], isLast: boolean): string {
    let text = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`
    for (let i = 0; i < fields.length; i += 2) {
      const value = fields[i + 1]!
      if (unfit.test(value)) throw new TypeError(`the value of "${fields[i]}" cannot be sent`)
      text += `${fields[i]}: ${value}\r\n`
    }
    return `${text}date: ${this.#now()}\r\n${isLast ? 'connection: close\r\n\r\n' : this.#goesOn}`
  }

  /** As RFC 9110 section 5.6.7 writes it; the same for a second. */
  #now(): string {
    const ms = this.#clock.epoch()
    const second = Math.floor(ms / 1_000)
    if (second !== this.#second) {
      this.#second = second
      this.#date = new Date(ms).toUTCString()
    }
    return this.#date
  }
}
