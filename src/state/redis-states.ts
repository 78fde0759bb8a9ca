/**
 * State in Redis, for all gateways that share it, and as durable as that Redis is: who must not lose it has it write to
 * disk and evict nothing. Changes by others are found by one question (HGET) per second, name that is watched and gateway.
 */
import { hash } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { Clock } from '../core/clock.ts'
import { jsonOf, nameProblem, nothing, Watchers, type Found, type Kept, type Problem, type States } from './states.ts'

const lookEveryMs = 1_000
/** No request waits for state, so it may take longer than a limit may, in milliseconds. */
const patientMs = 250

/** What state needs of a connection to Redis. */
export interface StateLink {
  /** Before every key, so that others may use the same Redis. */
  readonly prefix: string
  /** Longest time to wait for an answer, in milliseconds, if nothing else is said. */
  readonly budgetMs: number
  /** False while asking is of no use. */
  readonly isUp: boolean
  /** Asks, and answers within the budget, whatever Redis does. */
  call<T>(command: (client: Redis) => Promise<T>, budgetMs?: number): Promise<{ readonly value: T } | Problem>
}

/** Asks with patience. A key that holds something else is answered with undefined: that is no failure of Redis. */
export function ask<T>(
  link: StateLink,
  command: (client: Redis) => Promise<T>,
): Promise<{ readonly value: T | undefined } | Problem> {
  const tolerant = (client: Redis) =>
    command(client).catch((error: unknown) => {
      if (error instanceof Error && error.message.includes('WRONGTYPE')) return undefined
      throw error
    })
  return link.call(tolerant, Math.max(patientMs, link.budgetMs))
}

/** A script for one key: only in Redis something can be compared and written at once. */
export class Script {
  readonly #text: string
  readonly #sha: string

  constructor(text: string) {
    this.#text = text
    this.#sha = hash('sha1', text)
  }

  run(client: Redis, key: string, values: readonly (string | number)[]): Promise<unknown> {
    // Redis forgets scripts when it starts again.
    return client.evalsha(this.#sha, 1, key, ...values).catch((error: unknown) => {
      if (error instanceof Error && error.message.startsWith('NOSCRIPT'))
        return client.eval(this.#text, 1, key, ...values)
      throw error
    })
  }
}

/**
 * The revision that is expected, 0 for nothing, and the JSON. Answers the new revision, or 0. Revisions go by the time: if
 * Redis has lost the last ones, those that follow are still others.
 */
const compareAndSet = new Script(`
local kept = redis.call('HGET', KEYS[1], 'revision') or '0'
if kept ~= ARGV[1] then return '0' end
local time = redis.call('TIME')
local revision = string.format('%.0f', math.max(kept + 1, time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('HSET', KEYS[1], 'revision', revision, 'value', ARGV[2])
return revision
`)

export interface RedisStatesTools {
  readonly link: StateLink
  readonly clock: Clock
}

export class RedisStates implements States {
  readonly #link: StateLink
  readonly #watchers: Watchers

  constructor({ link, clock }: RedisStatesTools) {
    this.#link = link
    this.#watchers = new Watchers({ clock, everyMs: lookEveryMs, look: (name, mark) => this.#look(name, mark) })
  }

  async read(name: string): Promise<Kept | undefined | Problem> {
    const found = nameProblem(name) ?? (await this.#find(name))
    if ('problem' in found) return found
    this.#watchers.read(name, found.mark)
    return found === nothing ? undefined : found.kept
  }

  async write(
    name: string,
    value: unknown,
    revision: number,
  ): Promise<{ readonly revision: number } | 'stale' | Problem> {
    const json = jsonOf(value)
    const problem = nameProblem(name) ?? (typeof json === 'string' ? undefined : json)
    if (problem) return problem
    const key = this.#keyOf(name)
    const reply = await ask(this.#link, (client) => compareAndSet.run(client, key, [revision, json as string]))
    if ('problem' in reply) return reply
    const written = Number(reply.value)
    if (written === 0) return 'stale'
    if (!isRevision(written)) return damaged(key)
    this.#watchers.wrote(name, String(written))
    return { revision: written }
  }

  watch(name: string, changed: (kept: Kept) => void): () => void {
    return nameProblem(name) ? () => {} : this.#watchers.add(name, changed)
  }

  close(): void {
    this.#watchers.close()
  }

  async #look(name: string, mark: string): Promise<Found | undefined> {
    if (!this.#link.isUp) return undefined
    const reply = await ask(this.#link, (client) => client.hget(this.#keyOf(name), 'revision'))
    if ('problem' in reply || reply.value === undefined || (reply.value ?? '') === mark) return undefined
    const found = await this.#find(name)
    return 'problem' in found ? undefined : found
  }

  async #find(name: string): Promise<Found | Problem> {
    const key = this.#keyOf(name)
    const reply = await ask(this.#link, (client) => client.hmget(key, 'revision', 'value'))
    if ('problem' in reply) return reply
    const [mark, json] = reply.value ?? ['']
    if (mark === null && json === null) return nothing
    const revision = Number(mark)
    const value = typeof json === 'string' ? parsed(json) : undefined
    return isRevision(revision) && value !== undefined ? { kept: { revision, value }, mark: mark! } : damaged(key)
  }

  #keyOf(name: string): string {
    return `${this.#link.prefix}state:${name}`
  }
}

function isRevision(number: number): boolean {
  return Number.isSafeInteger(number) && number > 0
}

function damaged(key: string): Problem {
  return { problem: `${key} in Redis: is damaged; delete it (DEL) to begin without what it kept` }
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}
