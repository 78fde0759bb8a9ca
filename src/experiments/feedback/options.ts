import * as z from 'zod'

/** Values beyond it, to either side, are taken for mistakes: their squares have to fit a sum. */
export const greatestValue = 1e15
const mostMetrics = 16
export const longestJoinS = 90 * 86_400
export const longestSkewS = 3_600

const direction = z.enum(['more', 'fewer']).describe('Which is better.')

const metricOptions = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('event').describe('Something that happens after a prediction or does not, such as a click.'),
    direction,
  }),
  z.strictObject({
    kind: z.literal('value').describe('A number that is told of a prediction, such as revenue.'),
    direction,
    cap: z
      .number()
      .positive()
      .max(greatestValue)
      .optional()
      .describe(
        'Values beyond it, to either side, count as it, so that a few do not decide: take what 999 of 1000 stay below.',
      ),
  }),
])

const name = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/, { error: 'expected a letter, then letters, digits, _ and -' })

export const feedbackOptions = z.strictObject({
  metrics: z
    .record(name, metricOptions)
    .refine((metrics) => Object.keys(metrics).length <= mostMetrics, {
      error: `expected ${mostMetrics} metrics at most`,
    })
    .default({})
    .describe('What clients may tell of predictions afterwards, by name.'),
  joinWindowS: z
    .int()
    .min(1)
    .max(longestJoinS)
    .default(7 * 86_400)
    .describe('For how long after a prediction feedback is taken.'),
  maxSkewS: z
    .number()
    .min(0)
    .max(longestSkewS)
    .default(60)
    .describe('How far the clocks of gateways may differ: a prediction from further ahead is refused.'),
})

export const signingOptions = z.strictObject({
  keyFiles: z
    .array(z.string().min(1))
    .max(8)
    .default([])
    .describe(
      'Files with 32 bytes or more each: the first signs what predictions are called, and all are taken. Without any a key is made and kept with the state.',
    ),
})

export type FeedbackOptions = z.output<typeof feedbackOptions>
export type MetricOptions = z.output<typeof metricOptions>
