/** How a shadow's answers are compared with the primary's. */
import * as z from 'zod'

const exact = z.strictObject({ kind: z.literal('exact') })

const numeric = z.strictObject({
  kind: z.literal('numeric'),
  atol: z.number().min(0).default(1e-6).describe('Difference that is always allowed.'),
  rtol: z
    .number()
    .min(0)
    .default(1e-3)
    .describe("Difference that is allowed besides, as a share of the primary's number."),
})

const probabilities = z.strictObject({
  kind: z.literal('probabilities'),
  threshold: z
    .number()
    .optional()
    .describe(
      'From which number on the decision is yes, if every number is a decision by itself. Without it the last axis is a distribution, and the label is its largest.',
    ),
  maxDistance: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe('Largest total variation (for decisions: largest difference) at which a row agrees, if its label does.'),
})

const ranking = z.strictObject({
  kind: z.literal('ranking'),
  k: z
    .int()
    .min(1)
    .max(1_000)
    .default(10)
    .describe('How many of the best are compared, and never more than half of what is ranked.'),
  atLeast: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe('Least share of the best of either (Jaccard) that both must have.'),
})

export const comparisonOptions = z.strictObject({
  outputs: z
    .record(z.string(), z.discriminatedUnion('kind', [exact, numeric, probabilities, ranking]))
    .default({})
    .describe(
      'How each output is compared, by its name. Others by their datatype: floats as `numeric` (FP16 with rtol 0.01), everything else as `exact`.',
    ),
  slices: z
    .array(z.string().regex(/^[^\p{C}]{1,128}$/u, { error: "expected an input's name, or header:NAME" }))
    .max(4)
    .refine((list) => new Set(list).size === list.length, { error: 'expected each name once' })
    .default([])
    .describe(
      'Inputs (strings or whole numbers with few values), or `header:NAME`, by whose values agreement is shown apart.',
    ),
  targetAgreement: z
    .number()
    .gt(0)
    .lt(1)
    .default(0.99)
    .describe('Agreement that has to be certain before the shadow may become more.'),
  minPairs: z.int().min(1).max(1e9).default(1_000).describe('Pairs of answers that have to be compared before that.'),
})

export type ComparisonOptions = z.output<typeof comparisonOptions>
export type Comparison = ComparisonOptions['outputs'][string]
