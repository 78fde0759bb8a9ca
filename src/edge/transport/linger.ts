/**
 * Ends a connection in two steps. To close one on which bytes are still coming in makes the kernel send a reset, which
 * takes the answer from the client before it was read (RFC 9112 section 9.6). So what is written goes out first, and what
 * comes is thrown away until the client closes its side too, for a while at most.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'

const lingerMs = 2_000

export function endLingering(socket: Socket, clock: Clock): void {
  const cancel = clock.after(lingerMs, () => socket.destroy())
  socket.once('close', cancel)
  socket.end()
  socket.resume()
}
