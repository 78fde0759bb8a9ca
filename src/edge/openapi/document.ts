/** What is served, as an OpenAPI 3.1 document: the paths that one host reaches, with the contracts of their models. */
import packageFile from '../../../package.json' with { type: 'json' }
import { isRefusal, refusals, type RefusalCode } from '../../core/refusal.ts'
import { armField, predictionField, versionField } from '../../core/split-fields.ts'
import { clientPriorities, fallbackField, priorityField, timeoutField } from '../negotiation.ts'
import { methodOf, modelPaths, serverPaths } from '../routes.ts'
import type { Proofs, ServedModel, Serving } from '../serving.ts'
import { answerSchema, commonSchemas, refTo, requestSchema, type Schema } from './schemas.ts'

/** What of it a caller may see. */
interface Seen {
  readonly serving: Serving
  /** Undefined if it may see none of its versions. */
  model(name: string): ServedModel | undefined
}

export function openApi(view: Seen, host: string): Schema {
  const { serving } = view
  const models = new Map<string, ServedModel>()
  const paths: Record<string, Schema> = {}
  const proofs = proofsOf(serving.proofs)
  for (const [path, { kind, what }] of Object.entries(serverPaths))
    paths[path] = kind === 'feedback' ? { post: feedback(kind) } : { get: question(kind, what, 'server') }
  for (const path of new Set(serving.routes.map((route) => route.path))) {
    const route = serving.steps.router.route({ host, path })
    if (isRefusal(route)) continue
    const model = view.model(route.model)
    if (!model) continue
    models.set(model.name, model)
    Object.assign(paths, pathsOf(path, route.name, model))
  }
  return {
    openapi: '3.1.1',
    info: {
      title: packageFile.name,
      version: packageFile.version,
      description: 'Models behind the Open Inference Protocol (V2).',
    },
    servers: [{ url: '/' }],
    paths,
    ...(Object.keys(proofs).length > 0 && { security: Object.keys(proofs).map((name) => ({ [name]: [] })) }),
    components: {
      schemas: { ...commonSchemas, ...schemasOf([...models.values()]) },
      securitySchemes: proofs,
    },
  }
}

/** How a caller says who it is; any of them will do. */
function proofsOf({ token, apiKey }: Proofs): Record<string, Schema> {
  return {
    ...(token && { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } }),
    ...(apiKey !== undefined && { apiKey: { type: 'apiKey', in: 'header', name: apiKey } }),
  }
}

function schemasOf(models: readonly ServedModel[]): Record<string, Schema> {
  return Object.fromEntries(
    models.flatMap(({ name, contract }) => [
      [requestName(name), requestSchema(contract)],
      [answerName(name), answerSchema(contract)],
    ]),
  )
}

// Names of models are names of components too: letters, digits, and . _ -
const requestName = (model: string): string => `${model}.request`
const answerName = (model: string): string => `${model}.answer`

/** All that can be asked of a model at its address, with and without a version. */
function pathsOf(address: string, route: string, model: ServedModel): Record<string, Schema> {
  const version = {
    name: 'version',
    in: 'path',
    required: true,
    schema: { type: 'string', enum: [...model.versions.keys()] },
  }
  return Object.fromEntries(
    ['', '/versions/{version}'].flatMap((middle) =>
      Object.entries(modelPaths).map(([end, { kind, what }]) => {
        const id = `${route}-${kind}${middle === '' ? '' : '-version'}`
        const operation = kind === 'infer' ? inference(id, model.name) : question(id, what, model.name)
        const parameters = middle === '' ? {} : { parameters: [version] }
        return [`${address}${middle}${end}`, { ...parameters, [methodOf(kind).toLowerCase()]: operation }]
      }),
    ),
  )
}

function question(operationId: string, summary: string, tag: string): Schema {
  return {
    operationId,
    summary,
    tags: [tag],
    responses: {
      '200': { description: 'The answer.', content: { 'application/json': { schema: { type: 'object' } } } },
      ...refusalResponses(['unauthenticated', 'forbidden', 'not_found', 'not_acceptable', 'draining']),
    },
  }
}

function feedback(operationId: string): Schema {
  const one = { $ref: refTo('Feedback') }
  return {
    operationId,
    summary: 'what became of predictions',
    description: `Predictions of models with an experiment are named in \`${predictionField}\` of their answers. What is sent again counts once.`,
    tags: ['server'],
    requestBody: {
      required: true,
      content: {
        'application/json': { schema: { anyOf: [one, { type: 'array', items: one, maxItems: 1_000 }] } },
      },
    },
    responses: {
      '200': {
        description: 'What became of it; of a list also what was wrong, by place.',
        content: {
          'application/json': {
            schema: { anyOf: [{ $ref: refTo('FeedbackTaken') }, { $ref: refTo('FeedbackListTaken') }] },
          },
        },
      },
      ...refusalResponses([
        'invalid',
        'unauthenticated',
        'not_acceptable',
        'too_slow',
        'too_large',
        'unsupported_media',
        'rate_limited',
        'overloaded',
      ]),
    },
  }
}

function inference(operationId: string, model: string): Schema {
  return {
    operationId,
    summary: 'inference',
    tags: [model],
    parameters: [
      header('x-request-id', 'string', "The client's own id for the request; it comes back."),
      header(
        timeoutField,
        'number',
        'Milliseconds from arrival to answer: what cannot be answered by then is refused.',
      ),
      { ...header(priorityField, 'string', 'How urgent it is.'), schema: { enum: clientPriorities } },
      header(armField, 'string', 'An arm of the split to be sent to, from who may ask for one.'),
      header(
        'inference-header-content-length',
        'integer',
        'How many bytes of the body are JSON, if tensors follow in binary.',
      ),
    ],
    requestBody: {
      required: true,
      content: {
        'application/json': { schema: { $ref: refTo(requestName(model)) } },
        'application/octet-stream': {},
      },
    },
    responses: {
      '200': {
        description: 'The outputs.',
        headers: {
          'x-request-id': { schema: { type: 'string' } },
          [fallbackField]: { description: 'What answers in place of the version.', schema: { type: 'string' } },
          [armField]: { description: 'The arm of the split that it was assigned to.', schema: { type: 'string' } },
          [versionField]: { description: 'The version of that arm.', schema: { type: 'string' } },
          [predictionField]: { description: 'What to call it in feedback.', schema: { type: 'string' } },
        },
        content: {
          'application/json': { schema: { $ref: refTo(answerName(model)) } },
          'application/octet-stream': {},
        },
      },
      ...refusalResponses(Object.keys(refusals) as RefusalCode[]),
    },
  }
}

function header(name: string, type: string, description: string): Schema {
  return { name, in: 'header', description, schema: { type } }
}

/** By status; several refusals may share one. */
function refusalResponses(codes: readonly RefusalCode[]): Record<string, Schema> {
  const seen = codes.filter((code) => code !== 'abandoned' && code !== 'method_not_allowed')
  const byStatus = Map.groupBy(seen, (code) => String(refusals[code].status))
  return Object.fromEntries(
    [...byStatus].map(([status, own]) => {
      const description = own.map((code) => `\`${code}\`: ${refusals[code].title}`).join('; ')
      const content = { 'application/json': { schema: { $ref: refTo('Error') } } }
      return [status, { description, content }]
    }),
  )
}
