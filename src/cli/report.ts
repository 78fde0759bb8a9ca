/** How commands report what went wrong: one clear line each, no stack trace, and an exit code that is not 0. */
import { relative } from 'node:path'
import { loadConfig, type ConfigFile } from '../config.ts'
import { showMistake, type Mistake } from '../core/document.ts'

export function failWith(message: string): never {
  process.stderr.write(`penstock: ${message}\n`)
  process.exit(1)
}

export function fail(mistakes: readonly Mistake[], isStuck: boolean = false): never {
  const lines = mistakes.map((mistake) => `  ${showMistake({ ...mistake, file: fromHere(mistake.file) })}\n`)
  const message = `cannot go on:\n${lines.join('')}`.trimEnd()
  return isStuck ? endNow(message, 1) : failWith(message)
}

export async function configOrExit(path: string): Promise<ConfigFile> {
  const loaded = await loadConfig(path)
  return 'config' in loaded ? loaded : fail(loaded.mistakes)
}

/** A path as one would type it here. */
export function fromHere(path: string): string {
  const shorter = relative(process.cwd(), path)
  return shorter === '' || shorter.startsWith('..') ? path : shorter
}

/** EX_SOFTWARE of sysexits.h: told apart from a bad start (1) and from a signal. */
const stuckCode = 70

/**
 * Ends the process while a thread of it is in native code. Node would wait for that thread, and abort when it comes back;
 * so the process becomes a shell that exits.
 */
export function endNow(message: string, code: number = stuckCode): never {
  process.stderr.write(`penstock: ${message}\n`)
  process.execve?.('/bin/sh', ['sh', '-c', `exit ${code}`], {})
  process.abort()
}
