/** What the parsers of Node let through and HTTP does not. */
import { refuse, type Refusal } from '../../core/refusal.ts'

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

/** `Expect` may say that the client waits for leave to send the body, and nothing else (RFC 9110 section 10.1.1). */
export function unexpected(): Refusal {
  return refuse('expectation_failed', 'the only expectation that is met here is "100-continue"')
}

export function isContinue(expect: string): boolean {
  return expect.toLowerCase() === '100-continue'
}
