/** Reading a file that somebody may be writing in place: half of a configuration is often one too, and another. */
import { readFile } from 'node:fs/promises'
import type { Clock } from '../core/clock.ts'

/** For so long nothing may have changed in it. */
const settleMs = 200
/** A file that changes all the time is as it was. */
const mostLooks = 10

/** Reads like `readFile`, but what is new in a file counts only if it is the same a moment later. */
export function settledReader(clock: Clock): (file: string) => Promise<Buffer> {
  let settled: Buffer | undefined
  return async (file) => {
    const found = await readFile(file)
    settled = settled && !settled.equals(found) ? ((await settle(file, found, clock)) ?? settled) : found
    return settled
  }
}

/** Undefined if it does not come to rest. */
async function settle(file: string, found: Buffer, clock: Clock): Promise<Buffer | undefined> {
  let bytes = found
  for (let looks = 0; looks < mostLooks; looks++) {
    await new Promise<void>((resolve) => void clock.after(settleMs, resolve))
    const later = await readFile(file)
    if (later.equals(bytes)) return bytes
    bytes = later
  }
  return undefined
}
