/** Reading one message at a time: its head, and its body if that comes in chunks. Bodies of a known length need no parser. */
import type { Head } from '../../flaws.ts'
import { headersOf, nameAt } from './fields.ts'
import { Llhttp, windowBytes, type Outcome, type Spans } from './llhttp.ts'

export interface RequestHead extends Head {
  readonly method: string
  readonly target: string
  /** Whether the client is content with further requests on the connection. */
  readonly keepsAlive: boolean
}

/** Parsers that nobody needs at the moment, and that are kept. */
const mostSpare = 256
const spare: Parser[] = []
const none: Uint8Array = new Uint8Array(0)
const noFields: string[] = []
const noData: Uint8Array[] = []

export class Parser {
  target = ''
  /** Names, in lower case, and values in turn. */
  fields: string[] = []
  readonly #llhttp = new Llhttp()
  readonly #spans: Spans
  /** The bytes that are being parsed; of those of a head, as text. */
  #bytes = none
  #text = ''
  #last: 'target' | 'name' | 'value' = 'target'
  #isBehindHead = false
  /** What a piece of a body in chunks holds of data. */
  #data = noData
  /** Where in the piece the trailers are; undefined before there are any. */
  #trailersFrom: number | undefined
  #trailerBytes = 0
  #trailerFields = 0

  constructor() {
    this.#spans = {
      target: (from, to) => {
        this.target += this.#text.slice(from, to)
      },
      name: (from, to) => {
        if (this.#isBehindHead) this.#trailer(from)
        else this.#name(from, to)
      },
      value: (from, to) => {
        if (this.#isBehindHead) this.#last = 'value'
        else this.#value(this.#text.slice(from, to))
      },
      data: (from, to) => {
        this.#data.push(this.#bytes.subarray(from, to))
      },
    }
  }

  /** One at the beginning of a message. To be given back. */
  static lend(): Parser {
    return spare.pop() ?? new Parser()
  }

  giveBack(): void {
    if (spare.length >= mostSpare) {
      this.#llhttp.free()
      return
    }
    this.#llhttp.reset()
    this.target = ''
    this.fields = noFields
    this.#last = 'target'
    this.#isBehindHead = false
    this.#bytes = none
    this.#data = noData
    this.#trailersFrom = undefined
    this.#trailerBytes = this.#trailerFields = 0
    spare.push(this)
  }

  /** How many bytes of the last piece belong to the head, or to the body. */
  get taken(): number {
    return this.#llhttp.position
  }

  /** What came behind the last chunk, from the first name on. It is of no use to anybody here. */
  get trailers(): { readonly bytes: number; readonly fields: number } {
    return { bytes: this.#trailerBytes, fields: this.#trailerFields }
  }

  /** Reads a piece of a head. */
  readHead(bytes: Buffer): Outcome {
    const part = withinWindow(bytes)
    this.#text = part.toString('latin1')
    const outcome = this.#llhttp.execute(part, this.#spans)
    this.#text = ''
    return outcome
  }

  /** What the head says, once it is whole. */
  head(): RequestHead {
    const { method, version } = this.#llhttp
    const { target, fields } = this
    const headers = headersOf(fields)
    return { method, target, version, keepsAlive: keepsAlive(version, headers.connection), headers, fields }
  }

  /** Reads a piece of a body in chunks. */
  readChunks(bytes: Buffer): Outcome {
    if (!this.#isBehindHead) this.#llhttp.resume()
    this.#isBehindHead = true
    this.#data = []
    this.#bytes = withinWindow(bytes)
    const outcome = this.#llhttp.execute(this.#bytes, this.#spans)
    if (this.#trailersFrom !== undefined) {
      this.#trailerBytes += this.taken - this.#trailersFrom
      this.#trailersFrom = 0
    }
    return outcome
  }

  /** The data in the last piece of a body, as parts of its bytes. */
  get data(): readonly Uint8Array[] {
    return this.#data
  }

  #name(from: number, to: number): void {
    if (this.#last === 'name') this.fields[this.fields.length - 1] += this.#text.slice(from, to).toLowerCase()
    else if (this.#last === 'target') this.fields = [nameAt(this.#text, from, to)]
    else this.fields.push(nameAt(this.#text, from, to))
    this.#last = 'name'
  }

  #trailer(from: number): void {
    this.#trailersFrom ??= from
    if (this.#last !== 'name') this.#trailerFields++
    this.#last = 'name'
  }

  #value(text: string): void {
    if (this.#last === 'value') this.fields[this.fields.length - 1] += text
    else this.fields.push(text)
    this.#last = 'value'
  }
}

function withinWindow(bytes: Buffer): Buffer {
  return bytes.length > windowBytes ? bytes.subarray(0, windowBytes) : bytes
}

/** RFC 9112 section 9.3. llhttp does not see an option that has a tab behind it. */
function keepsAlive(version: string, connection: string | undefined): boolean {
  if (connection === undefined || connection === 'keep-alive') return version === '1.1' || connection !== undefined
  const options = new Set(connection.split(',').map((option) => option.trim().toLowerCase()))
  return !options.has('close') && (version === '1.1' || options.has('keep-alive'))
}
