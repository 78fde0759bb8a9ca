/**
 * The audit file: every change that somebody makes to a running gateway, written to the end of the file and to the disk
 * before it is made. What cannot be written down is not done. What the gateway does by itself is written down too, behind.
 */
import { appendFile } from 'node:fs/promises'
import type { Caller } from '../core/caller.ts'
import type { Clock } from '../core/clock.ts'
import { refuse, type Refusal } from '../core/refusal.ts'

export interface Change {
  readonly who: Pick<Caller, 'name'>
  /** Such as `tokens.mint`. */
  readonly what: string
  readonly before: unknown
  readonly after: unknown
}

export class Audit {
  readonly #file: string
  readonly #clock: Clock

  constructor(file: string, clock: Clock) {
    this.#file = file
    this.#clock = clock
  }

  /** Writes a change down; or says why it must not be made. */
  async record({ who, what, before, after }: Change): Promise<Refusal | undefined> {
    const when = new Date(this.#clock.epoch()).toISOString()
    const line = JSON.stringify({ when, who: who.name, what, before, after })
    try {
      await appendFile(this.#file, `${line}\n`, { mode: 0o600, flush: true })
      return undefined
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      return refuse('not_changed', `nothing is changed, because \`admin.auditFile\` cannot be written (${code})`)
    }
  }
}
