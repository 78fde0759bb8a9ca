/** Good requests of HTTP/1.1, as odd as they may be. */
import { choices, type Draws } from './byte-streams-parts.ts'
import { seeded } from './draw.ts'
import type { LimitsName } from './front-pair.ts'

export interface GoodRequest {
  readonly head: Buffer
  /** Its body, as it is sent. */
  readonly tail: Buffer
  readonly method: string
  readonly target: string
  readonly body: Buffer
  /** Whether the client waits between the two, for leave to send the body. */
  readonly waits: boolean
}

const methods = ['GET', 'GET', 'GET', 'POST', 'POST', 'POST', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']
const oddMethods = choices('TRACE | PURGE | PROPFIND | M-SEARCH | LINK | SOURCE | QUERY | REPORT | MKCALENDAR | SEARCH')

/** What the pipeline does; see there. */
const words = choices(
  'now | wait | twice | late | defer | early | enough | pause | read | read | read | read | empty | bytes',
)

const oneOf = choices(
  'age | authorization | content-type | etag | expires | from | if-modified-since | last-modified | ' +
    'location | max-forwards | proxy-authorization | referer | retry-after | server | user-agent | ' +
    'if-unmodified-since',
)
const listed = choices(
  'accept | x-a | x-forwarded-for | vary | via | cache-control | te | trailer | x-request-id | date | a',
)
const special = [
  'cookie',
  'set-cookie',
  '__proto__',
  'constructor',
  'tostring',
  'x_y',
  "!#$%&'*+-.^_`|~0",
  'keep-alive',
  'pragma',
]
const values = [
  ...choices(' | a | a b | a,b | a, b | "q\\"x" | gzip;q=0.5 | \xe9\xff | a\tb | chunked | 0 | 5 | === | {}'),
  'x'.repeat(300),
]
const spaces = ['', ' ', ' ', ' ', ' ', '  ', '\t', ' \t ']
const connections = choices(
  'close | keep-alive | Close | KEEP-ALIVE | keep-alive, close | x-a, keep-alive | x-a |  | te | upgrade',
)

/** Bytes that bodies are made of; with whole requests in them. */
const pool = poolOf(seeded(7))

function poolOf(next: () => number): Buffer {
  const bytes = Buffer.from(Array.from({ length: 210_000 }, () => next() * 256))
  for (let at = 0; at < bytes.length - 100; at += 5_000)
    bytes.write('\r\n0\r\n\r\nGET /x/now?inner HTTP/1.1\r\nhost: a\r\n\r\n', at)
  return bytes
}

export class GoodRequests {
  readonly #draws: Draws
  readonly #limits: LimitsName
  readonly #mostBytes: number

  /** `mostBytes` is the most of one body. */
  constructor(draws: Draws, limits: LimitsName, mostBytes = 200_000) {
    this.#draws = draws
    this.#limits = limits
    this.#mostBytes = mostBytes
  }

  make(): GoodRequest {
    const draws = this.#draws
    const method = draws.once(15) ? draws.one(oddMethods) : draws.one(methods)
    const target = this.#target(draws.once(50) ? 'large' : draws.one(words))
    const isOld = draws.once(20)
    const hasBody = draws.below(10) < (method === 'POST' || method === 'PUT' || method === 'PATCH' ? 9 : 2)
    const body = hasBody ? this.#body() : Buffer.alloc(0)
    const framing = hasBody ? this.#framed(body, isOld) : { field: '', tail: body }
    const fields = [this.#field('host', draws.one(['localhost', 'a', 'a:80', '', '[::1]:8080']))]
    if (framing.field) fields.push(framing.field)
    const expects = hasBody && draws.once(12)
    if (expects) fields.push(this.#field('expect', draws.one(['100-continue', '100-Continue'])))
    if (draws.once(isOld ? 2 : 12)) fields.push(this.#field('connection', draws.one(connections)))
    if (draws.once(60)) fields.push(this.#field('upgrade', draws.one(['h2c', 'websocket', ''])))
    fields.push(...this.#extras())
    const lines = [`${method} ${target} HTTP/${isOld ? '1.0' : '1.1'}`, ...this.#shuffled(fields)]
    const head = Buffer.from(`${draws.once(25) ? '\r\n' : ''}${lines.join('\r\n')}\r\n\r\n`, 'latin1')
    return { head, tail: framing.tail, method, target, body, waits: expects && draws.once(2) }
  }

  #target(word: string): string {
    const draws = this.#draws
    const path = `/${draws.one(['', 'v2/', 'a%20b/', 'a//b/', '~!$&()*;=:@/', '"<>/', '\xe9/'])}${word}`
    const query = draws.once(4) ? draws.one(['?', '?a=b', '?a/b?c', '?\xff', '?#', `?${'y'.repeat(200)}`]) : ''
    if (draws.once(25)) return `${draws.one(['http://a', 'https://a:8080', 'HTTP://user@a'])}${path}${query}`
    if (draws.once(60)) return '*'
    return path + query
  }

  #body(): Buffer {
    const draws = this.#draws
    if (draws.once(6)) return Buffer.alloc(0)
    const size = draws.once(60)
      ? draws.one([65_535, 65_536, 65_537, 200_000, 16_384, 100_000])
      : draws.between(1, draws.once(5) ? 3_000 : 60)
    const from = draws.below(pool.length - 200_000)
    return pool.subarray(from, from + Math.min(size, this.#mostBytes))
  }

  /** By length or in chunks. */
  #framed(body: Buffer, isOld: boolean): { readonly field: string; readonly tail: Buffer } {
    const draws = this.#draws
    if (isOld || draws.once(2)) {
      const zeros = draws.once(20) ? '000' : ''
      return { field: this.#field('content-length', `${zeros}${body.length}`), tail: body }
    }
    const field = this.#field('transfer-encoding', draws.one(['chunked', 'chunked', 'Chunked', 'CHUNKED']))
    return { field, tail: this.#chunks(body) }
  }

  #chunks(body: Buffer): Buffer {
    const draws = this.#draws
    const parts: Buffer[] = []
    const most = draws.one([1, 20, 1_000, 70_000, 200_000])
    for (let at = 0; at < body.length;) {
      const size = body.length > 300 * most ? body.length : draws.between(1, Math.min(most, body.length - at))
      const piece = body.subarray(at, at + size)
      parts.push(Buffer.from(`${this.#size(piece.length)}\r\n`), piece, Buffer.from('\r\n'))
      at += piece.length
    }
    const trailers = draws.once(5) ? this.#trailers() : ''
    parts.push(
      Buffer.from(`${draws.one(['0', '0', '0', '00000', '000'])}${this.#extension()}\r\n${trailers}\r\n`, 'latin1'),
    )
    return Buffer.concat(parts)
  }

  #size(length: number): string {
    const draws = this.#draws
    const hex = length.toString(16)
    const cased = draws.once(3) ? hex.toUpperCase() : hex
    return `${draws.once(10) ? '0'.repeat(draws.between(1, 9)) : ''}${cased}${this.#extension()}`
  }

  #extension(): string {
    const draws = this.#draws
    if (!draws.once(8)) return ''
    return draws.one([
      ';a',
      ';a=b',
      ';a="b c"',
      ';a="b\\"c"',
      ';a=b;c=d',
      ';a="x;y"',
      `;${'e'.repeat(100)}`,
      ';a=1;b="2"',
    ])
  }

  #trailers(): string {
    const draws = this.#draws
    const names = ['x-t', 'content-length', 'transfer-encoding', 'host', 'connection', 'expect', 'authorization', 'x-u']
    const chosen = draws.some(names, 4)
    const value = (name: string) =>
      draws.one(name === 'content-length' ? ['5', '0', '77'] : name === 'transfer-encoding' ? ['chunked'] : values)
    return chosen.map((name) => `${this.#field(name, value(name))}\r\n`).join('')
  }

  #extras(): string[] {
    const draws = this.#draws
    const most = draws.once(5) ? 12 : 3
    const fields = [oneOf, listed, special].flatMap((names) => draws.some(names, draws.once(2) ? 1 : most))
    const extras = fields.map((name) => this.#field(name, draws.one(values)))
    if (this.#limits === 'tight') {
      const left = draws.one([0, 0, 600, 700, 800, 850, 900, 950, 1_100])
      const kept = extras.slice(0, draws.between(0, 7))
      return [...kept, ...(left > 0 ? [`x-pad: ${'p'.repeat(left)}`] : [])]
    }
    return extras
  }

  #field(name: string, value: string): string {
    const draws = this.#draws
    const cased = draws.once(6) ? name.toUpperCase() : draws.once(6) ? name[0]!.toUpperCase() + name.slice(1) : name
    // Behind these no parser, or not that of the lean front, takes a tab.
    const behind = /^(content-length|transfer-encoding|connection)$/.test(name) ? ['', ' ', '  '] : spaces
    return `${cased}:${draws.one(spaces)}${value}${draws.once(10) ? draws.one(behind) : ''}`
  }

  #shuffled(fields: string[]): string[] {
    for (let i = fields.length - 1; i > 0; i--) {
      const j = this.#draws.below(i + 1)
      ;[fields[i], fields[j]] = [fields[j]!, fields[i]!]
    }
    return fields
  }
}
