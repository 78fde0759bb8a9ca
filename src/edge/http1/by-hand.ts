/** Answers where there is no request to answer. */
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'
import type { Refusal } from '../../core/refusal.ts'
import { refusalBody } from '../reply.ts'
import { endLingering } from '../transport/linger.ts'

/** Answers without a request, and ends the connection. */
export function endWith(socket: Socket, refusal: Refusal, clock: Clock, fields = ''): void {
  const body = refusalBody(refusal, '')
  socket.write(
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\nconnection: close\r\n${fields}` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  endLingering(socket, clock)
}
