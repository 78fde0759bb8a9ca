/** Looking at the first bytes of a connection before anybody else does. */
import type { Socket } from 'node:net'
import type { Clock } from '../../core/clock.ts'

/** How many of the first bytes are ours; undefined to wait for more; negative if they make no sense. */
export type Judge = (bytes: Buffer) => number | undefined

/**
 * Collects bytes until `judge` is content, and puts back those that are not ours. Calls `done` once with whether it was;
 * not at all if the connection goes before.
 */
export function peek(
  socket: Socket,
  judge: Judge,
  { clock, ms }: { clock: Clock; ms: number },
  done: (isGood: boolean) => void,
): void {
  let bytes: Buffer = Buffer.alloc(0)
  const finish = (isGood: boolean) => {
    cancel()
    socket.off('readable', look).off('close', cancel)
    done(isGood)
  }
  const look = () => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
    const ours = judge(bytes)
    if (ours === undefined) return
    if (ours >= 0 && ours < bytes.length) socket.unshift(bytes.subarray(ours))
    finish(ours >= 0)
  }
  const cancel = clock.after(ms, () => finish(false))
  socket.on('readable', look).on('close', cancel)
}
