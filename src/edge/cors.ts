/**
 * Lets pages of other origins call from a browser (Fetch standard, CORS protocol). Off unless configured; no credentials
 * of the browser's are ever invited.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { fallbackField, priorityField, timeoutField } from './negotiation.ts'
import type { CorsOptions } from './options.ts'

const requestFields = [
  'authorization',
  'content-encoding',
  'content-type',
  'inference-header-content-length',
  'x-request-id',
  timeoutField,
  priorityField,
].join(', ')
const answerFields = `inference-header-content-length, retry-after, x-request-id, ${fallbackField}`
const nothing: readonly string[] = []

export class Cors {
  readonly #origins: ReadonlySet<string>
  readonly #maxAgeS: number

  constructor({ origins, maxAgeS }: CorsOptions) {
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
  preflight(headers: IncomingHttpHeaders, methods: string): readonly string[] {
    const { origin } = headers
    if (origin === undefined || headers['access-control-request-method'] === undefined) return nothing
    if (!this.#origins.has('*') && !this.#origins.has(origin)) return nothing
    return [
      'access-control-allow-methods',
      methods,
      'access-control-allow-headers',
      requestFields,
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
