/** Everything that can be wrong with a token: a short closed list, which is also the label of the metric. */
import { Refusal } from '../../core/refusal.ts'

/** RFC 6750 section 3.1. */
const challenge = ['www-authenticate', 'Bearer realm="penstock", error="invalid_token"']

function bad(message: string): Refusal {
  return new Refusal('unauthenticated', message, undefined, challenge)
}

/** What the client is told, which helps whoever made the token and is nothing that a forger does not know. */
export const faults = {
  scheme: bad('expected `authorization: Bearer TOKEN`'),
  malformed: bad('expected one signed token (JWS compact form) within the limit of bytes, with a JSON object inside'),
  issuer: bad('the issuer of the token is not one that is trusted here'),
  algorithm: bad('the token is signed with an algorithm that is not accepted from its issuer'),
  type: bad('the type of the token is not one that is accepted from its issuer'),
  audience: bad('the token is for another audience'),
  expired: bad('the token has expired: get a new one'),
  early: bad('the token is not valid yet: compare the clocks of its issuer and of this machine'),
  lifetime: bad('the token is valid for longer than is accepted from its issuer, or does not say until when'),
  claims: bad('the token lacks a claim that is needed, or one of them is not of the right type or length'),
  key: bad('no key of this issuer signed the token'),
  signature: bad('the signature of the token is not good'),
  revoked: bad('the token has been revoked: get a new one'),
  keys_unavailable: new Refusal('not_ready', 'the keys of the issuer of this token cannot be fetched at the moment'),
  revocations_unavailable: new Refusal('not_ready', 'the list of revoked tokens cannot be read at the moment'),
  busy: new Refusal('overloaded', 'too many tokens are being verified'),
  failures: new Refusal('rate_limited', 'too many bad tokens came from this address'),
} as const satisfies Record<string, Refusal>

export type Fault = keyof typeof faults

export function isFault(value: unknown): value is Fault {
  return typeof value === 'string'
}

/** Those that the same token will have again in a moment, so that it need not be looked at again. */
export const lasting: ReadonlySet<Fault> = new Set<Fault>([
  'malformed',
  'issuer',
  'algorithm',
  'type',
  'audience',
  'expired',
  'lifetime',
  'claims',
  'signature',
])

/** Those that are not the token's, nor its sender's. */
export const ours: ReadonlySet<Fault> = new Set<Fault>([
  'keys_unavailable',
  'revocations_unavailable',
  'busy',
  'failures',
])
