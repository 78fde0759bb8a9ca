/** Writing answers: one head, one body, one write. */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Refusal } from '../core/refusal.ts'
import type { Payload } from './codecs/response.ts'

export function writeJson(response: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value)
  response.writeHead(status, ['content-type', 'application/json', 'content-length', String(Buffer.byteLength(body))])
  response.end(body)
}

export function writeBody(response: ServerResponse, { body, jsonBytes }: Payload, requestId: string): void {
  const length = typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength
  const type = jsonBytes === undefined ? 'application/json' : 'application/octet-stream'
  const head = ['content-type', type, 'content-length', String(length), 'x-request-id', requestId]
  if (jsonBytes !== undefined) head.push('inference-header-content-length', String(jsonBytes))
  response.writeHead(200, head)
  response.end(body)
}

/** The body of every refusal. Clients of the protocol read `error`; the other keys are ours. */
export function refusalBody({ message, code }: Refusal, requestId: string): string {
  return JSON.stringify({ error: message, code, ...(requestId && { request_id: requestId }) })
}

export function writeRefusal(response: ServerResponse, refusal: Refusal, requestId: string): void {
  const body = refusalBody(refusal, requestId)
  const head: OutgoingHttpHeaders = {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
  }
  if (refusal.retryAfterS !== undefined) head['retry-after'] = String(refusal.retryAfterS)
  if (requestId) head['x-request-id'] = requestId
  response.writeHead(refusal.status, head)
  response.end(body)
}
