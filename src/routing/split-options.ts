/** How the requests of a model are split between versions of it: see `Split`. */
import * as z from 'zod'
import { glob } from '../core/glob.ts'

const mostArms = 16
const mostRules = 64
const mostShadows = 4
const mostPatterns = 64
const mostFields = 16
/** Longer values of a header or a claim stand for nobody. */
export const longestUnit = 256
const longestWindowS = 31 * 86_400

const armId = z.string().regex(/^[A-Za-z][A-Za-z0-9._-]{0,63}$/, {
  error: 'expected a letter, then up to 63 letters, digits, . _ -',
})

const version = z
  .string({ error: 'expected a version or an alias, in quotes' })
  .min(1, { error: 'expected a version or an alias' })
  .max(128, { error: 'expected a version or an alias of at most 128 characters' })

const heaviest = 1e6
const weightError = { error: `expected a weight from 0 to ${heaviest}` }
const shareError = { error: 'expected a share from 0 to 1' }

const headerName = z.string().regex(/^[a-z0-9!#$%&'*+.^_`|~-]{1,128}$/, {
  error: 'expected the name of a header in lower case',
})
const claimName = z.string().min(1).max(longestUnit)
const value = z
  .string({ error: 'expected a text, in quotes' })
  .max(longestUnit, { error: `expected a text of at most ${longestUnit} characters` })

const windowS = z
  .int()
  .min(1)
  .max(longestWindowS)
  .optional()
  .describe(
    'Seconds after which each unit is assigned anew. Without it a unit keeps its arm for as long as weights allow.',
  )

export const unitOptions = z
  .discriminatedUnion('by', [
    z.strictObject({ by: z.literal('request') }),
    z.strictObject({ by: z.literal('caller'), windowS }),
    z.strictObject({ by: z.literal('claim'), name: claimName.describe('Of the claim.'), windowS }),
    z.strictObject({ by: z.literal('header'), name: headerName.describe('Of the header, in lower case.'), windowS }),
  ])
  .prefault({ by: 'request' })
  .describe(
    'What is assigned to an arm as a whole: each request by itself, or all of a caller, or all with the same value of a claim or a header. Who has no such value is assigned by request.',
  )

const armOptions = z.strictObject({
  version: version.describe('A version or an alias.'),
  weight: z
    .number(weightError)
    .min(0, weightError)
    .max(heaviest, weightError)
    .describe('Of all that is drawn, its part: this by the sum of all weights. With 0 it gets only who is sent there.'),
})

/** By name, at least one and not too many. */
function fields<Key extends z.core.$ZodRecordKey>(key: Key) {
  return z
    .record(key, value)
    .refine((all) => Object.keys(all).length <= mostFields, { error: `expected at most ${mostFields} names` })
    .optional()
}

const patterns = z.array(glob).min(1).max(mostPatterns).optional()

const matchOptions = z
  .strictObject({
    headers: fields(headerName).describe('Headers and the values that they must have, exactly.'),
    claims: fields(claimName).describe('Claims and the values that they must have, exactly.'),
    callers: patterns.describe('Callers, by their full names. `*` is anything but a slash, `**` anything.'),
    routes: patterns.describe('Routes that the request may have come by.'),
  })
  .refine((match) => Object.values(match).some((each) => each !== undefined && Object.keys(each).length > 0), {
    error: 'expected headers, claims, callers or routes: as it is, it would be for everybody',
  })

const ruleOptions = z.strictObject({
  match: matchOptions.describe('Whom it is for: who fits all that is given.'),
  arm: z.string().describe('Where they go.'),
})

const shadowOptions = z.strictObject({
  version: version.describe('A version or an alias. It runs and its answers are compared, but no client sees them.'),
  share: z.number(shareError).min(0, shareError).max(1, shareError).describe('Part of the requests that it runs too.'),
})

export const splitOptions = z
  .strictObject({
    unit: unitOptions,
    salt: value
      .min(1, { error: 'expected a text' })
      .optional()
      .describe(
        'Makes this split independent of others: with the same salt and arms the same units go the same ways. Without it the name of the model.',
      ),
    hash: z
      .enum(['xxh64', 'hmac-sha256'])
      .default('xxh64')
      .describe(
        'How a unit is drawn. `hmac-sha256` with a secret `salt` is for clients that choose their own unit and could gain from an arm: they cannot find one that suits them by trial.',
      ),
    arms: z
      .record(armId, armOptions)
      .refine((arms) => Object.keys(arms).length > 0, { error: 'expected at least one arm' })
      .refine((arms) => Object.keys(arms).length <= mostArms, { error: `expected at most ${mostArms} arms` })
      .refine((arms) => Object.keys(arms).length === 0 || Object.values(arms).some(({ weight }) => weight > 0), {
        error: 'expected a weight above 0 for at least one arm',
      })
      .describe(
        'What units are assigned to, by a name that stays: units follow it when weights change, and no more of them move than must.',
      ),
    rules: z
      .array(ruleOptions)
      .max(mostRules, { error: `expected at most ${mostRules} rules` })
      .default([])
      .describe('Who goes to an arm without a draw: the first that fits holds.'),
    default: z
      .string()
      .optional()
      .describe(
        'The arm of those who may not use the version of theirs, or whose arm was rolled back. Without it the one with the largest weight, of several the first by name.',
      ),
    shadows: z
      .array(shadowOptions)
      .max(mostShadows, { error: `expected at most ${mostShadows} shadows` })
      .default([])
      .describe('Versions that run requests beside the one that answers.'),
  })
  .superRefine(({ arms, rules, default: fallback, shadows }, context) => {
    const complain = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message })
    const isUnknown = (arm: string) => !Object.hasOwn(arms, arm)
    const known = `expected one of the arms ${Object.keys(arms).toSorted().join(', ')}`
    for (const [i, { arm }] of rules.entries()) if (isUnknown(arm)) complain(['rules', i, 'arm'], known)
    if (fallback !== undefined && isUnknown(fallback)) complain(['default'], known)
    const seen = new Set<string>()
    for (const [i, shadow] of shadows.entries()) {
      if (seen.has(shadow.version)) complain(['shadows', i, 'version'], 'another shadow has this version')
      seen.add(shadow.version)
    }
  })

export type SplitOptions = z.output<typeof splitOptions>

/** The first thing wrong with a split that has not come through the schema, as an edit by another way; or undefined. */
export function splitMistake(options: unknown): string | undefined {
  const parsed = splitOptions.safeParse(options)
  if (parsed.success) return undefined
  const { path, message } = parsed.error.issues[0]!
  const words = message.replace(/^Invalid (input|option): e/, 'e')
  return path.length === 0 ? words : `${path.map(String).join('.')}: ${words}`
}
