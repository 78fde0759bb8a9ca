/** What tokens of an issuer must be like to be accepted, and which of their claims say what. */
import * as z from 'zod'

const claim = z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(8)])

/** Names of a claim on the way down to it. A name may hold anything: `https://example.com/tenant` is one name. */
export type ClaimPath = z.output<typeof claim>

const claimsOptions = z.strictObject({
  tenant: claim.default('tenant').describe('Claim that names the tenant. A token may lack it.'),
  subject: claim.default('sub').describe('Claim that names the caller. A token must have it.'),
  scopes: claim
    .default('scope')
    .describe('Claim with the scopes, as a list or as text with spaces between. A token may lack it.'),
  profile: claim
    .default('profile')
    .describe('Claim that says how much of an answer the caller may see. A token may lack it. Nothing goes by it yet.'),
})

/** Media types may leave `application/` out, and letters are the same in both cases (RFC 7515 section 4.1.9). */
export function plainType(type: string): string {
  return type.toLowerCase().replace(/^application\//, '')
}

/** Of RFC 9068, RFC 7519 and of the many issuers who leave it out. */
const usualTypes = ['jwt', 'at+jwt', 'none']

/** Options that every kind of issuer has. */
export const termsShape = {
  issuer: z.string().min(1).max(1_024).describe('Exactly what the claim `iss` says.'),
  audiences: z
    .array(z.string().min(1))
    .min(1)
    .describe('Names of this gateway. The claim `aud` must hold one of them.'),
  claims: claimsOptions
    .prefault({})
    .describe('Which claims say what: a name each, or for what is nested a list of the names on the way to it.'),
  requiredClaims: z.array(z.string().min(1)).default([]).describe('Further claims that a token must have.'),
  types: z
    .array(z.string().min(1).overwrite(plainType))
    .min(1)
    .default(usualTypes)
    .describe('Types (`typ`) of tokens that are accepted; `none` stands for tokens that say no type.'),
  skewS: z
    .int()
    .min(0)
    .max(300)
    .default(30)
    .describe('How far the clocks of the issuer and of this machine may be apart.'),
  maxLifetimeS: z
    .int()
    .min(1)
    .max(366 * 86_400)
    .default(86_400)
    .describe('Longest time that a token may be valid for. Those valid for longer are refused.'),
}

const termsObject = z.strictObject(termsShape)

export interface Terms extends z.output<typeof termsObject> {
  readonly algorithms: readonly string[]
}

/** Terms for tokens that we make ourselves. */
export function ownTerms(issuer: string, audience: string, algorithm: string): Terms {
  return { ...termsObject.parse({ issuer, audiences: [audience] }), algorithms: [algorithm] }
}
