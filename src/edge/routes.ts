/** The paths of the Open Inference Protocol (REST), and Triton's additions that its clients use. */
import type { endings } from '../core/reserved-words.ts'
import { refuse, type Refusal } from '../core/refusal.ts'

export const serverPaths = {
  '/v2': { kind: 'server', what: 'name, version and extensions of the server' },
  '/v2/health/live': { kind: 'live', what: 'whether the process answers' },
  '/v2/health/ready': { kind: 'ready', what: 'whether requests can be served: 200, or 503 and why not' },
  '/v2/models': { kind: 'models', what: 'names of the models' },
  '/v2/models/stats': { kind: 'allStats', what: 'statistics of all models' },
  '/v2/feedback': {
    kind: 'feedback',
    what: 'what became of predictions: `{"prediction", "metric", "value", "id"}`, or a list',
  },
  '/v2/openapi.json': { kind: 'openapi', what: 'what is served, as an OpenAPI 3.1 document' },
} as const

/** Behind the address of a model, or behind `/versions/VERSION` there. */
export const modelPaths = {
  '': { kind: 'model', what: 'inputs, outputs and versions of a model' },
  '/ready': { kind: 'modelReady', what: 'whether the model can be served' },
  '/config': { kind: 'config', what: "the model's configuration, as Triton writes it" },
  '/stats': { kind: 'stats', what: 'statistics: rows, runs, times, sizes of batches' },
  '/infer': { kind: 'infer', what: 'inference' },
} as const satisfies Record<'' | `/${(typeof endings)[number]}`, object>

/** What a client calls a model. */
export interface Address {
  /** In lower case, without a port; empty if the request says none. */
  readonly host: string
  /** Without the words of the protocol behind it: `/v2/models/NAME`, or what a route of the configuration says. */
  readonly path: string
  readonly version: string | undefined
}

export type ServerOperation = (typeof serverPaths)[keyof typeof serverPaths]['kind']
export type ModelOperation = (typeof modelPaths)[keyof typeof modelPaths]['kind']

export type Operation =
  | { readonly kind: ServerOperation; readonly host: string }
  | { readonly kind: ModelOperation; readonly address: Address }

/** Every path there is, for the reference. */
export const describedPaths = [
  ...Object.entries(serverPaths),
  ...Object.entries(modelPaths).map(([end, path]) => [`/v2/models/NAME[/versions/VERSION]${end}`, path] as const),
].map(([path, { kind, what }]) => ({ method: methodOf(kind), path, what }))

export function methodOf(kind: Operation['kind']): 'GET' | 'POST' {
  return kind === 'infer' || kind === 'feedback' ? 'POST' : 'GET'
}

/** What is told to everybody: probes have no way to say who they are. */
export type OpenOperation = 'live' | 'ready'

export function isOpen<O extends Operation>(operation: O): operation is O & { readonly kind: OpenOperation } {
  return operation.kind === 'live' || operation.kind === 'ready'
}

/** What a caller must be allowed for it. */
export function accessTo(kind: ModelOperation): 'infer' | 'metadata' | 'stats' {
  return kind === 'infer' || kind === 'stats' ? kind : 'metadata'
}

/** What may be done there, as the `Allow` header has it. */
export function allowOf(kind: Operation['kind']): string {
  return methodOf(kind) === 'POST' ? 'POST, OPTIONS' : 'GET, HEAD, OPTIONS'
}

/** What may be done somewhere. */
export const allMethods = 'GET, HEAD, POST, OPTIONS'

/** What targets mean that came before: requests mostly say again what others have said. */
const known = new Map<string, { readonly host: string; readonly operation: Operation | undefined }>()
/** Clients choose them. */
const mostKnown = 1_024
const longestKnown = 256

/** What a request's target means; undefined if it cannot be a path of ours. Whether anything is there is for the router. */
export function findOperation(target: string, host: string): Operation | undefined {
  const last = known.get(target)
  if (last?.host === host) return last.operation
  const operation = readOperation(target, host)
  if (target.length + host.length > longestKnown) return operation
  if (known.size >= mostKnown) known.clear()
  known.set(target, { host, operation })
  return operation
}

function readOperation(target: string, host: string): Operation | undefined {
  const isAbsolute = !target.startsWith('/')
  const url = isAbsolute ? /^https?:\/\/([^/?#]*)(\/[^?#]*)?/i.exec(target) : undefined
  if (isAbsolute && !url) return undefined
  const query = target.indexOf('?')
  const raw = url ? (url[2] ?? '/') : query < 0 ? target : target.slice(0, query)
  const path = raw.includes('%') ? decodePath(raw) : raw
  if (path === undefined) return undefined
  // The protocol's own YAML writes the first one with a slash behind it.
  const plain = path === '/v2/' ? '/v2' : path
  const name = hostOf(url ? url[1]! : host)
  if (isKeyOf(serverPaths, plain)) return { kind: serverPaths[plain].kind, host: name }
  const last = path.slice(path.lastIndexOf('/'))
  const isEnding = last !== '' && isKeyOf(modelPaths, last)
  const [base, version] = splitVersion(isEnding ? path.slice(0, -last.length) : path)
  const { kind } = modelPaths[isEnding ? last : '']
  return base === '' ? undefined : { kind, address: { host: name, path: base, version } }
}

const versions = '/versions/'

function splitVersion(path: string): readonly [path: string, version: string | undefined] {
  const at = path.lastIndexOf(versions)
  const version = at < 0 ? '' : path.slice(at + versions.length)
  return version === '' || version.includes('/') ? [path, undefined] : [path.slice(0, at), version]
}

/** A point at its end names the same host (RFC 9110 section 4.2.3, RFC 1034 section 3.1). */
function hostOf(host: string): string {
  return host.replace(/\.?(:\d*)?$/, '').toLowerCase()
}

/** Segment by segment, because a slash that is written as %2F divides nothing. */
function decodePath(path: string): string | undefined {
  try {
    const segments = path.split('/').map(decodeURIComponent)
    return segments.some((segment) => segment.includes('/')) ? undefined : segments.join('/')
  } catch {
    return undefined
  }
}

function isKeyOf<T extends object>(table: T, key: PropertyKey): key is keyof T {
  return Object.hasOwn(table, key)
}

export function noProxy(): Refusal {
  return refuse('method_not_allowed', 'this is no proxy')
}

export function noSuchPath(): Refusal {
  return refuse('not_found', 'no such path; models are under /v2/models')
}
