/** The paths of the Open Inference Protocol (REST), and Triton's additions that its clients use. */
import { refuse, type Refusal } from '../core/refusal.ts'

const serverPaths = {
  '/v2': { kind: 'server', what: 'name, version and extensions of the server' },
  '/v2/health/live': { kind: 'live', what: 'whether the process answers' },
  '/v2/health/ready': { kind: 'ready', what: 'whether requests can be served: 200, or 503 and why not' },
  '/v2/models': { kind: 'models', what: 'names of the models' },
  '/v2/models/stats': { kind: 'allStats', what: 'statistics of all models' },
} as const

/** Behind `/v2/models/NAME` or `/v2/models/NAME/versions/VERSION`. */
const modelPaths = {
  '': { kind: 'model', what: 'inputs, outputs and versions of a model' },
  '/ready': { kind: 'modelReady', what: 'whether the model can be served' },
  '/config': { kind: 'config', what: "the model's configuration, as Triton writes it" },
  '/stats': { kind: 'stats', what: 'statistics: rows, runs, times, sizes of batches' },
  '/infer': { kind: 'infer', what: 'inference' },
} as const

export type Operation =
  | { readonly kind: (typeof serverPaths)[keyof typeof serverPaths]['kind'] }
  | {
      readonly kind: (typeof modelPaths)[keyof typeof modelPaths]['kind']
      readonly model: string
      readonly version: string | undefined
    }

/** A path that leads nowhere, or not with this method. */
export interface Astray {
  readonly kind: 'astray'
  readonly refusal: Refusal
  readonly allow?: string
}

function methodOf(kind: Operation['kind']): 'GET' | 'POST' {
  return kind === 'infer' ? 'POST' : 'GET'
}

/** Every path there is, for the reference. */
export const describedPaths = [
  ...Object.entries(serverPaths),
  ...Object.entries(modelPaths).map(([end, path]) => [`/v2/models/NAME[/versions/VERSION]${end}`, path] as const),
].map(([path, { kind, what }]) => ({ method: methodOf(kind), path, what }))

/** `target` is the request line's second word, with or without a query. */
export function match(method: string, target: string): Operation | Astray {
  const query = target.indexOf('?')
  const operation = find(query < 0 ? target : target.slice(0, query))
  if (!operation) return { kind: 'astray', refusal: refuse('not_found', 'no such path; models are under /v2/models') }
  const allow = methodOf(operation.kind)
  if (method === allow) return operation
  return { kind: 'astray', refusal: refuse('method_not_allowed', `this path takes ${allow} only`), allow }
}

const modelPath = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(\/[a-z]+)?$/

function find(path: string): Operation | undefined {
  // The protocol's own YAML writes the first one with a slash behind it.
  const plain = path === '/v2/' ? '/v2' : path
  if (isKeyOf(serverPaths, plain)) return { kind: serverPaths[plain].kind }
  const parts = modelPath.exec(path)
  if (!parts) return undefined
  const [, name, number, end = ''] = parts
  const model = decode(name!)
  const version = number === undefined ? undefined : decode(number)
  const isBroken = model === undefined || (number !== undefined && version === undefined)
  return isBroken || !isKeyOf(modelPaths, end) ? undefined : { kind: modelPaths[end].kind, model, version }
}

function isKeyOf<T extends object>(table: T, key: PropertyKey): key is keyof T {
  return Object.hasOwn(table, key)
}

function decode(segment: string): string | undefined {
  if (!segment.includes('%')) return segment
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}
