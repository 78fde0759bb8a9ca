import * as z from 'zod'
import { isLoopback } from '../../core/address.ts'
import { developmentIssuer, type development } from './development-issuer.ts'
import { issuers } from './issuers.ts'
import type { jwks } from './jwks-issuer.ts'
import type { secret } from './secret-issuer.ts'

const revocationOptions = z.strictObject({
  key: z
    .string()
    .min(1)
    .default('penstock:revoked')
    .describe(
      'Sorted set in Redis. A member is `jti:ISSUER/ID` or `sub:ISSUER/SUBJECT`, its score the second since 1970 until which it is revoked.',
    ),
  everyMs: z.int().min(100).max(3_600_000).default(5_000).describe('How often the list is read.'),
  staleMs: z
    .int()
    .min(1_000)
    .max(86_400_000)
    .default(60_000)
    .describe('How long the list is relied on after it was last read. Beyond it `onError` decides.'),
  onError: z
    .enum(['refuse', 'allow'])
    .default('refuse')
    .describe('What becomes of tokens while there is no list to rely on: 503, or the last list that was read counts.'),
})

type Kinds = Parameters<typeof issuers.create>[0]
/** As people write it: what has a default may be left out. */
type WrittenKinds = z.input<(typeof jwks | typeof secret | typeof development)['options']>

export const jwtOptions = z
  .strictObject({
    issuers: z
      .array(issuers.options as z.ZodType<Kinds, WrittenKinds>)
      .min(1)
      .max(100)
      .describe('Who makes tokens that are accepted. `kind` is `jwks`, `secret` or `development`.'),
    payloadHeader: z
      .string()
      .regex(/^[a-z0-9-]+$/, { error: 'expected the name of a header field in lower case' })
      .optional()
      .describe(
        'Field in which a proxy hands over the claims of a token that it has verified, in base64url; looked at only where `mesh.mode` trusts one.',
      ),
    maxTokenBytes: z.int().min(256).max(65_536).default(8_192).describe('Longest token. Beyond it: 401.'),
    maxVerifications: z
      .int()
      .min(1)
      .max(4_096)
      .default(64)
      .describe('Most signatures verified at once. Beyond it: 503.'),
    maxFailuresPerMinute: z
      .int()
      .min(1)
      .max(100_000)
      .default(60)
      .describe('Bad tokens of one client address. Beyond it those that were not seen before are refused with 429.'),
    maxCached: z.int().min(1).max(1_000_000).default(10_000).describe('Most tokens that are kept as verified.'),
    revocation: revocationOptions.optional().describe('Tokens that are refused although they are good.'),
  })
  .superRefine(({ issuers: chosen, revocation }, context) => {
    const complain = (path: (string | number)[], message: string, input: unknown) => {
      context.addIssue({ code: 'custom', path, message, input })
    }
    for (const [i, issuer] of chosen.entries()) {
      const name = nameOf(issuer)
      if (chosen.slice(0, i).some((other) => nameOf(other) === name))
        complain(['issuers', i], `"${name}" is the issuer of two: make one of them`, name)
      if (issuer.kind !== 'jwks') continue
      const { url, file, ca, refreshS, staleS } = issuer
      if ((url === undefined) === (file === undefined))
        complain(['issuers', i], 'expected `url` or `file`, one of them', undefined)
      if (url !== undefined && !isGoodUrl(url))
        complain(['issuers', i, 'url'], 'expected `https://...` without a password; `http` only on this machine', url)
      if (ca !== undefined && url === undefined)
        complain(['issuers', i, 'ca'], 'authorities are for a `url`: take it away', ca)
      if (staleS < refreshS) complain(['issuers', i, 'staleS'], 'expected no less than `refreshS`', staleS)
    }
    if (revocation && revocation.staleMs < revocation.everyMs)
      complain(['revocation', 'staleMs'], 'expected no less than `everyMs`', revocation.staleMs)
  })

export type JwtOptions = z.output<typeof jwtOptions>

/** What the claim `iss` says in tokens of an issuer. */
function nameOf(issuer: Kinds): string {
  return issuer.kind === 'development' ? developmentIssuer : issuer.issuer
}

/** Whoever is on the way of plain HTTP could choose the keys. */
function isGoodUrl(text: string): boolean {
  const url = URL.parse(text)
  if (!url || url.username !== '' || url.password !== '') return false
  return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
}

/** The options with every file name as `fromConfig` makes it. */
export function withFiles(options: JwtOptions, fromConfig: (file: string) => string): JwtOptions {
  const resolved = (file: string | undefined) => (file === undefined ? undefined : fromConfig(file))
  const chosen = options.issuers.map((issuer): Kinds => {
    if (issuer.kind === 'jwks') return { ...issuer, file: resolved(issuer.file), ca: resolved(issuer.ca) }
    return issuer.kind === 'secret' ? { ...issuer, secretFile: fromConfig(issuer.secretFile) } : issuer
  })
  return { ...options, issuers: chosen }
}
