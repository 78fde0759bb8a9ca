/**
 * The connection to Redis. It is never waited for longer than the budget, and not at all while it does not answer; what
 * it is asked meanwhile is not kept for later. Whoever asks says what holds without an answer.
 */
import { readFile } from 'node:fs/promises'
import { Redis as Client } from 'ioredis'
import type { Clock } from '../core/clock.ts'
import { Breaker } from './breaker.ts'
import type { RedisOptions } from './options.ts'

export interface RedisTools {
  readonly clock: Clock
  /** Told when it can be asked no more and why, and when it can be again. */
  readonly onChange: (isUp: boolean, problem: string) => void
}

export type Reply<T> = { readonly value: T } | { readonly problem: string }

/** Questions without an answer yet. Beyond it there are none, so that nothing piles up behind a Redis that hangs. */
const mostUnanswered = 10_000
/** After so long without a word the connection is given up. */
const silentMs = 2_000
const longestPauseMs = 2_000

export class Redis {
  readonly prefix: string
  readonly budgetMs: number
  readonly #options: RedisOptions
  readonly #tools: RedisTools
  readonly #breaker = new Breaker()
  readonly #client: Client
  readonly #unanswered = new Set<Promise<unknown>>()
  #errors = 0
  /** Undefined until it is known for the first time. */
  #wasUp: boolean | undefined
  #isClosed = false
  #lastProblem = 'there is no connection'

  private constructor(options: RedisOptions, tools: RedisTools, secrets: Secrets) {
    this.prefix = options.prefix
    this.budgetMs = options.budgetMs
    this.#options = options
    this.#tools = tools
    this.#client = new Client(options.url, {
      ...secrets,
      enableAutoPipelining: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: silentMs,
      socketTimeout: silentMs,
      retryStrategy: (times) => Math.min(longestPauseMs, 50 * 2 ** Math.min(times, 10)),
      // Whom a failover has made a replica is not the one to ask.
      reconnectOnError: ({ message }) => message.startsWith('READONLY'),
    })
    this.#listen()
  }

  /** Reads the files and begins to connect; says what is wrong with them if they cannot be read. */
  static async open(options: RedisOptions, tools: RedisTools): Promise<Redis | { readonly problem: string }> {
    const secrets = await readSecrets(options)
    return 'problem' in secrets ? secrets : new Redis(options, tools, secrets)
  }

  /** Whether there is any use in asking. */
  get isUp(): boolean {
    return !this.#isClosed && this.#client.status === 'ready' && this.#breaker.allows(this.#tools.clock.now())
  }

  /** Questions without a good answer in time. */
  get errors(): number {
    return this.#errors
  }

  /** Asks. What the command throws, of an answer that makes no sense too, counts as a failure of Redis. */
  async call<T>(command: (client: Client) => Promise<T>, budgetMs: number = this.budgetMs): Promise<Reply<T>> {
    if (!this.isUp) return this.#failed(this.#lastProblem)
    if (this.#unanswered.size >= mostUnanswered) return this.#failed('too many questions wait for an answer')
    this.#breaker.begin()
    const reply = await this.#within(this.#ask(command), budgetMs)
    if ('problem' in reply) {
      this.#breaker.fail(this.#tools.clock.now())
      this.#failed(reply.problem)
    } else this.#breaker.succeed()
    this.#report()
    return reply
  }

  /** Lets what was asked be answered, within the budget, and ends the connection. */
  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#unanswered.size > 0) {
      await this.#within(
        Promise.all(this.#unanswered).then(() => ({ value: undefined })),
        this.budgetMs,
      )
    }
    this.#client.disconnect()
  }

  #ask<T>(command: (client: Client) => Promise<T>): Promise<Reply<T>> {
    const asked = command(this.#client).then(
      (value) => ({ value }),
      (error: unknown) => ({ problem: error instanceof Error ? error.message.slice(0, 200) : 'an unknown failure' }),
    )
    this.#unanswered.add(asked)
    void asked.then(() => this.#unanswered.delete(asked))
    return asked
  }

  #within<T>(asked: Promise<Reply<T>>, ms: number): Promise<Reply<T>> {
    return new Promise((resolve) => {
      const cancel = this.#tools.clock.after(ms, () => {
        resolve({ problem: `no answer within ${ms} ms` })
      })
      void asked.then(resolve).finally(cancel)
    })
  }

  #failed(problem: string): { readonly problem: string } {
    this.#errors++
    this.#lastProblem = problem
    return { problem }
  }

  #listen(): void {
    this.#client.on('error', ({ message }: Error) => (this.#lastProblem = message.slice(0, 200)))
    this.#client.on('ready', () => this.#report())
    this.#client.on('close', () => {
      this.#report()
      // They may have changed; if reading takes longer than the pause, the connection after the next has them.
      void this.#refreshSecrets()
    })
  }

  async #refreshSecrets(): Promise<void> {
    const secrets = await readSecrets(this.#options)
    if (!('problem' in secrets)) Object.assign(this.#client.options, secrets)
  }

  #report(): void {
    const { isUp } = this
    if (isUp === this.#wasUp || this.#isClosed) return
    this.#wasUp = isUp
    this.#tools.onChange(isUp, isUp ? '' : this.#lastProblem)
  }
}

interface Secrets {
  readonly username?: string
  readonly password?: string
  readonly tls?: { readonly ca: string }
}

async function readSecrets(options: RedisOptions): Promise<Secrets | { readonly problem: string }> {
  const { usernameFile, passwordFile, ca } = options
  try {
    return {
      ...(usernameFile !== undefined && { username: await readLine(usernameFile) }),
      ...(passwordFile !== undefined && { password: await readLine(passwordFile) }),
      ...(ca !== undefined && { tls: { ca: await readFile(ca, 'utf8') } }),
    }
  } catch (error) {
    const { code = 'unknown error', path = '' } = error as NodeJS.ErrnoException
    return { problem: `${path}: cannot be read (${code})` }
  }
}

async function readLine(file: string): Promise<string> {
  return (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
}
