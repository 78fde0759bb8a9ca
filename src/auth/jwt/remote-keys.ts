/**
 * Keys that are fetched: ahead of need and again when a token names an unknown one, but never often. While they cannot be
 * fetched the last ones stay in force, and not for ever: whoever keeps us from the issuer must not keep old keys alive.
 */
import type { Clock } from '../../core/clock.ts'
import type { Algorithm } from './algorithms.ts'
import { download, type Place } from './download.ts'
import { KeySet, type KeySource } from './keys.ts'
import type { IssuerTools } from './issuer.ts'

export interface RemoteOptions extends Place {
  readonly algorithms: readonly Algorithm[]
  readonly refreshS: number
  readonly staleS: number
}

const fetchMs = 5_000
const searchEveryMs = 10_000
const firstRetryMs = 1_000
const lastRetryMs = 60_000

export class RemoteKeys implements KeySource {
  failures = 0
  readonly #options: RemoteOptions
  readonly #tools: IssuerTools
  #set: KeySet | undefined
  #seenAt = -Infinity
  #searchedAt = -Infinity
  #failuresInARow = 0
  #problem = ''
  #fetching: Promise<void> | undefined
  #cancelNext: () => void = () => undefined
  #closing = new AbortController()

  /** Begins to fetch. */
  constructor(options: RemoteOptions, tools: IssuerTools) {
    this.#options = options
    this.#tools = tools
    void this.#fetch()
  }

  get current(): KeySet | undefined {
    return this.#clock.now() - this.#seenAt < this.#options.staleS * 1_000 ? this.#set : undefined
  }

  get ageS(): number {
    return (this.#clock.now() - this.#seenAt) / 1_000
  }

  /** Waits for the fetch under way, or begins one if the last one for an unknown key is long enough ago. */
  search(): Promise<void> | undefined {
    if (this.#fetching) return this.#fetching
    const now = this.#clock.now()
    // Without keys it is tried again by and by anyway.
    if (!this.current || now - this.#searchedAt < searchEveryMs) return undefined
    this.#searchedAt = now
    return this.#fetch()
  }

  close(): void {
    this.#closing.abort()
    this.#cancelNext()
  }

  get #clock(): Clock {
    return this.#tools.clock
  }

  #fetch(): Promise<void> {
    this.#cancelNext()
    this.#fetching = this.#attempt().finally(() => {
      this.#fetching = undefined
    })
    return this.#fetching
  }

  async #attempt(): Promise<void> {
    const startedAt = this.#clock.now()
    const late = new AbortController()
    const cancel = this.#clock.after(fetchMs, () => late.abort())
    const answer = await download(this.#options, AbortSignal.any([late.signal, this.#closing.signal]))
    cancel()
    if (this.#closing.signal.aborted) return
    const set = 'problem' in answer ? answer.problem : await this.#read(answer.text)
    if (typeof set === 'string') this.#failed(set)
    else this.#succeeded(set, startedAt)
    if (!this.#closing.signal.aborted) this.#cancelNext = this.#clock.after(this.#nextMs(), () => void this.#fetch())
  }

  #read(text: string): Promise<KeySet | string> {
    return KeySet.read(text, this.#options.algorithms, this.#set)
  }

  #succeeded(set: KeySet, startedAt: number): void {
    this.#set = set
    this.#seenAt = startedAt
    this.#failuresInARow = 0
    this.#problem = ''
  }

  /** The same problem is reported once, until the keys have been fetched again. */
  #failed(problem: string): void {
    this.failures++
    this.#failuresInARow++
    if (problem !== this.#problem) this.#tools.onProblem({ file: this.#options.url, message: problem })
    this.#problem = problem
  }

  /** Not all gateways at once. */
  #nextMs(): number {
    const { refreshS } = this.#options
    const retryMs = Math.min(lastRetryMs, firstRetryMs * 2 ** (this.#failuresInARow - 1))
    const ms = this.#failuresInARow > 0 ? retryMs : refreshS * 1_000
    return ms * (0.8 + 0.2 * this.#tools.random())
  }
}
