/** Writes an answer in as few calls of the system as can be: one, unless it is long. */
import type { Socket } from 'node:net'
import { isShort, writeInBits, type Pieces } from '../pieces.ts'

export interface Progress {
  /** A part of a long answer is with the kernel. */
  readonly moved: () => void
  /** All of it is, or an error says that it will not be. */
  readonly written: (error?: Error | null) => void
}

/** `head` has no character above U+00FF. */
export function send(socket: Socket, head: string, pieces: Pieces, progress: Progress): void {
  if (isShort(pieces)) sendShort(socket, head, pieces, progress.written)
  else {
    socket.write(head, 'latin1')
    writeInBits(pieces, (bit, taken) => socket.write(bit, taken), progress)
  }
}

function sendShort(socket: Socket, head: string, pieces: Pieces, written: Progress['written']): void {
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
