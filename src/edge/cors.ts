/**
 * Lets pages of other origins call from a browser (Fetch standard, CORS protocol). Off unless configured; no credentials
 * of the browser's are ever invited.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { armField, predictionField, versionField } from '../core/split-fields.ts'
import { fallbackField, priorityField, timeoutField } from './negotiation.ts'
import type { CorsOptions } from './options.ts'
import type { Exchange } from './exchange.ts'

const requestFields: readonly string[] = [
  'authorization',
  'content-encoding',
  'content-type',
  'inference-header-content-length',
  'x-request-id',
  timeoutField,
  priorityField,
  armField,
]
const answerFields = [
  'inference-header-content-length',
  'ratelimit',
  'ratelimit-policy',
  'retry-after',
  'www-authenticate',
  'x-request-id',
  fallbackField,
  armField,
  versionField,
  predictionField,
].join(', ')
const nothing: readonly string[] = []

type Asking = Pick<Exchange, 'method' | 'headers'>

/** Whether a browser asks on behalf of a page what it may send. */
export function isPreflight({ method, headers }: Asking): boolean {
  const { origin, 'access-control-request-method': wanted } = headers
  return method === 'OPTIONS' && origin !== undefined && wanted !== undefined
}

export class Cors {
  readonly #origins: ReadonlySet<string>
  readonly #maxAgeS: number
  readonly #requestFields: string

  /** `apiKey` is the field of API keys, if they are taken. */
  constructor({ origins, maxAgeS }: CorsOptions, apiKey: string | undefined) {
    this.#requestFields = [...requestFields, ...(apiKey === undefined ? [] : [apiKey])].join(', ')
    this.#origins = new Set(origins.map((origin) => (origin === '*' ? origin : asBrowsersWrite(origin))))
    this.#maxAgeS = maxAgeS
  }

  /** What every answer carries. */
  fields({ origin }: IncomingHttpHeaders): readonly string[] {
    if (origin === undefined) return this.#origins.has('*') ? nothing : ['vary', 'origin']
    if (this.#origins.has('*'))
      return ['access-control-allow-origin', '*', 'access-control-expose-headers', answerFields]
    if (!this.#origins.has(origin)) return ['vary', 'origin']
    const exposed = ['access-control-expose-headers', answerFields]
    return ['access-control-allow-origin', origin, 'vary', 'origin', ...exposed]
  }

  /** What the answer to a preflight carries besides; nothing for an OPTIONS that is none. */
  preflight(exchange: Asking, methods: string): readonly string[] {
    const { origin } = exchange.headers
    if (!isPreflight(exchange) || !(this.#origins.has('*') || this.#origins.has(origin!))) return nothing
    return [
      'access-control-allow-methods',
      methods,
      'access-control-allow-headers',
      this.#requestFields,
      'access-control-max-age',
      String(this.#maxAgeS),
    ]
  }
}

/** Without a slash at its end. For schemes of apps, such as `capacitor:`, the URL standard knows no origin, but they send one. */
function asBrowsersWrite(text: string): string {
  const { origin, protocol, host } = new URL(text)
  return origin === 'null' ? `${protocol}//${host}` : origin
}
