/** What breaks HTTP/1.1, or tries to have two readers of it see different requests. */
import { choices, type Draws } from './byte-streams-parts.ts'

interface HostileRequest {
  readonly kind: string
  readonly bytes: Buffer
}

const smuggled = 'GET /x/now?smuggled HTTP/1.1\r\nhost: smuggled\r\n\r\n'

const lengths = choices(
  'Content-Length: 5 | content-length: 0 | content-length: 6 | content-length: 5, 5 | ' +
    'content-length: 5,6 | content-length: +5 | content-length: -5 | content-length: 0x5 | ' +
    'content-length: 5  | content-length:\t5 | content-length: 18446744073709551616 | ' +
    'content-length: 18446744073709551615 | content-length: 9223372036854775808 | ' +
    'content-length: 99999999999999999999 | content-length: 9007199254740993 | content-length: | ' +
    'content-length:  | content-length: 5 5 | content-length : 5 | content-length\t: 5 | ' +
    ' content-length: 5 | content-length: 5\r\n 6 | content-length:\r\n 5 | content-length: 5\x0b | ' +
    'content-length: 5; | content-length: 005 | content-length: 5.0 | content-length: 1e1 | ' +
    'content_length: 5 | content-length: 5\x00 | content-length\x00: 5 | x: y\ncontent-length: 5 | ' +
    'x: y\rcontent-length: 5 | content-length: "5" | content-length: \xb2 | content-length: 5, | ' +
    'content-length: ,5',
)

const codings = choices(
  'transfer-encoding: chunked | Transfer-Encoding: Chunked | transfer-encoding:chunked | ' +
    'transfer-encoding: chunked  | transfer-encoding:\tchunked | transfer-encoding: \tchunked\t | ' +
    'transfer-encoding : chunked | transfer-encoding: xchunked | transfer-encoding\t: chunked | ' +
    'transfer-encoding: chunked\x0b | transfer-encoding: \x0bchunked | transfer-encoding: chunkedx | ' +
    'transfer-encoding: identity | transfer-encoding: gzip, chunked | transfer-encoding: chunked, gzip | ' +
    'transfer-encoding: chunked, chunked | transfer-encoding: chunked,chunked | ' +
    'transfer-encoding: chunked, identity | transfer-encoding: identity, chunked | ' +
    'transfer-encoding: , chunked | transfer-encoding: chunked, | transfer-encoding: | ' +
    `transfer-encoding: "chunked" | transfer-encoding: 'chunked' | transfer-encoding: chunked;q=1 | ` +
    'transfer-encoding: chunked\x00 | transfer-encoding: chunked\r\ntransfer-encoding: chunked | ' +
    'transfer-encoding: chunked\r\ntransfer-encoding: identity | ' +
    'transfer-encoding: identity\r\ntransfer-encoding: chunked | ' +
    'transfer-encoding: gzip\r\ntransfer-encoding: chunked | transfer-encoding:\r\n chunked | ' +
    'transfer-encoding: chun\r\n ked |  transfer-encoding: chunked | \ttransfer-encoding: chunked | ' +
    'x: y\ntransfer-encoding: chunked | x: y\rtransfer-encoding: chunked | transfer_encoding: chunked | ' +
    'transfer-encoding: chunke | transfer-encoding: \xe3hunked | transfer-encoding\xa0: chunked | ' +
    'transfer-encoding: chunked\xa0 | trailer: content-length',
)

const lines = choices(
  'POST  /x/read HTTP/1.1 | POST /x/read  HTTP/1.1 | POST /x/read HTTP/1.1  |  POST /x/read HTTP/1.1 | ' +
    'POST\t/x/read\tHTTP/1.1 | POST /x/read HTTP/1.2 | POST /x/read HTTP/2.0 | POST /x/read HTTP/0.9 | ' +
    'POST /x/read HTTP/1. | POST /x/read HTTP/01.1 | POST /x/read | POST |  | post /x/read HTTP/1.1 | ' +
    'FOO /x/read HTTP/1.1 | POST /x/re ad HTTP/1.1 | POST /x/re\tad HTTP/1.1 | POST /x/re\x00ad HTTP/1.1 | ' +
    'POST /x/read\x7f HTTP/1.1 | POST x/read HTTP/1.1 | POST ? HTTP/1.1 | POST # HTTP/1.1 | POST  HTTP/1.1 | ' +
    'CONNECT a:443 HTTP/1.1 | CONNECT /x/read HTTP/1.1 | CONNECT a HTTP/1.0 | GET a:443 HTTP/1.1 | ' +
    'OPTIONS * HTTP/1.1 | GET * HTTP/1.1 | PRI * HTTP/2.0 | POST /x/read http/1.1 | ' +
    'POST /x/read HTTP/1.1\x0b | POST /x/read RTSP/1.0 | SOURCE /x/read ICE/1.0 | PLAY /x/read HTTP/1.1 | ' +
    'GET http:// HTTP/1.1 | GET http://a HTTP/1.1 | GET http:/x/read HTTP/1.1 | ' +
    'GET h_t://a/x/read HTTP/1.1 | GET http://a b/ HTTP/1.1 | GET http://[::1/x/read HTTP/1.1 | ' +
    'GET //a/x/read HTTP/1.1 | GET http://a@b@c/x/read HTTP/1.1 | GET /x/read?a#b#c HTTP/1.1 | ' +
    '\r\n\r\n\r\nGET /x/read HTTP/1.1 | \nGET /x/read HTTP/1.1 | \rGET /x/read HTTP/1.1 | ' +
    'GET /x/read HTTP/1.1\r | GET /x/read HTTP/1.1\n',
)

const fields = choices(
  'x | x y | : y | x : y | x\t: y |  x: y | \tx: y | x: y\r\n z | x: y\r\n\tz | x: y\r\n  | x: y\n z | ' +
    'x:\r\n y | x: y\rz | x: y\x00z | x\x00: y | x: \x01 | x: \x7f | x: \x1f | x: \x0b | x\xe9: y | ' +
    'x(y): z | x/y: z | x"y: z | x: y\n | x: y\r | x:y:z | host: b | host: a b | host: a/b | host: a@b | ' +
    'host: \xe9 | host: a:b | host: a:99999 | host: | host: a, b | host: [::1 | Host: A | ' +
    'expect: 100-continue | expect: x | expect: 100-continue, x | expect: | expect: 200-ok | ' +
    'expect: 100-continue\r\nexpect: 100-continue | authorization: a\r\nAuthorization: b | ' +
    'authorization: a | connection: close | connection: upgrade\r\nupgrade: h2c | upgrade: x | ' +
    'connection: close\r\nconnection: keep-alive | connection: keep-alive\r\nconnection: close | ' +
    'connection: close, upgrade\r\nupgrade: x | connection: \x0bclose | connection: clos | ' +
    'connection: closex | connection: keep-alive,close | connection:close\r\n  | proxy-connection: close | ' +
    'content-type: a\r\ncontent-type: b | cookie: a\r\ncookie: b | set-cookie: a\r\nset-cookie: b | ' +
    '__proto__: x\r\n__proto__: y',
)

const chunkSizes = [
  ...choices(
    '5 | 05 | 5  |  5 | 5\t | \t5 | 0x5 | +5 | -5 | 5; | 5;a | 5 ;a | 5; a | 5;a =b | 5;a= b | 5;=b | 5;; | ' +
      '5;a= | 5;a=" | 5;a="b | 5;a="b\\ | 5;a=b"c" | 5;\x00 | 5;\x7f | 5;a=\xe9 | 5;a="\xe9" | 5;a\rb | ' +
      '5;a\nb | 5;"a"=b | 5, | 5. | 5g | g |  | ;a | 5\r | 5\x0b | 5\x00 | 10000000000000005 | ' +
      '100000000000000000000000005 | ffffffffffffffff | fffffffffffffffff | 7fffffffffffffff | ' +
      '00000000000000000000000005 | ffffffff | 5;a=b;c="d";e | 5;a={ | 5;a=b,c | 5;a=(b) | \xb25',
  ),
  `5;${'x'.repeat(4_000)}`,
  `5;a="${'y'.repeat(4_000)}"`,
  `${'0'.repeat(4_000)}5`,
]
const lineEnds = ['\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r', '', '\r\n\r\n', '\n\r', '\r\r\n', ' \r\n', 'x\r\n']
const trailers = [
  ...choices(
    ' |  | x: y\r\n | content-length: 5\r\n | transfer-encoding: chunked\r\n | host: b\r\n | x\r\n | ' +
      ' x: y\r\n | x: y\n | x : y\r\n | x: y\r\n z\r\n | x: \x00\r\n | : y\r\n | connection: close\r\n | ' +
      'upgrade: x\r\n | content-length: x\r\n | transfer-encoding: gzip\r\n | \r\r\n | ' +
      'content-length: 5\r\ncontent-length: 6\r\n | expect: 100-continue\r\n',
  ),
  `x: ${'y'.repeat(3_000)}\r\n`,
]
const bodies = [
  'hello',
  'hell',
  'hello!',
  '',
  '5\r\nhello\r\n0\r\n\r\n',
  '0\r\n\r\n',
  `0\r\n\r\n${smuggled}`,
  smuggled,
  '1\r\nZ\r\nQ',
]
const words = ['read', 'read', 'read', 'now', 'late', 'wait', 'early', 'pause', 'defer', 'empty']

export class HostileRequests {
  readonly #draws: Draws

  constructor(draws: Draws) {
    this.#draws = draws
  }

  make(): HostileRequest {
    const how = this.#draws.below(20)
    if (how < 7) return this.#framing()
    if (how < 12) return this.#chunks()
    if (how < 15) return this.#field()
    if (how < 18) return this.#line()
    return how === 18 ? this.#size() : this.#garbage()
  }

  /** Lengths and codings that do not go together (RFC 9112 section 6.3 and 11.2). */
  #framing(): HostileRequest {
    const draws = this.#draws
    const chosen = [
      ...Array.from({ length: draws.between(0, 2) }, () => draws.one(lengths)),
      ...Array.from({ length: draws.between(0, 2) }, () => draws.one(codings)),
    ]
    const first = draws.once(2) ? chosen : chosen.toReversed()
    const body = draws.one(bodies) + (draws.once(3) ? smuggled : '')
    return this.#of('framing', this.#requestLine(), first, body)
  }

  #chunks(): HostileRequest {
    const draws = this.#draws
    const isOdd = draws.below(4)
    const good = () => `5\r\nhello\r\n`
    const bad =
      `${draws.one(isOdd === 0 ? chunkSizes : ['5'])}${isOdd === 1 ? draws.one(lineEnds) : '\r\n'}` +
      `${draws.one(isOdd === 2 ? bodies : ['hello'])}${isOdd === 1 ? draws.one(lineEnds) : '\r\n'}`
    const last = `0${draws.once(8) ? draws.one(lineEnds) : '\r\n'}${isOdd === 3 ? draws.one(trailers) + draws.one(trailers) : ''}`
    const end = draws.once(8) ? draws.one(lineEnds) : '\r\n'
    const body = good().repeat(draws.below(3)) + bad + good().repeat(draws.below(2)) + last + end
    return this.#of(
      'chunks',
      this.#requestLine(),
      ['transfer-encoding: chunked'],
      body + (draws.once(3) ? smuggled : ''),
    )
  }

  #field(): HostileRequest {
    const draws = this.#draws
    const hasBody = draws.once(2)
    const chosen = [
      draws.one(fields),
      ...(draws.once(3) ? [draws.one(fields)] : []),
      ...(hasBody ? ['content-length: 5'] : []),
    ]
    return this.#of('field', this.#requestLine(), chosen, hasBody ? 'hello' : '')
  }

  #line(): HostileRequest {
    const hasBody = this.#draws.once(2)
    const extra = this.#draws.once(6) ? ['connection: upgrade', 'upgrade: x'] : []
    return this.#of(
      'line',
      this.#draws.one(lines),
      [...extra, ...(hasBody ? ['content-length: 5'] : [])],
      hasBody ? 'hello' : '',
    )
  }

  /** Far beyond what a head may have, in bytes or in fields. */
  #size(): HostileRequest {
    const draws = this.#draws
    const how = draws.below(5)
    if (how === 0) return this.#of('size', `GET /${'a'.repeat(17_000)}/read HTTP/1.1`, [], '')
    if (how === 1) return this.#of('size', this.#requestLine(), [`x: ${'y'.repeat(17_000)}`], '')
    if (how === 2) return this.#of('size', this.#requestLine(), [`${'y'.repeat(17_000)}: x`], '')
    if (how === 3)
      return this.#of(
        'size',
        this.#requestLine(),
        Array.from({ length: draws.between(98, 103) }, (_, i) => `x${i}: y`),
        '',
      )
    return this.#of(
      'size',
      this.#requestLine(),
      ['transfer-encoding: chunked'],
      `5;${'e'.repeat(20_000)}\r\nhello\r\n0\r\n\r\n`,
    )
  }

  #garbage(): HostileRequest {
    const draws = this.#draws
    const length = draws.between(1, 60)
    const isText = draws.once(2)
    const bytes = Buffer.from(Array.from({ length }, () => (isText ? draws.between(9, 126) : draws.below(256))))
    return { kind: 'garbage', bytes: Buffer.concat([bytes, Buffer.from(draws.once(2) ? '\r\n\r\n' : '')]) }
  }

  #requestLine(): string {
    const draws = this.#draws
    const method = draws.one(['POST', 'POST', 'POST', 'GET', 'HEAD', 'PUT', 'DELETE'])
    return `${method} /x/${draws.one(words)} HTTP/${draws.once(12) ? '1.0' : '1.1'}`
  }

  #of(kind: string, line: string, chosen: readonly string[], body: string): HostileRequest {
    const draws = this.#draws
    const host = draws.once(30) ? [] : ['host: a']
    const all = draws.once(2) ? [...host, ...chosen] : [...chosen, ...host]
    const end = draws.once(25) ? '\n' : '\r\n'
    return { kind, bytes: Buffer.from(`${[line, ...all].join(end)}${end}${end}${body}`, 'latin1') }
  }
}
