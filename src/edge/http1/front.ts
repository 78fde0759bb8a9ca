/**
 * What serves HTTP/1.1 on connections that somebody else has accepted. Beyond making requests of bytes, a front
 *
 * - begins a request when the one before on its connection is answered, and tells the connection and the intake of both;
 * - holds every head against `framingFlaw` and `headFlaw`; behind what is wrong with the framing nothing is a request;
 * - keeps all limits and times of the edge's options, those of bodies that are wanted excepted;
 * - sets the connection's `ending`: what was sent before the end is answered, and the last answer says that it is;
 * - counts open connections, and those that it answers by hand.
 *
 * A differential test holds each against the others (`test/front-pair.test.ts`).
 */
import type { Socket } from 'node:net'
import type { Connection } from '../transport/connections.ts'

export interface Http1Front {
  /** Speaks HTTP/1.1 on a connection; `socket` is the one to speak on, which TLS may have wrapped. */
  accept(connection: Connection, socket: Socket): void
  /** Stops watching over timeouts. */
  close(): void
}
