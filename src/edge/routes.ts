/** The paths of the Open Inference Protocol (REST), and Triton's additions that its clients use. */
import { refuse, type Refusal } from '../core/refusal.ts'

export type Operation =
  | { readonly kind: 'server' | 'live' | 'ready' | 'models' | 'allStats' }
  | { readonly kind: ModelOperation; readonly model: string; readonly version: string | undefined }

type ModelOperation = 'model' | 'modelReady' | 'config' | 'stats' | 'infer'

/** A path that leads nowhere, or not with this method. */
export interface Astray {
  readonly kind: 'astray'
  readonly refusal: Refusal
  readonly allow?: string
}

const fixedPaths: Readonly<Record<string, Operation['kind'] & ('server' | 'live' | 'ready' | 'models' | 'allStats')>> =
  {
    '/v2': 'server',
    '/v2/': 'server',
    '/v2/health/live': 'live',
    '/v2/health/ready': 'ready',
    '/v2/models': 'models',
    '/v2/models/stats': 'allStats',
  }

const modelPath = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(?:\/(ready|config|stats|infer))?$/
const modelOperations: Readonly<Record<string, ModelOperation>> = {
  ready: 'modelReady',
  config: 'config',
  stats: 'stats',
  infer: 'infer',
}

/** `target` is the request line's second word, with or without a query. */
export function match(method: string, target: string): Operation | Astray {
  const query = target.indexOf('?')
  const operation = find(query < 0 ? target : target.slice(0, query))
  if (!operation) return { kind: 'astray', refusal: refuse('not_found', 'no such path; models are under /v2/models') }
  const allow = operation.kind === 'infer' ? 'POST' : 'GET'
  if (method === allow) return operation
  return { kind: 'astray', refusal: refuse('method_not_allowed', `this path takes ${allow} only`), allow }
}

function find(path: string): Operation | undefined {
  const fixed = Object.hasOwn(fixedPaths, path) ? fixedPaths[path] : undefined
  if (fixed) return { kind: fixed }
  const parts = modelPath.exec(path)
  if (!parts) return undefined
  const model = decode(parts[1]!)
  const version = parts[2] === undefined ? undefined : decode(parts[2])
  if (model === undefined || (parts[2] !== undefined && version === undefined)) return undefined
  return { kind: parts[3] === undefined ? 'model' : modelOperations[parts[3]]!, model, version }
}

function decode(segment: string): string | undefined {
  if (!segment.includes('%')) return segment
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}
