/** Tokens and subjects that are refused although their tokens are good: a copy of a list that all gateways share. */
import type { Clock } from '../../core/clock.ts'
import type { Mistake } from '../../core/document.ts'
import type { Accepted } from './claims.ts'
import type { Fault } from './faults.ts'
import type { Issuer } from './issuer.ts'
import type { JwtOptions } from './options.ts'

/**
 * Reads at most so many members of the sorted set, with their scores, whose score is over `fromS`. A member is
 * `jti:ISSUER/ID` or `sub:ISSUER/SUBJECT`, its score the second since 1970 until which it holds.
 */
export type ReadRevoked = (fromS: number, atMost: number) => Promise<readonly Revoked[]>
export type Revoked = readonly [member: string, untilS: number]

interface Tools {
  readonly clock: Clock
  readonly read: ReadRevoked
  readonly onProblem: (problem: Mistake) => void
}

/** To read as many takes some tens of milliseconds. */
const maxRevoked = 20_000

export class Revocations {
  readonly #options: NonNullable<JwtOptions['revocation']>
  readonly #tools: Tools
  #until: ReadonlyMap<string, number> = new Map()
  #readAt = -Infinity
  #problem = ''
  #closed = false
  #cancelNext: () => void = () => undefined

  private constructor(options: NonNullable<JwtOptions['revocation']>, tools: Tools) {
    this.#options = options
    this.#tools = tools
  }

  /** Reads the list for the first time, if it can be read. */
  static async open(options: NonNullable<JwtOptions['revocation']>, tools: Tools): Promise<Revocations> {
    const revocations = new Revocations(options, tools)
    await revocations.#poll()
    return revocations
  }

  /** Seconds since the list was last read. */
  get ageS(): number {
    return (this.#tools.clock.now() - this.#readAt) / 1_000
  }

  /** Tells at any time whether a token has been revoked, or whether nobody knows. */
  watch({ terms }: Issuer, { id, caller }: Accepted): () => Fault | undefined {
    const { staleMs, onError } = this.#options
    const subject = `sub:${caller.name}`
    const token = id === undefined ? undefined : `jti:${terms.issuer}/${id}`
    return () => {
      if (onError === 'refuse' && this.#tools.clock.now() - this.#readAt >= staleMs) return 'revocations_unavailable'
      if (this.#until.size === 0) return undefined
      return this.#holds(subject) || (token !== undefined && this.#holds(token)) ? 'revoked' : undefined
    }
  }

  close(): void {
    this.#closed = true
    this.#cancelNext()
  }

  #holds(member: string): boolean {
    const untilS = this.#until.get(member)
    return untilS !== undefined && this.#tools.clock.epoch() < untilS * 1_000
  }

  async #poll(): Promise<void> {
    const { clock } = this.#tools
    const startedAt = clock.now()
    const read = await this.#read()
    if (this.#closed) return
    if (typeof read === 'string') this.#failed(read)
    else {
      this.#until = new Map(read)
      this.#readAt = startedAt
      this.#problem = ''
    }
    this.#cancelNext = clock.after(this.#options.everyMs, () => void this.#poll())
  }

  /** Or what is wrong. Part of a list is no list: those that it lacks would get in. */
  #read(): Promise<readonly Revoked[] | string> {
    const { clock, read } = this.#tools
    const fromS = Math.floor(clock.epoch() / 1_000)
    return new Promise((resolve) => {
      const cancel = clock.after(this.#options.everyMs, () => resolve('cannot be read: Redis took too long'))
      const settle = (result: readonly Revoked[] | string) => {
        cancel()
        resolve(result)
      }
      read(fromS, maxRevoked + 1).then(
        (list) =>
          settle(list.length > maxRevoked ? `holds more than ${maxRevoked} members that have not run out` : list),
        () => settle('cannot be read'),
      )
    })
  }

  /** The same problem is reported once, until the list has been read again. */
  #failed(problem: string): void {
    if (problem !== this.#problem) this.#tools.onProblem({ file: this.#options.key, message: problem })
    this.#problem = problem
  }
}
