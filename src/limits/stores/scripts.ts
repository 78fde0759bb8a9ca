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
  if at <= now then redis.call('DEL', key)
  else redis.call('SET', key, string.format('%.17g', at), 'PX', string.format('%d', math.ceil(at - now))) end
end
local function fullAt(key, most)
  local at = tonumber(redis.call('GET', key) or '') or now
  if at > now + most then
    at = now + most
    keep(key, at)
  end
  return math.max(at, now)
end
local function show(number) return string.format('%.17g', number) end
`

/** Reads what a script answers: so many numbers, as text because Redis cuts numbers down to whole ones. */
export class Script {
  readonly #text: string
  readonly #sha: string

  constructor(text: string) {
    this.#text = head + text
    this.#sha = hash('sha1', this.#text)
  }

  async run(client: Redis, keys: readonly string[], numbers: readonly number[]): Promise<number[]> {
    const rest = [...keys, ...numbers.map(String)]
    // Redis forgets scripts when it starts again.
    const reply = await client.evalsha(this.#sha, keys.length, ...rest).catch((error: unknown) => {
      if (error instanceof Error && error.message.startsWith('NOSCRIPT')) {
        return client.eval(this.#text, keys.length, ...rest)
      }
      throw error
    })
    if (!Array.isArray(reply)) throw new TypeError('an answer that is no list')
    return reply.map(numberOf)
  }
}

function numberOf(text: unknown): number {
  const number = typeof text === 'string' && text !== '' ? Number(text) : NaN
  if (!Number.isFinite(number)) throw new TypeError('an answer that is no number')
  return number
}

/**
 * Of each key: milliseconds for a unit, burst, deepest debt in milliseconds, units to take. Takes all or nothing; answers
 * of each key the wait in milliseconds, which is 0 for all if it was taken, and the units that are left.
 */
export const takeAll = new Script(`
local isAllowed = true
local after, answer = {}, {}
for i, key in ipairs(KEYS) do
  local perUnit, burst, debt, units = unpack(ARGV, 4 * i - 3, 4 * i)
  local at = fullAt(key, perUnit * burst + debt)
  after[i] = at + perUnit * units
  local wait = after[i] - perUnit * burst - now
  if wait <= perUnit * 1e-6 then wait = 0 else isAllowed = false end
  answer[2 * i - 1] = show(wait)
  answer[2 * i] = show(burst - (at - now) / perUnit)
end
if isAllowed then
  for i, key in ipairs(KEYS) do
    keep(key, after[i])
    answer[2 * i] = show(answer[2 * i] - ARGV[4 * i])
  end
end
return answer
`)

/**
 * Milliseconds for a unit, burst, deepest debt in milliseconds, units to draw, the least that is of use. Answers how many
 * were drawn (whole ones), the wait until the least could be drawn again, and the units that are left.
 */
export const draw = new Script(`
local perUnit, burst, debt, wanted, least = unpack(ARGV)
local at = fullAt(KEYS[1], perUnit * burst + debt)
local left = burst - (at - now) / perUnit
local drawn = math.min(tonumber(wanted), math.floor(left + 1e-6))
if drawn < tonumber(least) or drawn < 0 then drawn = 0 end
if drawn > 0 then
  at = at + drawn * perUnit
  keep(KEYS[1], at)
end
return { show(drawn), show(math.max(0, at + (least - burst) * perUnit - now)), show(burst - (at - now) / perUnit) }
`)

/** Milliseconds for a unit, burst, deepest debt in milliseconds, units to put back (below 0: to take). Answers nothing. */
export const give = new Script(`
local perUnit, burst, debt, units = unpack(ARGV)
keep(KEYS[1], math.min(fullAt(KEYS[1], perUnit * burst + debt) - perUnit * units, now + perUnit * burst + debt))
return {}
`)
