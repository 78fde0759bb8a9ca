import * as z from 'zod'
import { datatypes } from '../core/datatype.ts'

export const storeOptions = z.strictObject({
  path: z.string().default('models').describe('Folder with the models, relative to the configuration file.'),
  refreshS: z
    .number()
    .min(0)
    .max(86_400)
    .default(5)
    .describe(
      'Seconds after which it is looked for new versions, which are loaded and tried, and for such as are gone, which are drained. 0 looks only at the start.',
    ),
})

const mapping = z.strictObject({
  graph: z.string().optional().describe('Its name in the graph, if that is another.'),
  datatype: z.enum(datatypes).optional().describe('What clients send or get, if the graph has another datatype.'),
})

export const manifestSchema = z.strictObject({
  summary: z.string().default('').describe('One sentence that says what it is.'),
  owner: z.string().default('').describe('Who answers for it.'),
  licence: z.string().default('').describe('Of the trained weights.'),
  data: z
    .strictObject({
      name: z.string().describe('What the data set is called.'),
      source: z.string().describe('Where to get it, with its version.'),
      licence: z.string().describe('Of the data set.'),
      split: z.string().describe('Which rows were trained on and which held out.'),
    })
    .optional()
    .describe('What it was trained on and measured with.'),
  training: z
    .strictObject({
      script: z.string().describe('Makes the version again.'),
      framework: z.string().describe('With its version.'),
      seed: z.int().describe('Of everything random in it.'),
      method: z.string().describe('What was trained, and how.'),
    })
    .optional()
    .describe('How it was made.'),
  metrics: z.record(z.string(), z.number()).default({}).describe('Measured on the held-out rows.'),
  domain: z
    .record(
      z.string(),
      z.strictObject({ min: z.number().optional(), max: z.number().optional(), note: z.string().optional() }),
    )
    .default({})
    .describe('What inputs it was made for.'),
  labels: z.array(z.string()).optional().describe('What the class indices mean.'),
  batching: z
    .strictObject({ rows: z.enum(['independent', 'dependent', 'probe']) })
    .default({ rows: 'probe' })
    .describe('Whether rows of different requests may share a run. `probe` lets the gateway find out at load.'),
  padding: z
    .record(
      z.string(),
      z.strictObject({
        buckets: z
          .array(z.int().min(1))
          .min(1)
          .max(32)
          .describe('Sizes up to which requests are filled; what is larger than all shares runs with its equals only.'),
        mask: z
          .string()
          .optional()
          .describe('The input that is 1 where there is something and 0 where it is filled up.'),
        values: z
          .record(z.string(), z.number())
          .default({})
          .describe('What an input is filled up with, by its name; 0 without.'),
      }),
    )
    .default({})
    .describe(
      'Dimensions, by name, that may be filled up so that requests of several sizes share runs: only if the answer stays the same, which is tried at load. Outputs that have the dimension are cut back.',
    ),
  sideEffects: z
    .boolean()
    .default(false)
    .describe('Whether a run does more than answer, so that none may be repeated when it fails.'),
  inputs: z.record(z.string(), mapping).default({}).describe("Contract name to the graph's, where they differ."),
  outputs: z.record(z.string(), mapping).default({}).describe("Contract name to the graph's, where they differ."),
})
