/** Reading a file that somebody may be writing in place: half of a configuration is often one too, and another. */
import { readFile } from 'node:fs/promises'
import type { Clock } from './core/clock.ts'

/** For so long nothing may have changed in it. */
const settleMs = 200
/** A file that changes all the time is as it was. */
const mostLooks = 10

/** Reads like `readFile`, but what is new in a file counts only if it is the same a moment later. */
export function settledReader(clock: Clock): (file: string) => Promise<Buffer> {
  let settled: Buffer | undefined
  return async (file) => {
    let bytes = await readFile(file)
    for (let looks = 0; settled && !settled.equals(bytes); looks++) {
      if (looks === mostLooks) return settled
      await new Promise<void>((resolve) => void clock.after(settleMs, resolve))
      const later = await readFile(file)
      if (later.equals(bytes)) break
      bytes = later
    }
    settled = bytes
    return bytes
  }
}
