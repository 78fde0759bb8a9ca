/**
 * `x-forwarded-client-cert`, in which Envoy says whose certificate it has verified: elements, one for each proxy on the
 * way with the nearest at the end, each made of pairs. Read in one pass, and refused as a whole when anything in it is
 * not as the grammar has it, because a client chooses parts of the values (Envoy, "HTTP header manipulation").
 */
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { commonNameOf } from './distinguished-name.ts'
import { spiffeIdAmong } from '../core/spiffe.ts'
import type { Proof } from './workload.ts'

const names = ['by', 'hash', 'cert', 'chain', 'subject', 'uri', 'dns'] as const
export type XfccName = (typeof names)[number]
/** Values in their order, without quotes and escapes. */
export type XfccElement = Readonly<Record<XfccName, readonly string[]>>

/** Why a header is refused. */
export type XfccFlaw =
  | 'too long'
  | 'too many elements'
  | 'too many pairs'
  | 'a pair has no name that is known'
  | 'a value is not in quotes as it has to be'
  | 'a quote is not closed'
  | 'a backslash can be read in two ways'
  | 'a character that is not allowed'
  | 'something follows a value'

/** Most that Node can be told to accept of a whole head is more; certificates with their chains need less. */
export const mostXfccBytes = 65_536
const mostElements = 64
const mostPairs = 1_024

const [space, quote, comma, semicolon, equals, backslash] = [0x20, 0x22, 0x2c, 0x3b, 0x3d, 0x5c] as const
const byName = new Map<string, XfccName>(names.map((name) => [name, name]))
const longestName = Math.max(...names.map(({ length }) => length))

/** The elements of a header, or what is wrong with it. */
export function parseXfcc(text: string, mostBytes = mostXfccBytes): readonly XfccElement[] | XfccFlaw {
  if (text.length > mostBytes) return 'too long'
  const elements: XfccElement[] = []
  let element = emptyElement()
  let pairs = 0
  for (let at = 0; ; at++) {
    const pair = readPair(text, at)
    if (typeof pair === 'string') return pair
    if (++pairs > mostPairs) return 'too many pairs'
    element[pair.name].push(pair.text)
    at = pair.end
    if (text.charCodeAt(at) === semicolon) continue
    if (elements.push(element) > mostElements) return 'too many elements'
    if (at === text.length) return elements
    // Node joins the lines of a header with a comma and a space.
    while (text.charCodeAt(at) === space) at++
    if (text.charCodeAt(at) !== comma) return 'something follows a value'
    while (text.charCodeAt(at + 1) === space) at++
    element = emptyElement()
  }
}

export interface XfccTrust {
  /** SPIFFE ids of proxies whose word is taken for who was at their other end. */
  readonly trustedProxies: ReadonlySet<string>
  /** The SPIFFE id for which the nearest proxy must have spoken, if that is checked. */
  readonly self: string | undefined
}

export interface XfccIdentity {
  /** Whose request it is. */
  readonly client: Proof
  /** The SPIFFE id of the workload that the nearest proxy had at its other end; the client's own unless it came by others. */
  readonly peer: string | undefined
}

/** More trusted proxies one behind the other are taken for a loop or a trick. */
const mostSteps = 16

/**
 * Whom the elements name. That is the last element; or, where it names a trusted proxy, the one that this proxy has
 * written, and so on. Undefined if they name trusted proxies only: none of these knows who sent the request.
 */
export function identityFrom(
  elements: readonly XfccElement[],
  { trustedProxies, self }: XfccTrust,
): XfccIdentity | undefined | Refusal {
  if (self !== undefined && !isOnly(elements.at(-1)?.by, self)) return notForUs
  let peer: string | undefined
  for (const [steps, element] of elements.toReversed().entries()) {
    if (steps > mostSteps) return tooManySteps
    const client = proofOf(element)
    if (isRefusal(client)) return client
    const { spiffe } = client
    if (steps === 0) peer = spiffe
    if (spiffe === undefined || !trustedProxies.has(spiffe)) return { client, peer }
  }
  return undefined
}

function proofOf({ uri, hash, cert, subject }: XfccElement): Proof | Refusal {
  if (hash.length > 1 || cert.length > 1 || subject.length > 1) return repeated
  const spiffe = spiffeIdAmong(uri)
  if (isRefusal(spiffe)) return spiffe
  if (spiffe === undefined && uri.length > 1) return repeated
  return { spiffe, commonName: commonNameOf(subject[0] ?? '') ?? '' }
}

function isOnly(values: readonly string[] = [], value: string): boolean {
  return values.length > 0 && values.every((each) => each === value)
}

const repeated = refuse(
  'unauthenticated',
  '`x-forwarded-client-cert` says several things of one certificate: only one SPIFFE id may stand in it',
)
const notForUs = refuse('unauthenticated', '`x-forwarded-client-cert` was written for another workload than this')
const tooManySteps = refuse('unauthenticated', '`x-forwarded-client-cert` names too many proxies')

interface Pair {
  readonly name: XfccName
  readonly text: string
  /** Where what follows the value begins. */
  readonly end: number
}

function readPair(text: string, start: number): Pair | XfccFlaw {
  const sign = text.slice(start, start + longestName + 1).indexOf('=')
  const name = sign < 0 ? undefined : byName.get(text.slice(start, start + sign).toLowerCase())
  if (!name) return 'a pair has no name that is known'
  const from = start + sign + 1
  return text.charCodeAt(from) === quote ? readQuoted(text, from + 1, name) : readPlain(text, from, name)
}

/** Also an empty one: a proxy that finds nothing to say may leave the value out. */
function readPlain(text: string, from: number, name: XfccName): Pair | XfccFlaw {
  let at = from
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === comma || code === semicolon || code === space) break
    if (code === equals || code === quote) return 'a value is not in quotes as it has to be'
    if (!isVisible(code)) return 'a character that is not allowed'
  }
  return { name, text: text.slice(from, at), end: at }
}

function readQuoted(text: string, from: number, name: XfccName): Pair | XfccFlaw {
  let hasEscapes = false
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) {
      const value = text.slice(from, at)
      return { name, text: hasEscapes ? value.replaceAll('\\"', '"') : value, end: at + 1 }
    }
    if (code === backslash) {
      const isEscape = text.charCodeAt(at + 1) === quote
      // Of `\\"` some say that it ends the value, and others that it does not.
      if (isEscape && text.charCodeAt(at - 1) === backslash) return 'a backslash can be read in two ways'
      if (isEscape) at++
      hasEscapes ||= isEscape
    } else if (!isVisible(code) && code !== space) return 'a character that is not allowed'
  }
  return 'a quote is not closed'
}

function isVisible(code: number): boolean {
  return code > space && code < 0x7f
}

function emptyElement(): Record<XfccName, string[]> {
  return { by: [], hash: [], cert: [], chain: [], subject: [], uri: [], dns: [] }
}
