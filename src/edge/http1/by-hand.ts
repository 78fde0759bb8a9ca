/** Answers where there is no request to answer. */
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import type { EdgeCounts } from '../../telemetry/edge-counts.ts'
import { refusalBody } from '../reply.ts'
import { endLingering } from '../transport/linger.ts'

export const notHttp = (): Refusal => refuse('invalid', 'this is not HTTP/1.1')
export const headTooLarge = (): Refusal => refuse('header_too_large', 'the request head is over the limit')
export const trailersTooLarge = (): Refusal => refuse('header_too_large', 'the trailers are over the limit')
export const extensionsTooLarge = (): Refusal => refuse('too_large', 'the chunk extensions are over the limit')
export const tooSlow = (): Refusal => refuse('too_slow', 'the request did not arrive in time')

export interface ByHandTools {
  readonly clock: Clock
  readonly counts: EdgeCounts
}

/** Answers without a request, and ends the connection. */
export function endWith(socket: Socket, refusal: Refusal, { clock, counts }: ByHandTools, fields = ''): void {
  counts.brokenOff.set(refusal.code, (counts.brokenOff.get(refusal.code) ?? 0) + 1)
  const body = refusalBody(refusal, '')
  socket.write(
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\nconnection: close\r\n${fields}` +
      `date: ${new Date(clock.epoch()).toUTCString()}\r\n` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  endLingering(socket, clock)
}
