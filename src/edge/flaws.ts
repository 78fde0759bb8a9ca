/** What the parsers of Node let through and HTTP does not. */
import type { IncomingHttpHeaders } from 'node:http'
import { refuse, type Refusal } from '../core/refusal.ts'

/** A host and a port as they may stand in `Host` and `:authority` (RFC 3986 section 3.2); empty if there is no host to name. */
const authority = /^(\[[\da-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?$/i

/** Clients name the same one again and again. */
let lastGood = ''

export function hostFlaw(host: string): Refusal | undefined {
  if (host === lastGood) return undefined
  if (!authority.test(host)) return refuse('invalid', 'what the request gives as its host is none')
  lastGood = host
  return undefined
}

/**
 * Node keeps the first of several `Authorization` fields and tells nobody; whoever stands in front may have looked at
 * another. `fields` are all names and values in turn.
 */
export function proofFlaw(authorization: string | undefined, fields: readonly string[]): Refusal | undefined {
  if (authorization === undefined) return undefined
  let count = 0
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    if (name.length === 13 && name.toLowerCase() === 'authorization') count++
  }
  return count === 1 ? undefined : refuse('invalid', `the request has ${count} "authorization" fields`)
}

/** A head of HTTP/1. */
export interface Head {
  /** `1.1`, or what else the client says. */
  readonly version: string
  readonly headers: IncomingHttpHeaders
  /** All names, in any case, and values in turn. */
  readonly fields: readonly string[]
}

/** What is wrong with a head whose lines are good: RFC 9112 section 3.2, or the limits do not let it through. */
export function headFlaw({ version, headers, fields }: Head, maxFields: number): Refusal | undefined {
  if (fields.length > 2 * maxFields) return refuse('header_too_large', `${maxFields} header fields are the most`)
  let hosts = 0
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i]!
    if (name.length === 4 && name.toLowerCase() === 'host') hosts++
  }
  if (hosts > 1 || (hosts === 0 && version === '1.1')) {
    return refuse('invalid', `the request has ${hosts} "host" fields where there must be one`)
  }
  return (
    hostFlaw(headers.host ?? '') ??
    proofFlaw(headers.authorization, fields) ??
    (version === '1.0' ? undefined : expectationFlaw(headers.expect))
  )
}

/**
 * What leaves a doubt about where the request ends, so that nothing behind it may be taken for a request: another version,
 * or a coding that is not known or that the version does not have (RFC 9112 section 6.1).
 */
export function framingFlaw({ version, headers }: Omit<Head, 'fields'>): Refusal | undefined {
  if (version !== '1.1' && version !== '1.0') return refuse('invalid', 'this is not HTTP/1.1')
  const coding = headers['transfer-encoding']
  if (coding === undefined) return undefined
  if (version === '1.0') return refuse('invalid', 'HTTP/1.0 has no "transfer-encoding"')
  return coding.toLowerCase() === 'chunked'
    ? undefined
    : refuse('invalid', 'the only "transfer-encoding" that is spoken here is "chunked"')
}

/** `Expect` may say that the client waits for leave to send the body, and nothing else (RFC 9110 section 10.1.1). */
export function expectationFlaw(expect: string | undefined): Refusal | undefined {
  return expect === undefined || isContinue(expect)
    ? undefined
    : refuse('expectation_failed', 'the only expectation that is met here is "100-continue"')
}

export function isContinue(expect: string): boolean {
  return expect.toLowerCase() === '100-continue'
}
