/**
 * What is asked of Redis: small scripts, because only there a bucket can be read and written at once. The clock is that of
 * Redis, so all gateways go by one. A bucket is kept as the time at which it will be full again, and no longer than until
 * then. If that clock is set back, a bucket becomes an empty one, or one in its deepest debt, and nothing worse.
 */
import { hash } from 'node:crypto'
import type { Redis } from 'ioredis'

const head = `
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local function keep(key, at)
  if at <= now then redis.call('DEL', key) else redis.call('SET', key, at, 'PX', math.ceil(at - now)) end
end
-- What is no number, not even NaN, is as good as nothing. MGET finds nothing where there is something else.
local function fullAt(key, kept, most)
  local at = tonumber(kept or '') or now
  if at ~= at then at = now end
  if at > now + most then
    at = now + most
    keep(key, at)
  end
  return math.max(at, now)
end
`

/** Numbers come as whole ones from Redis, so scripts answer in thousandths. */
const thousandths = 1_000

export class Script {
  readonly #text: string
  readonly #sha: string

  constructor(text: string) {
    this.#text = head + text
    this.#sha = hash('sha1', this.#text)
  }

  /** Throws if the answer is not a list of so many numbers. */
  async run(client: Redis, keys: readonly string[], numbers: readonly number[], answers: number): Promise<number[]> {
    const rest = [...keys, ...numbers]
    // Redis forgets scripts when it starts again.
    const reply = await client.evalsha(this.#sha, keys.length, ...rest).catch((error: unknown) => {
      if (error instanceof Error && error.message.startsWith('NOSCRIPT')) {
        return client.eval(this.#text, keys.length, ...rest)
      }
      throw error
    })
    if (!Array.isArray(reply) || reply.length !== answers) throw new TypeError('an answer of another form')
    return reply.map(numberOf)
  }
}

function numberOf(value: unknown): number {
  if (typeof value !== 'number') throw new TypeError('an answer that is no number')
  return value / thousandths
}

/**
 * Of each key: milliseconds for a unit, burst, deepest debt in milliseconds, units to take. Takes all or nothing. Answers 1
 * and the units left of each key if it took; otherwise 0, and of each key the wait in milliseconds.
 */
export const takeAll = new Script(`
local isAllowed = 1
local after, left, waits = {}, { 1000 }, { 0 }
local kept = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  local perUnit, burst = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local at = fullAt(key, kept[i], perUnit * burst + ARGV[4 * i - 1]) + perUnit * ARGV[4 * i]
  local wait = at - perUnit * burst - now
  after[i] = at
  left[i + 1] = (burst - (at - now) / perUnit) * 1000 + 0.5
  if wait <= perUnit * 1e-6 then waits[i + 1] = 0 else
    isAllowed = 0
    -- Whatever is not there yet takes a thousandth at least.
    waits[i + 1] = math.ceil(wait * 1000)
  end
end
if isAllowed == 0 then return waits end
for i, key in ipairs(KEYS) do keep(key, after[i]) end
return left
`)

/**
 * Milliseconds for a unit, burst, deepest debt in milliseconds, units to draw, the least that is of use. Answers how many
 * were drawn (whole ones), the wait in milliseconds until the least could be drawn again, and the units that are left.
 */
export const draw = new Script(`
local perUnit, burst, debt, wanted, least = unpack(ARGV)
local at = fullAt(KEYS[1], redis.call('MGET', KEYS[1])[1], perUnit * burst + debt)
local left = burst - (at - now) / perUnit
local drawn = math.min(tonumber(wanted), math.floor(left + 1e-6))
if drawn < tonumber(least) or drawn < 0 then drawn = 0 end
if drawn > 0 then
  at = at + drawn * perUnit
  keep(KEYS[1], at)
end
local wait = math.max(0, at + (least - burst) * perUnit - now)
return { drawn * 1000, math.ceil(wait * 1000), (burst - (at - now) / perUnit) * 1000 + 0.5 }
`)

/** Milliseconds for a unit, burst, deepest debt in milliseconds, units to put back (below 0: to take). Answers nothing. */
export const give = new Script(`
local perUnit, burst, debt, units = unpack(ARGV)
local at = fullAt(KEYS[1], redis.call('MGET', KEYS[1])[1], perUnit * burst + debt)
keep(KEYS[1], math.min(at - perUnit * units, now + perUnit * burst + debt))
return {}
`)
