/**
 * What is kept of an experiment over a restart, as it is read again. How far it has got must fit, or it begins anew; evidence
 * that does not fit, because a hand or another version of the gateway has written it, is gathered again.
 */
import * as z from 'zod'
import type { SavedAgreement } from './agreement.ts'
import type { SavedExperiment } from './experiment.ts'
import { phases } from './rollout.ts'

const count = z.int().min(0)
const share = z.number().min(0).max(1)
const numbers = z.array(z.number())
const byArm = z.object({ control: count, treatment: count })

const state = z.object({
  phase: z.enum(phases),
  step: count,
  share,
  sinceMs: z.number(),
  why: z.string(),
  round: count.default(0),
})

const mixture = z.object({ sum: numbers, block: numbers, restarted: z.array(z.number().nullable()) })
const evidence = z.object({
  failures: z.object({ mixture, treatment: count, all: count }),
  floor: mixture,
  rarity: z.object({ failures: count, successes: count, reached: z.boolean() }),
  certificates: z.array(z.object({ mixture, reached: z.boolean() })),
  slowness: z.object({
    mixtures: z.array(mixture),
    control: numbers,
    treatment: numbers,
    runs: z.tuple([z.number().min(0), z.number().min(0)]),
  }),
  ratio: z.object({
    logE: z.number(),
    share,
    treatment: count,
    all: count,
    before: z.object({ treatment: count, all: count, expected: z.number().min(0) }),
  }),
  units: byArm,
  failed: byArm,
})

/** As deep as it takes to say that it is one. */
const agreement = z.custom<SavedAgreement>((value) => {
  const shape = z.object({
    counts: z.looseObject({ pairs: count }),
    outputs: z.array(z.object({ totals: z.looseObject({}) })),
    slices: z.array(z.tuple([z.string(), z.looseObject({})])),
  })
  return shape.safeParse(value).success
})

const savedExperiment = z.object({
  since: count,
  state,
  evidence: evidence.optional().catch(undefined),
  metrics: z.unknown().optional(),
  agreement: agreement.optional().catch(undefined),
  shadowFailures: z.object({ worse: count, better: count }).optional().catch(undefined),
  failedUnits: z.array(z.string()).optional().catch(undefined),
  unitsBefore: count.optional().catch(undefined),
})

/** Undefined if it cannot be told how far it had got. */
export function readExperiment(value: unknown): SavedExperiment | undefined {
  const read = savedExperiment.safeParse(value)
  return read.success ? read.data : undefined
}
