/** Whose tenant a workload is and what scopes it has, by the SPIFFE id or the common name that it has proved. */
import * as z from 'zod'
import type { Caller } from '../core/caller.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import { glob, matcherOf } from '../core/glob.ts'
import { looksLikeSpiffe, trustDomainOf } from '../core/spiffe.ts'

const subject = z
  .strictObject({
    spiffe: glob
      .optional()
      .describe('SPIFFE ids such as `spiffe://cluster.local/ns/team-a/sa/*`; `*` stands for anything but a slash.'),
    commonName: glob.optional().describe('Common names of certificates that hold no SPIFFE id; `*` as above.'),
    tenant: z.string().max(256).default('').describe('Tenant of who fits.'),
    scopes: z.array(z.string().min(1).max(256)).max(100).default([]).describe('Scopes of who fits.'),
    profile: z
      .string()
      .min(1)
      .max(64)
      .optional()
      .describe('How much of an answer who fits may see. Nothing goes by it yet.'),
  })
  .refine(({ spiffe, commonName }) => (spiffe === undefined) !== (commonName === undefined), {
    error: 'expected either `spiffe` or `commonName`',
  })

/** How certificates and the mesh say who is calling. */
export const workloadOptions = z.strictObject({
  trustDomains: z
    .array(z.string().regex(/^[a-z0-9._-]{1,255}$/, { error: 'expected a trust domain such as `cluster.local`' }))
    .max(100)
    .default([])
    .describe('Trust domains whose SPIFFE ids are accepted; empty for any that an authority vouches for.'),
  subjects: z
    .array(subject)
    .max(1_000)
    .default([])
    .describe('Who has which tenant and scopes: the first that fits decides. Whom none fits has neither.'),
})

export type WorkloadOptions = z.output<typeof workloadOptions>

/** What somebody has proved to be. */
export interface Proof {
  readonly spiffe: string | undefined
  /** Empty if it has none. */
  readonly commonName: string
}

/** Longest is 64 characters by X.520; authorities are not all that strict. */
const longestName = 256

/** Makes the function from what was proved to a caller. */
export function createWorkloads({ trustDomains, subjects }: WorkloadOptions, method: 'mtls' | 'mesh') {
  const domains = new Set(trustDomains)
  const rights = subjects.map(({ spiffe, commonName, ...rest }) => {
    return { isSpiffe: spiffe !== undefined, fits: matcherOf([spiffe ?? commonName!]), ...rest }
  })
  return ({ spiffe, commonName }: Proof): Caller | Refusal => {
    if (spiffe === undefined && !isName(commonName)) return nameless
    if (spiffe !== undefined && domains.size > 0 && !domains.has(trustDomainOf(spiffe))) return foreign
    const name = spiffe ?? commonName
    const found = rights.find(({ isSpiffe, fits }) => isSpiffe === (spiffe !== undefined) && fits(name))
    const { tenant = '', scopes = [], profile } = found ?? {}
    return { name: `${method}:${name}`, method, tenant, subject: name, scopes, claims: {}, spiffe, profile }
  }
}

/** A common name is free text, which must not pass for a SPIFFE id or break a line of a log. */
function isName(text: string): boolean {
  return text !== '' && text.length <= longestName && !looksLikeSpiffe(text) && !/\p{C}/u.test(text)
}

const nameless = refuse(
  'unauthenticated',
  'the client certificate names nobody: issue it with one SPIFFE id, or with a plain common name',
)
const foreign = refuse('unauthenticated', 'the SPIFFE id is of a trust domain that is not accepted here')
