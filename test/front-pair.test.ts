/**
 * The two fronts of HTTP/1.1 against each other, for as long as a test may take; streams in which they once differed, or did
 * what neither may; and an example of every difference that is known.
 */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { differences } from './support/byte-streams-differences.ts'
import type { Pair } from './support/byte-streams-judge.ts'
import type { Stream } from './support/byte-streams-parts.ts'
import { answersIn } from './support/byte-streams-play.ts'
import { FrontPairs, fuzz, judge, minimised, show, type Report, type Verdict } from './support/front-fuzz.ts'
import { authority, certificateFolder, pairsIn, serverCertificate } from './support/tls.ts'

async function shown({ findings }: Report): Promise<string> {
  const texts: string[] = []
  for (const finding of findings.slice(0, 3)) texts.push(show(finding, await minimised(finding)))
  return texts.join('\n')
}

test('both fronts make the same of thousands of streams, good and hostile, whole and in pieces', async () => {
  const report = await fuzz({ seed: 20_261_129, isEnough: (count) => count >= 20_000 })
  assert.equal(await shown(report), '')
  assert.ok(report.requests > report.streams, `${report.requests} requests in ${report.streams} streams`)
  const known = [...report.known.values()].reduce((sum, count) => sum + count, 0)
  assert.ok(known < report.streams / 3, `${known} of ${report.streams} streams differ in known ways`)
})

test('they do so over TLS', async () => {
  const ca = authority()
  const folder = await certificateFolder({ server: serverCertificate(ca) })
  const [files] = pairsIn(folder, 'server')
  const report = await fuzz({ seed: 443, isEnough: (count) => count >= 300, tls: { files: files!, ca: ca.cert } })
  assert.equal(await shown(report), '')
})

const pairs = await FrontPairs.start()
after(() => pairs.close())

type Parts = Partial<Omit<Stream, 'bytes'>>

function playOne(text: string, parts: Parts = {}): Promise<Pair> {
  const rest: Omit<Stream, 'bytes'> = {
    kind: 'one',
    limits: 'usual',
    cuts: [],
    waits: [],
    ending: 'sentinel',
    wanted: undefined,
  }
  return pairs.play({ ...rest, ...parts, bytes: Buffer.from(text, 'latin1') })
}

async function verdictOn(text: string, parts?: Parts): Promise<Verdict> {
  return judge(await playOne(text, parts))
}

const post = (word: string, fields: string, body = '') =>
  `POST /x/${word} HTTP/1.1\r\nhost: a\r\n${fields}\r\n\r\n${body}`
const get = (word: string, fields = '') => `GET /x/${word} HTTP/1.1\r\nhost: a\r\n${fields}\r\n`
const chunked = 'transfer-encoding: chunked'

/** Streams in which something was wrong once. */
const found: readonly (readonly [string, string, Parts?])[] = [
  ['an answered request whose body never comes is not abandoned', post('now', 'content-length: 6')],
  ['the same, where it is refused', post('now', 'host: b\r\ncontent-length: 6')],
  [
    'a request behind an answer that cuts a body off is not begun',
    post('now', chunked, `5\r\nhello\r\n0\r\n\r\n${get('read')}`),
  ],
  ['a tab behind "close" is no part of it', get('read', 'connection: close\t\r\n')],
  ['nor in front of a comma', get('read', 'connection: close\t,x\r\n')],
  ['nor behind "keep-alive"', 'GET /x/read HTTP/1.0\r\nconnection: keep-alive \t\r\n\r\n'],
  [
    'a field with the name of what every object has',
    get('read', '__proto__: a\r\nconstructor: b\r\nConstructor: c\r\n'),
  ],
  ['a request without a body that asks for leave to send it', post('read', 'expect: 100-continue')],
  ['a large answer of which the head only is asked for', 'HEAD /x/large HTTP/1.1\r\nhost: a\r\n\r\n'],
  [
    'more requests than one connection may have',
    get('read').repeat(8),
    { limits: 'tight', waits: [1, 2, 3, 4, 5, 6, 7].map((count) => count * get('read').length) },
  ],
  ['a version that is none, and a body', 'POST /x/read HTTP/1.3\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello'],
  ['a coding that HTTP/1.0 does not have', `POST /x/read HTTP/1.0\r\n${chunked}\r\n\r\n0\r\n\r\n`],
  ['a coding that is none', post('read', 'transfer-encoding: identity, chunked', '0\r\n\r\n')],
  [
    'a request behind another in which the framing is in doubt',
    `${get('wait')}GET /x/read\r\nhost: a\r\nconnection: keep-alive\r\n\r\n${get('read')}`,
  ],
  ['a request in which a tab is behind a coding', post('read', `${chunked}\t`, '0\r\n\r\n')],
]

for (const [name, text, parts] of found) {
  test(`both fronts do what is right with ${name}`, async () => {
    assert.deepEqual(await verdictOn(text, parts), {})
  })
}

/** Those that end with a large answer, and what comes while it is written. */
const large: Readonly<Record<string, readonly [string, string]>> = {
  'what is no request': [`${get('large')}-`, '['],
  'a request, and the connection ends because of an offer': [
    `${get('empty')}${get('read', 'upgrade: x\r\n')}${get('large')}GET`,
    ' x',
  ],
  'a request that nobody asked for any more': [get('large', 'connection: close\r\n'), get('read')],
}

for (const [name, [before, behind]] of Object.entries(large)) {
  test(`a large answer comes whole where behind it there is ${name}`, async () => {
    const { lean, node } = await playOne(before + behind, { cuts: [before.length] })
    for (const { answers, rest } of [lean, node]) {
      assert.equal(answers.filter(({ body }) => body.length === 300_003).length, 1)
      assert.equal(rest.length, 0)
    }
  })
}

/** By the name of the difference. */
const examples: Readonly<Record<string, readonly [string, Parts?]>> = {
  'another protocol offered': [get('read', 'upgrade: x\r\n') + get('read')],
  'sent far ahead': [get('late').repeat(20)],
  'no request behind good ones': [`${get('late')}garbage\r\n\r\n`],
  'no request right behind an answer': [`${get('now')}garbage`],
  'cut off by the client': ['GET /x/read HTTP/1.1\r\nho', { ending: 'quiet end' }],
  'a rest that nobody reads': [post('wait', chunked, '5\r\nhello\r\n0\r\n\r\n')],
  'a broken body that nobody reads': [post('wait', chunked, 'x\r\n')],
  'data before the break': [post('read', chunked, '5\r\nhello\r\nx\r\n')],
  'many fields': [get('read', 'x: y\r\n'.repeat(102))],
  'a head that is nearly too large': [get('read', `x: ${'y'.repeat(990)}\r\n`), { limits: 'tight' }],
  'leave to send what is broken': [post('defer', `expect: 100-continue\r\n${chunked}`, 'x\r\n')],
  'other words': [post('read', chunked, `0\r\nx: ${'y'.repeat(17_000)}\r\n\r\n`)],
  'a tab behind a value': [post('read', 'content-length: 5\t', 'hello')],
  'no text in an extension': [post('read', chunked, '5;a="\x7f"\r\nhello\r\n0\r\n\r\n')],
  'an option in a trailer': [post('read', chunked, `0\r\nconnection: close\r\n\r\n${get('read')}`)],
  'two options that do not go together': ['GET /x/read HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n'],
  'an option of proxies': [get('read', 'proxy-connection: close\r\n')],
  'a tunnel': ['CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n'],
  'no content for HTTP/1.0': [`GET /x/empty HTTP/1.0\r\nconnection: keep-alive\r\n\r\n${get('read')}`],
}

test('every difference that is known is there, and has its reason', async () => {
  const seen: Record<string, unknown> = {}
  for (const [name, [text, parts]] of Object.entries(examples)) seen[name] = await verdictOn(text, parts)
  assert.deepEqual(seen, Object.fromEntries(differences.map(({ name }) => [name, { known: name }])))
})

test('bytes that are not an answer as it has to be are not taken for one', () => {
  const good = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-number: 0\r\n\r\nok'
  const count = (text: string) => answersIn(Buffer.from(text, 'latin1')).answers.length
  assert.equal(count(good + good), 2)
  assert.equal(count(good.replace('content-length: 2', 'x: y')), 0)
  assert.equal(count(good.replace('content-length: 2', 'content-length: 2\r\ncontent-length: 2')), 0)
  assert.equal(count(good.replace('content-length: 2', 'content-length: 3')), 0)
  assert.equal(count(`x${good}`), 0)
  assert.equal(answersIn(Buffer.from(`${good}x`)).rest.length, 1)
})
