/** What proxies write of client certificates: how it is read, and whom it is taken to name. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRefusal } from '../src/core/refusal.ts'
import { isSpiffeId } from '../src/core/spiffe.ts'
import { identityFrom, mostXfccBytes, parseXfcc, type XfccElement, type XfccFlaw } from '../src/auth/xfcc.ts'
import { elementsOf } from './support/xfcc.ts'

/** What an element says, without the names that it leaves out. */
function said(element: XfccElement): object {
  return Object.fromEntries(Object.entries(element).filter(([, values]) => values.length > 0))
}

const readable: readonly (readonly [what: string, text: string, ...elements: object[]])[] = [
  ['one pair', 'URI=spiffe://x/a', { uri: ['spiffe://x/a'] }],
  [
    'what a sidecar writes',
    'By=spiffe://x/b;Hash=01ab;Subject="";URI=spiffe://x/a',
    { by: ['spiffe://x/b'], hash: ['01ab'], subject: [''], uri: ['spiffe://x/a'] },
  ],
  [
    'what a waypoint writes, without a hash',
    'By=spiffe://x/b;URI=spiffe://x/a',
    { by: ['spiffe://x/b'], uri: ['spiffe://x/a'] },
  ],
  [
    'what a gateway writes',
    'Hash=1;Cert="-----BEGIN%20CERTIFICATE-----%0A";Chain="a%0Ab";Subject="CN=a,O=b";URI=;DNS=a.example;DNS=b.example',
    {
      hash: ['1'],
      cert: ['-----BEGIN%20CERTIFICATE-----%0A'],
      chain: ['a%0Ab'],
      subject: ['CN=a,O=b'],
      uri: [''],
      dns: ['a.example', 'b.example'],
    },
  ],
  ['names in any case, values as they are', 'uri=A;URI=a;uRi=B;dNs=C', { uri: ['A', 'a', 'B'], dns: ['C'] }],
  ['several own names of a proxy', 'By=a;By=b;URI=c', { by: ['a', 'b'], uri: ['c'] }],
  ['elements in their order', 'URI=a,URI=b,URI=c', { uri: ['a'] }, { uri: ['b'] }, { uri: ['c'] }],
  [
    'lines that were joined',
    'URI=a, URI=b ,URI=c  ,  URI="d" , URI=e',
    ...'abcde'.split('').map((uri) => ({ uri: [uri] })),
  ],
  ['separators within quotes', 'Subject="a,b;URI=c, =d"', { subject: ['a,b;URI=c, =d'] }],
  ['escaped quotes', 'Subject="CN=\\"a\\"\\"";URI=b', { subject: ['CN="a""'], uri: ['b'] }],
  ['a quote at the end, escaped', 'Subject="a\\""', { subject: ['a"'] }],
  ['other backslashes', 'Subject="CN=a\\,b\\\\c";URI=d\\', { subject: ['CN=a\\,b\\\\c'], uri: ['d\\'] }],
  ['everything that can be printed', `URI="${printable()}"`, { uri: [printable()] }],
  ['everything that needs no quotes', `URI=${bare()};DNS=a`, { uri: [bare()], dns: ['a'] }],
  ['an empty value', 'URI=', { uri: [''] }],
  ['an empty value in between', 'URI=;Hash=,DNS=', { uri: [''], hash: [''] }, { dns: [''] }],
  ['an empty value in quotes', 'URI="",DNS=a', { uri: [''] }, { dns: ['a'] }],
]

function printable(): string {
  return String.fromCharCode(...Array.from({ length: 0x7f - 0x20 }, (_, i) => 0x20 + i)).replaceAll(/["\\]/g, '')
}

function bare(): string {
  return printable().replaceAll(/[ ,;=]/g, '')
}

for (const [what, text, ...elements] of readable) {
  test(`a header is read: ${what}`, () => {
    assert.deepEqual(elementsOf(text).map(said), elements)
  })
}

const [name, quotes, open, twoWays, character, follows] = [
  'a pair has no name that is known',
  'a value is not in quotes as it has to be',
  'a quote is not closed',
  'a backslash can be read in two ways',
  'a character that is not allowed',
  'something follows a value',
] as const satisfies XfccFlaw[]

const unreadable: readonly (readonly [what: string, text: string, flaw: XfccFlaw])[] = [
  ['nothing', '', name],
  ['a space', ' ', name],
  ['a comma', ',', name],
  ['an empty element in front', ',URI=a', name],
  ['an empty element in between', 'URI=a,,URI=b', name],
  ['an empty element of spaces', 'URI=a, ,URI=b', name],
  ['a comma at the end', 'URI=a,', name],
  ['a comma and a space at the end', 'URI=a, ', name],
  ['an empty pair in front', ';URI=a', name],
  ['an empty pair in between', 'URI=a;;DNS=b', name],
  ['a semicolon at the end', 'URI=a;', name],
  ['a semicolon before a comma', 'URI=a;,URI=b', name],
  ['a name without a value', 'URI', name],
  ['a value without a name', '=a', name],
  ['a name that is not known', 'IP=10.0.0.1', name],
  ['a name that is not known, behind good ones', 'URI=a;Role=admin', name],
  ['the beginning of a name', 'UR=a', name],
  ['a name of an object', 'constructor=a', name],
  ['the name of all objects', '__proto__=a', name],
  ['a longer name', 'Subjects=a', name],
  ['a name with a space', 'URI =a', name],
  ['a space before a name', 'URI=a; DNS=b', name],
  ['a space before a semicolon', 'URI=a ;DNS=b', follows],
  ['a space within a value', 'URI=a b', follows],
  ['an equals sign without quotes', 'URI=a=b', quotes],
  ['a subject without quotes', 'Subject=CN=a', quotes],
  ['a quote within a value', 'URI=a"b', quotes],
  ['a quote at the end of a value', 'URI=a"', quotes],
  ['a quote that is not closed', 'Subject="a', open],
  ['a quote alone', 'Subject="', open],
  ['a quote that is closed by an escaped one', 'Subject="a\\"', open],
  ['three quotes', 'Subject="""', follows],
  ['text behind quotes', 'Subject="a"b', follows],
  ['a space and text behind quotes', 'Subject="a" b', follows],
  ['quotes behind quotes', 'Subject="a""b"', follows],
  ['a backslash before a closing quote', 'Subject="a\\\\"', twoWays],
  ['three backslashes before a quote', 'Subject="a\\\\\\"";URI=b', twoWays],
  ['a tab around a comma', 'URI=a,\tURI=b', name],
  ['a tab behind a value', 'URI=a\t,URI=b', character],
  ...['\0', '\t', '\n', '\r', '\u001F', '\u007F', '\u0080', '\u00A0', '\u00E9', '\u0131', '\u2003', '\uD800'].flatMap(
    (each) => [
      [`${JSON.stringify(each)} in a value`, `URI=a${each}b`, character] as const,
      [`${JSON.stringify(each)} in quotes`, `Subject="a${each}b"`, character] as const,
      [`${JSON.stringify(each)} in a name`, `UR${each}I=a`, name] as const,
    ],
  ),
  // Both become the same letter as a known name has, when made small or large.
  ['a letter that is only like another', 'DNſ=a', name],
  ['a name with a dotless letter', 'UR\u0131=a', name],
]

for (const [what, text, flaw] of unreadable) {
  test(`a header is refused as a whole: ${what}`, () => {
    assert.equal(parseXfcc(text), flaw)
    assert.ok(typeof parseXfcc(`URI=spiffe://x/a,${text}`) === 'string', 'behind a good element')
    if (flaw !== open) assert.ok(typeof parseXfcc(`${text},URI=spiffe://x/a`) === 'string', 'before a good element')
  })
}

test('space at the ends of a header is refused, where no line was joined', () => {
  assert.equal(parseXfcc(' URI=a'), name)
  assert.equal(parseXfcc('URI=a '), follows)
  assert.equal(parseXfcc('Subject="a" '), follows)
})

test('a header is read up to its limits and no further', () => {
  const longest = `Chain="${'a'.repeat(mostXfccBytes - 8)}"`
  assert.equal((parseXfcc(longest) as XfccElement[])[0]!.chain[0]!.length, mostXfccBytes - 8)
  assert.equal(parseXfcc(`${longest} `), 'too long')
  assert.equal(parseXfcc('URI=a', 4), 'too long')
  assert.equal(parseXfcc(repeated(64, 'URI=a', ',')).length, 64)
  assert.equal(parseXfcc(repeated(65, 'URI=a', ',')), 'too many elements')
  assert.equal(parseXfcc(repeated(10_000, 'URI=a', ',')), 'too many elements')
  assert.equal((parseXfcc(repeated(1_024, 'DNS=a', ';')) as XfccElement[])[0]!.dns.length, 1_024)
  assert.equal(parseXfcc(repeated(1_025, 'DNS=a', ';')), 'too many pairs')
  assert.equal(parseXfcc(`${repeated(512, 'DNS=a', ';')},${repeated(513, 'DNS=a', ';')}`), 'too many pairs')
})

test('64 KiB of what is hard to read are refused or read all the same', () => {
  const fill = (text: string) => repeated(Math.floor(mostXfccBytes / text.length), text, '').slice(0, mostXfccBytes)
  for (const text of ['"', '\\', '\\"', ',', ';', '=', ' ', 'URI=', 'URI="', 'URI=a, ', 'a']) {
    for (const front of ['', 'URI=', 'URI="', 'URI=a ']) {
      const read = parseXfcc(`${front}${fill(text)}`.slice(0, mostXfccBytes))
      assert.ok(typeof read === 'string' || (read.length === 1 && front === 'URI='), `${front} and ${text}`)
    }
  }
})

function repeated(count: number, text: string, separator: string): string {
  return Array.from({ length: count }, () => text).join(separator)
}

const gateway = 'spiffe://cluster.local/ns/edge/sa/gateway'
const balancer = 'spiffe://cluster.local/ns/edge/sa/balancer'
const own = 'spiffe://cluster.local/ns/ml/sa/penstock'
const alice = 'spiffe://cluster.local/ns/web/sa/alice'

/** SPIFFE id or else common name of the client, and the peer; or why there is none. */
function named(text: string, self?: string): string {
  const found = identityFrom(elementsOf(text), { trustedProxies: new Set([gateway, balancer]), self })
  if (found === undefined) return 'nobody'
  if (isRefusal(found)) return found.code
  const { client, peer } = found
  return `${client.spiffe ?? `CN ${client.commonName}`} by ${peer === client.spiffe ? 'itself' : peer}`
}

const identities: readonly (readonly [what: string, text: string, expected: string, self?: string])[] = [
  ['the one there is', `By=${own};Hash=1;Subject="";URI=${alice}`, `${alice} by itself`],
  ['the last of several', `URI=spiffe://x/admin,URI=${alice}`, `${alice} by itself`],
  ['one before a trusted proxy', `Subject="CN=a";URI=${alice},By=${own};URI=${gateway}`, `${alice} by ${gateway}`],
  ['one before two trusted proxies', `URI=${alice},URI=${balancer},URI=${gateway}`, `${alice} by ${gateway}`],
  ['nobody further left', `URI=${gateway},URI=spiffe://x/admin,URI=${alice}`, `${alice} by itself`],
  ['nobody through another proxy', `URI=spiffe://x/admin,URI=${alice},URI=${gateway}`, `${alice} by ${gateway}`],
  ['nobody, of trusted proxies alone', `URI=${balancer},URI=${gateway}`, 'nobody'],
  ['a person behind a gateway', `Subject="O=b,CN=alice";URI=,URI=${gateway}`, `CN alice by ${gateway}`],
  ['a person with another URI', 'Subject="CN=alice";URI=https://a.example', 'CN alice by itself'],
  ['nobody, without any name', 'Hash=1', 'CN  by itself'],
  ['the one SPIFFE id among URIs', `URI=https://a.example;URI=${alice}`, `${alice} by itself`],
  ['nobody with two ids', `URI=${alice};URI=spiffe://x/admin`, 'unauthenticated'],
  ['nobody with the same id twice', `URI=${alice};URI=${alice}`, 'unauthenticated'],
  ['nobody with an id and one that is like it', `URI=${alice};URI=SPIFFE://x/admin`, 'unauthenticated'],
  ['nobody with several other URIs', 'Subject="CN=a";URI=https://a;URI=https://b', 'unauthenticated'],
  ['nobody with a bad id', 'Subject="CN=alice";URI=spiffe://x/a/../admin', 'unauthenticated'],
  ['nobody with a bad id in capitals', 'Subject="CN=alice";URI=SPIFFE://x/admin', 'unauthenticated'],
  ['nobody by a URI that injects another', 'URI=spiffe://x/a;URI=spiffe://x/admin', 'unauthenticated'],
  ['nobody by a URI that injects a proxy', `URI=${alice},URI=spiffe://x/a;URI=${gateway}`, 'unauthenticated'],
  ['nobody by a quoted id with more in it', 'URI="spiffe://x/a;URI=spiffe://x/admin"', 'unauthenticated'],
  ['nobody by a subject twice', `Subject="CN=a";Subject="CN=b";URI=${alice}`, 'unauthenticated'],
  ['nobody by a hash twice', `Hash=1;Hash=1;URI=${alice}`, 'unauthenticated'],
  ['nobody by a certificate that a subject injects', `Cert="a";Subject="";Cert="b";URI=${alice}`, 'unauthenticated'],
  [
    'the subject, whatever it says of certificates',
    'Subject="CN=alice\\,Cert=b\\;URI=c"',
    'CN alice,Cert=b;URI=c by itself',
  ],
  ['nobody by a name twice', 'Subject="CN=alice,O=a,CN=admin"', 'CN  by itself'],
  ['nobody by a name behind an escape', 'Subject="O=a\\,CN=admin"', 'CN  by itself'],
  ['nobody by a subject with a quote', 'Subject="O=\\"a,CN=admin"', 'CN  by itself'],
  ['nobody by a name in hexadecimal', 'Subject="CN=\\61dmin"', 'CN  by itself'],
  ['who it is, said to us', `By=${own};URI=${alice}`, `${alice} by itself`, own],
  ['nobody by what was said to another', `By=${gateway};URI=${alice}`, 'unauthenticated', own],
  ['nobody by what was said to no one', `URI=${alice}`, 'unauthenticated', own],
  ['nobody by what was said to us and another', `By=${own};By=${gateway};URI=${alice}`, 'unauthenticated', own],
  [
    'who it is, said to a proxy that told us',
    `By=a;URI=${alice},By=${own};URI=${gateway}`,
    `${alice} by ${gateway}`,
    own,
  ],
  ['nobody by what a proxy was told', `By=${own};URI=${alice},By=a;URI=${gateway}`, 'unauthenticated', own],
  ['one before 16 trusted proxies', `URI=${alice},${repeated(16, `URI=${gateway}`, ',')}`, `${alice} by ${gateway}`],
  ['nobody before 17 trusted proxies', `URI=${alice},${repeated(17, `URI=${gateway}`, ',')}`, 'unauthenticated'],
]

for (const [what, text, expected, self] of identities) {
  test(`a header names ${what}`, () => {
    assert.equal(named(text, self), expected)
  })
}

test('a SPIFFE id is good only if nobody can take it for another', () => {
  const domain = 'a'.repeat(255)
  const good = ['spiffe://x/a', alice, 'spiffe://a.b-c_9/A.b/c_d-e', `spiffe://${domain}/a`, padded(2_048)]
  const bad = [
    '',
    'spiffe://',
    'spiffe://x',
    'spiffe://x/',
    'spiffe:///a',
    'spiffe://x//a',
    'spiffe://x/a/',
    'spiffe:/x/a',
    'SPIFFE://x/a',
    'Spiffe://x/a',
    'spiffe://X/a',
    'https://x/a',
    ' spiffe://x/a',
    'spiffe://x/a ',
    'spiffe://x/a\n',
    'spiffe://x/../a',
    'spiffe://x/..',
    'spiffe://../a',
    'spiffe://x/a..b',
    'spiffe://x/.',
    'spiffe://x/./a',
    'spiffe://x:1/a',
    'spiffe://u@x/a',
    'spiffe://x/a?b',
    'spiffe://x/a#b',
    'spiffe://x/%61',
    'spiffe://x/\u00E9',
    `spiffe://${domain}a/a`,
    padded(2_049),
  ]
  for (const id of good) assert.equal(isSpiffeId(id), true, id)
  for (const id of bad) assert.equal(isSpiffeId(id), false, id)
})

function padded(length: number): string {
  return 'spiffe://x/'.padEnd(length, 'a')
}
