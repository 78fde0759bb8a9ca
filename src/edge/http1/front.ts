/** What serves HTTP/1.1 on connections that somebody else has accepted. */
import type { Socket } from 'node:net'
import type { Connection } from '../transport/connections.ts'

export interface Http1Front {
  /** Speaks HTTP/1.1 on a connection; `socket` is the one to speak on, which TLS may have wrapped. */
  accept(connection: Connection, socket: Socket): void
  /** Stops watching over timeouts. */
  close(): void
}
