/** Writes an answer in as few calls of the system as can be: one for what is text, and one for all if some of it is not. */
import type { Socket } from 'node:net'

export type Pieces = readonly (string | Uint8Array)[]

/** `head` has no character above U+00FF. Calls back when all is with the kernel, or with an error. */
export function send(socket: Socket, head: string, pieces: Pieces, written: (error?: Error | null) => void): void {
  let text = head
  let i = 0
  for (let piece = pieces[0]; typeof piece === 'string' && isAscii(piece); piece = pieces[++i]) text += piece
  if (i === pieces.length) {
    socket.write(text, 'latin1', written)
    return
  }
  socket.cork()
  socket.write(text, 'latin1')
  for (; i < pieces.length - 1; i++) socket.write(pieces[i]!)
  socket.write(pieces[i]!, written)
  socket.uncork()
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length
}
