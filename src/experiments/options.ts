import * as z from 'zod'
import { comparisonOptions } from './comparison-options.ts'
import { feedbackOptions } from './feedback/options.ts'

const alpha = (chance: number, of: string) =>
  z.number().gt(0).max(0.2).default(chance).describe(`Greatest probability of ${of}, however often one looks.`)
const falseRollback = 'rolling back a treatment that is all right'
const arm = (what: string) => z.string().optional().describe(what)
const ratio = z.number().min(1).max(100)

/** What is done about a guard that has sounded. */
const action = z.enum(['rollback', 'pause', 'alert'])

const failures = z
  .strictObject({
    alpha: alpha(0.001, falseRollback),
    tolerate: ratio.default(1.1).describe("Failure rate that is put up with, as a multiple of the control's."),
    floor: z
      .number()
      .min(0)
      .max(0.5)
      .default(0.002)
      .describe('Failure rate that is put up with in any case, so that one accident of a perfect model is no reason.'),
    action: action.default('rollback').describe('What is done when it is exceeded.'),
  })
  .prefault({})
  .describe('Requests that end with a 5xx after they were assigned, also those that are shed or expire.')

const slowness = z
  .strictObject({
    alpha: alpha(0.001, falseRollback),
    tolerate: ratio
      .default(1.5)
      .describe(
        "Compute time that is put up with, as a multiple of the control's: what is run rarely has cold caches. Half a millisecond more is put up with besides.",
      ),
    action: action.default('rollback').describe('What is done when it is exceeded.'),
  })
  .prefault({})
  .describe("Compute time of runs, against the control's for batches of the same size.")

const step = z.strictObject({
  share: z.number().gt(0).max(1).describe("The treatment's part of what it and the control get together."),
  holdS: z
    .number()
    .min(0)
    .max(30 * 86_400)
    .default(360)
    .describe('Least time of the step, seconds.'),
  minRequests: z.int().min(0).max(1e9).default(500).describe('Fewest units that the treatment must have got in it.'),
  below: z
    .union([ratio, z.literal('off')])
    .optional()
    .describe(
      "Multiple of the control's failure rate that must be ruled out (95 %), unless a rate above the floor is ruled out. Without it 3 up to a share of 0.01, 2 up to 0.05, 1.5 up to 0.25 and 1.25 beyond; `off` asks for no such proof.",
    ),
})

export const experimentOptions = z
  .strictObject({
    kind: z
      .enum(['canary', 'ab'])
      .describe(
        '`canary`: the treatment is a new version that is to take over, step by step. `ab`: shares stay as they are, and the question is which is better.',
      ),
    control: arm(
      "The arm that the treatment is compared with. Without it the split's `default`, or else its first arm.",
    ),
    treatment: arm('The arm that is on trial. Without it the only other one.'),
    failures,
    slowness,
    feedback: feedbackOptions.prefault({}).describe('What clients tell of predictions.'),
    metricAlpha: alpha(0.0015, 'a false alarm of a metric'),
    metricAction: action.default('alert').describe('What is done when the treatment is worse by a metric.'),
    comparison: comparisonOptions
      .prefault({})
      .describe('How the answers of a shadow that runs the version of the treatment are compared.'),
    shadowFailures: z
      .strictObject({ alpha: alpha(0.0005, falseRollback), action: action.default('rollback') })
      .prefault({})
      .describe("Shadow runs that fail where the control's did not."),
    steps: z
      .array(step)
      .max(32)
      .default([])
      .describe(
        'For a canary: shares through which the treatment goes by itself; behind the last it is promoted. Without steps it keeps its weight, and is only guarded.',
      ),
    afterShadow: z
      .boolean()
      .default(false)
      .describe('For a canary: begin with a share of 0 until its shadow agrees well enough: see `comparison`.'),
    rescue: z
      .boolean()
      .default(true)
      .describe(
        'For a canary: let the control answer, within the deadline, what the treatment could not. It counts as a failure of the treatment all the same.',
      ),
    confidence: z.number().min(0.5).max(0.9999).default(0.95).describe('Of the intervals of metrics in the report.'),
    detect: z
      .number()
      .gt(0)
      .max(10)
      .default(0.1)
      .describe('Relative difference of a metric that matters: until when it would be seen is in the report.'),
  })
  .superRefine((options, context) => {
    const { kind, steps, afterShadow } = options
    const complain = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message })
    if (kind === 'ab' && steps.length > 0) complain(['steps'], 'an A/B test keeps its shares: leave the steps out')
    if (kind === 'ab' && afterShadow) complain(['afterShadow'], 'is for a canary: leave it out')
    for (const [i, { share }] of steps.entries())
      if (i > 0 && share <= steps[i - 1]!.share)
        complain(['steps', i, 'share'], 'expected more than in the step before')
  })

export type ExperimentOptions = z.output<typeof experimentOptions>
export type CanaryStep = z.output<typeof step>
export type Action = z.output<typeof action>
