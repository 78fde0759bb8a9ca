/** JSON Schemas (draft 2020-12, as OpenAPI 3.1 has them) of what goes in and out of a model, by its contract. */
import { numerics, type Datatype } from '../../core/datatype.ts'
import { varies, type Dim, type Signature, type TensorSpec } from '../../core/signature.ts'

export type Schema = Readonly<Record<string, unknown>>

/** What becomes of feedback that is taken. */
const outcomes = {
  counted: 'counted',
  duplicate: 'the same was told before, of this prediction or of whatever its arm was assigned to',
  past: 'the experiment is over',
  ignored: 'it is no evidence: nothing happened, or the arm was not drawn',
}

const feedbackSchemas: Readonly<Record<string, Schema>> = {
  Feedback: {
    type: 'object',
    required: ['prediction', 'metric'],
    additionalProperties: false,
    properties: {
      prediction: { type: 'string', description: 'What the answer calls the prediction.' },
      metric: { type: 'string', description: 'One of those that the experiment of the model declares.' },
      value: { type: 'number', description: 'Of a value; of an event 1, or 0 if it did not happen, or left out.' },
      id: {
        type: 'string',
        minLength: 1,
        maxLength: 128,
        description: 'Tells several values of one metric for one prediction apart.',
      },
    },
  },
  FeedbackTaken: {
    type: 'object',
    required: ['status'],
    properties: {
      status: { enum: Object.keys(outcomes), description: describeOutcomes() },
    },
  },
  FeedbackListTaken: {
    type: 'object',
    required: ['counts', 'mistakes'],
    properties: {
      counts: {
        type: 'object',
        required: Object.keys(outcomes),
        properties: Object.fromEntries(Object.keys(outcomes).map((name) => [name, { type: 'integer', minimum: 0 }])),
      },
      mistakes: {
        type: 'array',
        items: {
          type: 'object',
          required: ['index', 'message'],
          properties: { index: { type: 'integer', minimum: 0 }, message: { type: 'string' } },
        },
      },
    },
  },
}

function describeOutcomes(): string {
  return Object.entries(outcomes)
    .map(([name, what]) => `\`${name}\`: ${what}`)
    .join('; ')
}

/** What all models share. */
export const commonSchemas: Readonly<Record<string, Schema>> = {
  ...Object.fromEntries(Object.keys(numerics).map((datatype) => [`${datatype}Data`, dataSchema(datatype as Datatype)])),
  BYTESData: dataSchema('BYTES'),
  Error: {
    type: 'object',
    required: ['error', 'code'],
    properties: {
      error: { type: 'string', description: 'What to change, in one sentence.' },
      code: { type: 'string', description: 'The kind of refusal, for programs.' },
      request_id: { type: 'string', description: 'Left out where no request was understood.' },
    },
  },
  ...feedbackSchemas,
}

/** Flat, or nested as the shape says. */
function dataSchema(datatype: Datatype): Schema {
  const self = { $ref: refTo(`${datatype}Data`) }
  return { type: 'array', items: { anyOf: [elementSchema(datatype), self] } }
}

function elementSchema(datatype: Datatype): Schema {
  if (datatype === 'BYTES') return { type: 'string' }
  if (datatype === 'BOOL') return { type: 'boolean' }
  const { float, min, max } = numerics[datatype]
  return float ? { type: 'number' } : { type: 'integer', minimum: Number(min), maximum: Number(max) }
}

export function refTo(schema: string): string {
  return `#/components/schemas/${schema}`
}

export function requestSchema({ inputs, outputs }: Signature): Schema {
  const names = outputs.map(({ name }) => name)
  return {
    type: 'object',
    required: ['inputs'],
    properties: {
      id: { type: 'string', description: 'Comes back in the answer.' },
      parameters: {
        type: 'object',
        properties: {
          binary_data_output: { type: 'boolean', description: 'Whether outputs come in binary.' },
          timeout: { type: 'integer', minimum: 0, description: 'Microseconds from arrival to answer; 0 as usual.' },
          priority: { type: 'integer', minimum: 0, description: '0 as usual, 1 interactive, 2 standard, 3 bulk.' },
        },
      },
      inputs: listOf(inputs.map((input) => tensorSchema(input, 1))),
      outputs: {
        type: 'array',
        description: 'Which outputs to give; all of them without it.',
        items: {
          type: 'object',
          required: ['name'],
          properties: {
            name: { enum: names },
            parameters: { type: 'object', properties: { binary_data: { type: 'boolean' } } },
          },
        },
      },
    },
    ...exampleOf(inputs),
  }
}

export function answerSchema({ outputs }: Signature): Schema {
  return {
    type: 'object',
    required: ['model_name', 'model_version', 'outputs'],
    properties: {
      model_name: { type: 'string' },
      model_version: { type: 'string' },
      id: { type: 'string' },
      parameters: { type: 'object' },
      outputs: { type: 'array', items: anyOf(outputs.map((output) => tensorSchema(output, 0))) },
    },
  }
}

function listOf(schemas: readonly Schema[]): Schema {
  const count = { minItems: schemas.length, maxItems: schemas.length }
  return { type: 'array', ...count, ...(schemas.length > 0 && { items: anyOf(schemas) }) }
}

function anyOf(schemas: readonly Schema[]): Schema {
  return schemas.length === 1 ? schemas[0]! : { anyOf: schemas }
}

/** `least` is the smallest size that a dimension may have which the model leaves open: a model may find nothing. */
function tensorSchema({ name, datatype, shape }: TensorSpec, least: number): Schema {
  return {
    type: 'object',
    required: ['name', 'datatype', 'shape'],
    properties: {
      name: { const: name },
      datatype: { const: datatype },
      shape: {
        type: 'array',
        minItems: shape.length,
        maxItems: shape.length,
        ...(shape.length > 0 && { prefixItems: shape.map((dim) => dimSchema(dim, least)) }),
      },
      ...(datatype !== 'FP16' && { data: { $ref: refTo(`${datatype}Data`) } }),
      parameters: {
        type: 'object',
        properties: {
          binary_data_size: { type: 'integer', minimum: 0, description: 'Bytes behind the JSON, instead of `data`.' },
        },
      },
    },
  }
}

function dimSchema(dim: Dim, least: number): Schema {
  if (!varies(dim)) return { const: dim }
  return { type: 'integer', minimum: least, ...(dim !== '' && { description: String(dim) }) }
}

/** More would be no example, but noise. */
const mostExampleElements = 64

/** A request of one row that the model takes, if it is small. */
function exampleOf(inputs: readonly TensorSpec[]): { readonly examples?: readonly unknown[] } {
  const tensors = inputs.map(({ name, datatype, shape }) => {
    const dims = shape.map((dim) => (typeof dim === 'number' ? dim : 1))
    const count = dims.reduce((product, dim) => product * dim, 1)
    return { name, datatype, shape: dims, data: Array.from({ length: Math.min(count, 1_000) }, () => zeroOf(datatype)) }
  })
  const isSmall = tensors.every(({ data, datatype }) => data.length <= mostExampleElements && datatype !== 'FP16')
  return isSmall ? { examples: [{ inputs: tensors }] } : {}
}

function zeroOf(datatype: Datatype): unknown {
  if (datatype === 'BYTES') return ''
  return datatype === 'BOOL' ? false : 0
}
