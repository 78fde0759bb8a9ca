/** Tokens taken apart, strictly (RFC 7515 section 7.1). Nothing that comes out is proved yet. */
import { LRUCache } from 'lru-cache'
import { isRecord } from './keys.ts'

export interface Header {
  readonly algorithm: string
  readonly kid: string | undefined
  readonly type: string | undefined
}

export type Claims = Readonly<Record<string, unknown>>

export interface Parsed {
  readonly header: Header
  readonly claims: Claims
}

const scheme = /^bearer( +|$)/i
const compact = /^([\w-]+)\.([\w-]+)\.[\w-]+$/
const payloadForm = /^[\w-]+={0,2}$/
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Tokens of an issuer have the same few heads. */
const headers = new LRUCache<string, Header>({ max: 100 })

/** What follows the scheme in an Authorization field; undefined if the scheme is another (RFC 6750 section 2.1). */
export function bearerOf(authorization: string): string | undefined {
  const found = scheme.exec(authorization)
  return found ? authorization.slice(found[0].length) : undefined
}

export function parseToken(token: string): Parsed | 'malformed' {
  const parts = compact.exec(token)
  if (!parts) return 'malformed'
  const header = headerOf(parts[1]!)
  const claims = header && parseObject(parts[2]!)
  return header && claims ? { header, claims } : 'malformed'
}

/** Claims as a proxy hands them over: base64url, padded or not. */
export function parsePayload(payload: string): Claims | 'malformed' {
  return (payloadForm.test(payload) ? parseObject(payload.replace(/=+$/, '')) : undefined) ?? 'malformed'
}

/**
 * Keys that a token brings along (`jwk`, `jku`, `x5u`, `x5c`) are not even read. Extensions that must be understood are
 * not: there is none here (RFC 7515 section 4.1.11, RFC 7797).
 */
function headerOf(part: string): Header | undefined {
  const known = headers.get(part)
  if (known) return known
  const header = parseObject(part)
  if (!header || 'crit' in header || 'b64' in header) return undefined
  const { alg, kid, typ } = header
  if (typeof alg !== 'string' || !isTextOrNothing(kid) || !isTextOrNothing(typ)) return undefined
  const read = { algorithm: alg, kid, type: typ }
  headers.set(part, read)
  return read
}

function isTextOrNothing(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string'
}

function parseObject(part: string): Claims | undefined {
  if (part.length % 4 === 1) return undefined
  try {
    const value: unknown = JSON.parse(decoder.decode(Buffer.from(part, 'base64url')))
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}
