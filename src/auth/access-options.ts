import * as z from 'zod'
import { operations } from '../core/caller.ts'
import { glob } from '../core/glob.ts'

const patterns = z.array(glob).min(1).optional()

const who = z.union([
  z.enum(['anyone', 'identified']),
  z
    .strictObject({
      callers: patterns.describe('Full names, as they are in logs: `https://login.example.com/alice`, `key:robot`.'),
      tenants: patterns.describe('Tenants.'),
      subjects: patterns.describe('Subjects, whoever vouches for them.'),
      scopes: patterns.describe('Scopes, of which the caller has one.'),
      spiffe: patterns.describe('SPIFFE ids such as `spiffe://cluster.local/ns/team-a/sa/*`.'),
      peers: patterns.describe('SPIFFE ids of the workload through which it calls, such as an ingress.'),
      methods: z
        .array(z.enum(['jwt', 'api-key', 'mtls', 'mesh']))
        .min(1)
        .optional()
        .describe('How the caller was identified.'),
    })
    .refine((value) => Object.values(value).some((each) => each !== undefined), {
      error: 'expected at least one of its keys; `identified` stands for whoever is known, `anyone` for everybody',
    }),
])

export const ruleOptions = z.strictObject({
  effect: z.enum(['allow', 'deny']).default('allow').describe('What becomes of what the rule fits.'),
  who: who.describe(
    'Whom it is about: `anyone`, `identified` (whoever has shown good credentials), or who fits every list that is given, with any of its patterns. `*` stands for anything but a slash, `**` for anything.',
  ),
  operations: z.array(z.enum(operations)).min(1).describe('What it is about.'),
  models: z.array(glob).min(1).default(['**']).describe('Names of models it is about.'),
  versions: z.array(glob).min(1).default(['**']).describe('Their versions.'),
})

export type RuleOptions = z.output<typeof ruleOptions>
