import * as z from 'zod'
import { glob } from '../core/glob.ts'
import { overloadOptions } from './overload.ts'

/** What one bucket may be kept for: one for each value, or for each combination of values. */
const dimensions = ['tenant', 'caller', 'route', 'model'] as const
const patterns = z.array(glob).min(1).optional()

/** Milliseconds. */
export const periods = { second: 1_000, minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const
const longestMs = 366 * periods.day

const where = z.strictObject({
  tenants: patterns.describe('Tenants it holds for.'),
  callers: patterns.describe('Callers it holds for, by their full names.'),
  routes: patterns.describe('Routes it holds for.'),
  models: patterns.describe('Models it holds for.'),
})

const ruleOptions = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, { error: 'expected a letter, then letters, digits and -' })
      .describe('In metrics, refusals and RateLimit fields.'),
    by: z
      .array(z.enum(dimensions))
      .max(dimensions.length)
      .refine((list) => new Set(list).size === list.length, { error: 'expected each word once' })
      .describe(
        'What is counted apart: each combination of these has a bucket of its own. With an empty list there is one for all.',
      ),
    where: where
      .prefault({})
      .describe('Whom it holds for: who fits every list that is given. `*` is anything but a slash, `**` anything.'),
    rate: z
      .number()
      .min(0.001)
      .max(1e9)
      .optional()
      .describe('Units that come back in each `per`. A rule has this or `concurrency`.'),
    per: z.enum(['second', 'minute', 'hour', 'day']).default('second').describe('What `rate` is for.'),
    burst: z
      .number()
      .min(1)
      .max(1e12)
      .optional()
      .describe('Most units at once; no request may ask for more. Without it `rate`, or 1 if that is less.'),
    cost: z
      .enum(['request', 'row', 'computeMs'])
      .default('request')
      .describe(
        'What a unit is. `computeMs` is what a run is predicted to take of a worker, in milliseconds, and is set right by what it took.',
      ),
    store: z
      .enum(['local', 'redis'])
      .default('local')
      .describe('Who keeps count: each gateway for itself, or all gateways together in Redis.'),
    exact: z
      .boolean()
      .default(false)
      .describe(
        'With Redis: ask for each request, one round trip. Without it a gateway draws units ahead and spends them on its own; in any time t at most `burst` + `rate` x t + `leaseMs` x `rate` (at least 1) for each gateway are spent then.',
      ),
    leaseMs: z
      .int()
      .min(10)
      .max(60_000)
      .default(200)
      .describe(
        'With Redis: how much of the rate one gateway draws ahead at most, as the time in which it comes back.',
      ),
    onError: z
      .enum(['allow', 'refuse', 'local'])
      .default('local')
      .describe(
        'With Redis: what holds while it cannot be asked. `local` lets each gateway count for itself, up to the whole rate. If Redis loses its data, one more burst is possible.',
      ),
    concurrency: z
      .int()
      .min(1)
      .max(1e6)
      .optional()
      .describe('Most requests in flight at once, in each gateway by itself. A rule has this or `rate`.'),
  })
  .superRefine((rule, context) => {
    const complain = (path: string, message: string) => {
      context.addIssue({ code: 'custom', path: [path], message, input: rule[path as keyof typeof rule] })
    }
    const { rate, per, burst, cost, store, exact, concurrency } = rule
    if (concurrency === undefined) {
      if (rate === undefined) complain('rate', 'is missing: expected `rate` or `concurrency`')
      else if (((burst ?? 1) / rate) * periods[per] > longestMs)
        complain('burst', 'takes longer than a year to come back: expected less, or a higher rate')
      if (exact && store !== 'redis')
        complain('exact', 'is for what is counted in Redis: set `store: redis`, or leave it out')
      return
    }
    if (rate !== undefined) complain('concurrency', 'a rule has `rate` or `concurrency`: make two rules of it')
    if (burst !== undefined) complain('burst', 'goes with `rate`: leave it out')
    if (cost !== 'request') complain('cost', 'goes with `rate`: leave it out, requests are counted')
    if (store !== 'local' || exact)
      complain('store', 'goes with `rate`: requests in flight are counted in each gateway')
  })

export const limitsOptions = z.strictObject({
  maxKeys: z
    .int()
    .min(1)
    .max(1e8)
    .default(1_000_000)
    .describe(
      'Buckets that are kept at most, at 32 to 64 bytes each; those in Redis that a gateway draws from likewise. Beyond it the one nearest to full is forgotten.',
    ),
  overload: overloadOptions.prefault({}).describe('When the gateway itself is overloaded, and whom it refuses then.'),
  rules: z
    .array(ruleOptions)
    .max(1_000)
    .refine((rules) => new Set(rules.map(({ name }) => name)).size === rules.length, {
      error: 'every rule needs a `name` of its own',
    })
    .default([])
    .describe('The limits. All that fit a request hold.'),
})

export type LimitsOptions = z.output<typeof limitsOptions>
export type RuleOptions = LimitsOptions['rules'][number]
export type Dimension = (typeof dimensions)[number]
