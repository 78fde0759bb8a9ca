/** HTTP/1.1 that is broken below the level of requests, as bytes, and how its connection must end. */
import { wireRequest } from './socket.ts'

export interface HostileHead {
  readonly name: string
  readonly bytes: string
  /** The one answer before the connection ends; undefined if it may end without. */
  readonly status: number | undefined
}

const line = 'POST /v2/models/echo/infer HTTP/1.1\r\n'
const common = 'host: localhost\r\ncontent-type: application/json\r\n'
const good = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'
/** What a smuggler would like to have taken for a request of its own. */
const smuggled = 'GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n'

function framed(fields: string, body: string): string {
  return `${line}${common}${fields}\r\n\r\n${body}`
}

function chunked(body: string, fields = 'transfer-encoding: chunked'): string {
  return framed(fields, body)
}

function heads(status: number | undefined, cases: Readonly<Record<string, string>>): HostileHead[] {
  return Object.entries(cases).map(([name, bytes]) => ({ name, bytes, status }))
}

export const hostileHeads: readonly HostileHead[] = [
  ...heads(400, {
    'two lengths': framed('content-length: 70\r\ncontent-length: 71', good),
    'the same length twice': framed('content-length: 70\r\ncontent-length: 70', good),
    'two lengths in one field': framed('content-length: 70, 71', good),
    'a negative length': framed('content-length: -1', good),
    'a length with a plus': framed('content-length: +70', good),
    'a length in hexadecimal': framed('content-length: 0x46', good),
    'a length of 2^64': framed('content-length: 18446744073709551616', good),
    'a length that is empty': framed('content-length:', good),
    'a length with a space in it': framed('content-length: 7 0', good),
    'a length and chunks (CL.TE)': framed('content-length: 4\r\ntransfer-encoding: chunked', `0\r\n\r\n${smuggled}`),
    'chunks and a length (TE.CL)': framed('transfer-encoding: chunked\r\ncontent-length: 4', `0\r\n\r\n${smuggled}`),
    'an encoding behind chunks': chunked('0\r\n\r\n', 'transfer-encoding: chunked, identity'),
    'an encoding that there is not': chunked('0\r\n\r\n', 'transfer-encoding: xchunked'),
    'chunks in quotes': chunked('0\r\n\r\n', 'transfer-encoding: "chunked"'),
    'a space before a colon': chunked('0\r\n\r\n', 'transfer-encoding : chunked'),
    'a field without a colon': framed('no colon', ''),
    'a field without a name': framed(': value', ''),
    'a field with a space in its name': framed('a b: c', ''),
    'a field that goes on in the next line': framed('content-length: 70\r\nx: a\r\n b', good),
    'a NUL in a field': framed('x: a\u0000b', ''),
    'a bare carriage return in a field': framed('x: a\rb', ''),
    'lines that end in a line feed only': `${line}${common}content-length: 0\r\n\r\n`.replaceAll('\r\n', '\n'),
    'no host': 'GET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n',
    'two hosts': 'GET /v2 HTTP/1.1\r\nhost: a\r\nHOST: b\r\nconnection: close\r\n\r\n',
    'a version that there is not': 'GET /v2 HTTP/1.7\r\nhost: a\r\n\r\n',
    'a version of two digits': 'GET /v2 HTTP/11.1\r\nhost: a\r\n\r\n',
    'HTTP/2 in a line of HTTP/1': `GET /v2 HTTP/2.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n${smuggled}`,
    'HTTP/0.9 that would go on': `GET /v2 HTTP/0.9\r\nhost: a\r\nconnection: keep-alive\r\n\r\n${smuggled}`,
    'HTTP/2 where it is not spoken': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'no version at all': 'GET /v2\r\n\r\n',
    'a method that there is not': 'FETCH /v2 HTTP/1.1\r\nhost: a\r\n\r\n',
    'a method in small letters': 'get /v2 HTTP/1.1\r\nhost: a\r\n\r\n',
    'another protocol': 'SSH-2.0-OpenSSH_9.2\r\n',
    'a TLS greeting': '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003',
    garbage: '\u0000\u0001\u0002\u00ff\u00fe',
    'a chunk size that is no number': chunked('zz\r\n'),
    'a negative chunk size': chunked('-1\r\n'),
    'a chunk size of 2^64': chunked('10000000000000000\r\n'),
    'a chunk longer than its size': chunked('2\r\n{}{}\r\n0\r\n\r\n'),
    'a chunk without its line end': chunked('2\r\n{}0\r\n\r\n'),
  }),
  ...heads(431, {
    'a head of 20 KB in one field': `GET /v2 HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
    'a head of 20 KB in small fields': `GET /v2 HTTP/1.1\r\nhost: a\r\n${'x: y\r\n'.repeat(4_000)}\r\n`,
    'a target of 20 KB': `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
  }),
  ...heads(413, {
    'chunk extensions of 20 KB': chunked(`2;${'x'.repeat(20_000)}\r\n{}\r\n0\r\n\r\n`),
  }),
  ...heads(405, { 'a tunnel': 'CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n' }),
]

/** Heads that are odd and good: each is answered 200, and the connection goes on. */
export const oddHeads: Readonly<Record<string, string>> = {
  'a request of the usual kind': wireRequest('echo', good),
  'an empty line before': `\r\n${wireRequest('echo', good)}`,
  'fields in capitals': wireRequest('echo', good).replace('content-type', 'CONTENT-TYPE'),
  'no space behind a colon': wireRequest('echo', good).replace('content-length: ', 'content-length:'),
  'chunks of one byte':
    wireRequest('echo', '', { 'transfer-encoding': 'chunked' }) +
    Array.from(good, (byte) => `1\r\n${byte}\r\n`).join('') +
    '0\r\n\r\n',
  'chunks with extensions':
    wireRequest('echo', '', { 'transfer-encoding': 'chunked' }) + `46;a=b\r\n${good}\r\n0;c\r\n\r\n`,
  'chunks with trailers':
    wireRequest('echo', '', { 'transfer-encoding': 'chunked' }) + `46\r\n${good}\r\n0\r\nx-a: b\r\n\r\n`,
}

/** Offers of other protocols: the request is answered in this one. */
export const offers: Readonly<Record<string, string>> = {
  'web sockets': wireRequest('echo', good, { connection: 'upgrade', upgrade: 'websocket', 'content-length': '70' }),
  'HTTP/2': wireRequest('echo', good, {
    connection: 'upgrade, http2-settings',
    upgrade: 'h2c',
    'http2-settings': '',
    'content-length': '70',
  }),
  'with a body in chunks':
    wireRequest('echo', '', { connection: 'upgrade', upgrade: 'websocket', 'transfer-encoding': 'chunked' }) +
    `40\r\n${good.slice(0, 64)}\r\n6\r\n${good.slice(64)}\r\n0\r\n\r\n`,
}
