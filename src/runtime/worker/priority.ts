/**
 * A worker that loads and warms up makes room for those that serve: on Linux its thread runs at a lower priority until it
 * is to serve itself. To come back needs the right to (CAP_SYS_NICE), so without that it does not step back at all.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { setPriority } from 'node:os'
import { basename } from 'node:path'

const lower = 10
const usual = 0
/** Place of CAP_SYS_NICE among the capabilities, see capabilities(7). */
const sysNice = 23n

let steppedBack: number | undefined

export function stepBack(): void {
  try {
    if (!mayComeBack()) return
    const thread = Number(basename(readlinkSync('/proc/thread-self')))
    setPriority(thread, lower)
    steppedBack = thread
  } catch {
    // Not on this system; then all are equal.
  }
}

export function comeBack(): void {
  if (steppedBack === undefined) return
  setPriority(steppedBack, usual)
  steppedBack = undefined
}

function mayComeBack(): boolean {
  const [, effective = '0'] = /^CapEff:\s+([0-9a-f]+)$/m.exec(readFileSync('/proc/thread-self/status', 'utf8')) ?? []
  return ((BigInt(`0x${effective}`) >> sysNice) & 1n) === 1n
}
