/** What a client says in its head: which forms it accepts, what it calls its request, how soon it needs the answer. */
import type { IncomingHttpHeaders } from 'node:http'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { priorities, type Priority } from '../core/priority.ts'
import { armField, predictionField, versionField } from '../core/split-fields.ts'

/** Whether an `Accept` field lets one of these types through (RFC 9110 section 12.5.1). */
export function accepts(accept: string | undefined, types: readonly string[]): boolean {
  if (!accept || accept === '*/*' || accept === 'application/json') return true
  const ranges = accept.split(',').map(readRange)
  return types.some((type) => {
    const [group] = type.split('/')
    // The most telling range decides.
    const named = ranges.find(({ name }) => name === type) ?? ranges.find(({ name }) => name === `${group}/*`)
    return ((named ?? ranges.find(({ name }) => name === '*/*'))?.weight ?? 0) > 0
  })
}

function readRange(text: string): { readonly name: string; readonly weight: number } {
  const [name = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase())
  const weight = parameters.find((parameter) => parameter.startsWith('q='))
  return { name, weight: weight === undefined ? 1 : Number(weight.slice(2)) }
}

/** What may be logged and echoed without a second thought. */
const plainId = /^[\w.:/+=@-]{1,128}$/

/** The client's own id for its request, if it has a sensible one. */
export function readRequestId(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' && plainId.test(header) ? header : undefined
}

/** What a client asks of the time of its request. */
export interface Urgency {
  /** Milliseconds from arrival to answer; Infinity if it does not say. */
  readonly timeoutMs: number
  /** Undefined if it does not say. */
  readonly priority: Priority | undefined
}

const unhurried: Urgency = { timeoutMs: Infinity, priority: undefined }
export const timeoutField = 'x-request-timeout-ms'
export const priorityField = 'x-request-priority'
/** Says in an answer that something else gives it than the version that was asked, and what. */
export const fallbackField = 'x-penstock-fallback'
/** Nobody waits for what runs as a shadow, so no client may ask for it. */
export const clientPriorities = priorities.slice(0, -1)

/** What a client may say in the head of an inference request, and is told in that of the answer; for the reference. */
export const describedFields = {
  [timeoutField]: 'request: milliseconds from arrival to answer; what cannot be answered by then is refused',
  [priorityField]: `request: ${clientPriorities.join(', ')}; not ahead of its route`,
  'x-request-id': "request and answer: the client's own id, or one that it is given",
  [fallbackField]:
    'answer: `version`, `constant` or `rescue` (the stable arm, for one on trial) if something else answers than the version that was asked',
  [armField]:
    'request: the arm that is to answer, from callers with the scope `experiment:force`; answer: the arm of the split that the request went to, where a model has a split and no version is named',
  [versionField]: 'answer: the version of that arm; `model_version` in the body is the one that answered',
  [predictionField]: 'answer: what `POST /v2/feedback` calls the prediction, where metrics are declared',
} as const

export function readUrgency(headers: IncomingHttpHeaders): Urgency | Refusal {
  const timeout = headers[timeoutField]
  const named = headers[priorityField]
  if (timeout === undefined && named === undefined) return unhurried
  const timeoutMs = timeout === undefined ? Infinity : readTimeout(timeout)
  if (isRefusal(timeoutMs)) return timeoutMs
  const priority = clientPriorities.find((each) => each === named)
  if (named !== undefined && !priority) {
    return refuse('invalid', `"${priorityField}" must be one of ${clientPriorities.join(', ')}`)
  }
  return { timeoutMs, priority }
}

function readTimeout(text: string | string[]): number | Refusal {
  const ms = typeof text === 'string' && /^\d{1,9}(\.\d{1,6})?$/.test(text) ? Number(text) : 0
  return ms > 0
    ? ms
    : refuse(
        'invalid',
        `"${timeoutField}" must be one plain number of milliseconds above 0, with at most nine digits before the point`,
      )
}
