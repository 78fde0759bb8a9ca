/**
 * Counts that several gateways add up, so that each decides by what all of them have seen. What was added here is pushed
 * to Redis now and then, and what all have added since the last look comes back with the answer; so it costs one script
 * per period and gateway, over all fields. Without Redis, each goes by its own.
 *
 * Each push has a number of its gateway's, which Redis keeps beside the sums; one whose answer was lost is sent again under
 * the same number, and counts once. If the sums are gone, they begin anew: what was pushed and not yet seen by the others
 * is lost to them, and a push that was answered by nobody may be seen by them twice.
 */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../core/clock.ts'
import { ask, Script, type StateLink } from './redis-states.ts'

/** Fields of one tally, here and in Redis. What is added to others is dropped. */
const mostFields = 512
const longestField = 256
/** Gateways whose last number is kept: those that have pushed last. */
const mostReplicas = 256
/** Before a field's name, so that it is none of the others. */
const fieldMark = 'n:'

/**
 * Gateway, number of the push (0 to look only), seconds to keep it all, most fields, most gateways, and what is added:
 * field, number, and so on. Answers everything there is.
 */
const pushAll = new Script(`
local key, replica, number, ttl, fields, replicas = KEYS[1], unpack(ARGV, 1, 5)
local function forgetOld()
  local all, known = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'r:' then known[#known + 1] = { all[i], tonumber(string.match(all[i + 1], ':(%d+)$') or 0) } end
  end
  table.sort(known, function(a, b) return a[2] > b[2] end)
  for i = tonumber(replicas), #known do redis.call('HDEL', key, known[i][1]) end
end
local function add(field, by)
  if redis.call('HEXISTS', key, field) == 0 then
    if tonumber(redis.call('HGET', key, 'fields') or 0) >= tonumber(fields) then return end
    redis.call('HINCRBY', key, 'fields', 1)
  end
  -- An error here, such as of a sum that a hand has made a word, must not keep the others from being added.
  redis.pcall('HINCRBYFLOAT', key, field, by)
end
local kept = redis.call('HGET', key, 'r:' .. replica)
if number ~= '0' and tonumber(string.match(kept or '0', '^%d+')) < tonumber(number) then
  if not kept then forgetOld() end
  local time = redis.call('TIME')
  redis.call('HSETNX', key, 'birth', time[1] .. '.' .. time[2])
  redis.call('HSET', key, 'r:' .. replica, number .. ':' .. time[1])
  for i = 6, #ARGV, 2 do add(ARGV[i], ARGV[i + 1]) end
end
redis.call('EXPIRE', key, ttl)
return redis.call('HGETALL', key)
`)

export interface TallyTools {
  /** Undefined if there is no Redis. */
  readonly link: StateLink | undefined
  /** Says what is counted, such as an experiment and its generation: under another name it begins at 0. */
  readonly name: string
  readonly clock: Clock
  /** Milliseconds from one push to the next. */
  readonly everyMs?: number
  /** Seconds after the last push or look, of anybody, for which the sums are kept. */
  readonly ttlS: number
}

type Sums = Map<string, number>

/** A push that has not been answered. */
interface Push {
  readonly number: number
  readonly sums: ReadonlyMap<string, number>
  /** What of it was handed out already. */
  handed: ReadonlyMap<string, number>
}

export class Tally {
  /** Adds that were dropped: no number above 0 up to 2^53, or a field too many or too long. */
  dropped = 0
  readonly #link: StateLink | undefined
  readonly #clock: Clock
  readonly #everyMs: number
  readonly #ttlS: number
  readonly #key: string
  readonly #replica = randomUUID()
  readonly #fields = new Set<string>()
  #onDelta: (deltas: ReadonlyMap<string, number>) => void = () => {}
  /** Added here, neither pushed nor handed out. */
  #fresh: Sums = new Map()
  /** Handed out, and not pushed. */
  #handed: Sums = new Map()
  #push: Push | undefined
  #pushes = 0
  /** What Redis said last, and since when it counts. */
  #totals: Sums = new Map()
  #birth = ''
  #round: Promise<void> = Promise.resolve()
  #ended: Promise<void> | undefined
  #cancelRound: () => void

  constructor({ link, name, clock, everyMs = 1_000, ttlS }: TallyTools) {
    this.#link = link
    this.#clock = clock
    this.#everyMs = everyMs
    this.#ttlS = ttlS
    this.#key = `${link?.prefix ?? ''}tally:${name}`
    this.#cancelRound = this.#roundLater()
  }

  /** Adds to a field, in memory and at once. Sums only grow, so what is not above 0 is dropped. */
  add(field: string, by: number): void {
    if (!(by > 0 && by <= Number.MAX_SAFE_INTEGER) || !this.#hasRoom(field)) this.dropped++
    else increase(this.#fresh, field, by)
  }

  /** Where what was added goes, by whomever, each once: what is above 0 only. One callback; the first delta has it all. */
  onDelta(callback: (deltas: ReadonlyMap<string, number>) => void): void {
    this.#onDelta = callback
  }

  /** Pushes what is left, if Redis answers, and ends. */
  close(): Promise<void> {
    return (this.#ended ??= this.#end())
  }

  async #end(): Promise<void> {
    this.#cancelRound()
    await this.#round
    // The first may be one that was sent before.
    if (this.#push) await this.#exchange()
    await this.#exchange()
  }

  #hasRoom(field: string): boolean {
    if (this.#fields.has(field)) return true
    if (this.#fields.size >= mostFields || field.length > longestField) return false
    this.#fields.add(field)
    return true
  }

  #roundLater(): () => void {
    return this.#clock.after(this.#everyMs, () => {
      this.#round = this.#runRound()
    })
  }

  async #runRound(): Promise<void> {
    await this.#exchange()
    if (!this.#ended) this.#cancelRound = this.#roundLater()
  }

  async #exchange(): Promise<void> {
    const answer = await this.#ask()
    if (answer) this.#take(answer)
    else this.#handOut()
  }

  async #ask(): Promise<Answer | undefined> {
    if (!this.#link?.isUp) return undefined
    this.#push ??= this.#nextPush()
    const { number = 0, sums = [] } = this.#push ?? {}
    const added = [...sums].flatMap(([field, by]) => [fieldMark + field, by])
    const values = [this.#replica, number, this.#ttlS, mostFields, mostReplicas, ...added]
    const reply = await ask(this.#link, async (client) => {
      return answerOf(await pushAll.run(client, this.#key, values))
    })
    return 'value' in reply ? reply.value : undefined
  }

  #nextPush(): Push | undefined {
    const handed = this.#handed
    const sums = new Map(this.#fresh)
    for (const [field, by] of handed) increase(sums, field, by)
    this.#fresh = new Map()
    this.#handed = new Map()
    return sums.size === 0 ? undefined : { number: ++this.#pushes, sums, handed }
  }

  /** Hands out what has grown, but for what was handed out before Redis knew of it. */
  #take({ birth, totals }: Answer): void {
    // From another beginning, all of it is new.
    const before = birth === this.#birth ? this.#totals : new Map<string, number>()
    const handed = this.#push?.handed
    this.#push = undefined
    this.#birth = birth
    this.#totals = totals
    const grown = [...totals].map(([field, total]) => {
      return [field, total - (before.get(field) ?? 0) - (handed?.get(field) ?? 0)] as const
    })
    this.#tell(new Map(grown.filter(([, by]) => by > 0)))
  }

  /** Hands out what was added here and has not been. */
  #handOut(): void {
    const deltas = this.#fresh
    for (const [field, by] of deltas) increase(this.#handed, field, by)
    this.#fresh = new Map()
    const told = new Map(deltas)
    if (this.#push) {
      for (const [field, by] of this.#push.sums) increase(told, field, by - (this.#push.handed.get(field) ?? 0))
      this.#push.handed = this.#push.sums
    }
    this.#tell(new Map([...told].filter(([, by]) => by > 0)))
  }

  #tell(deltas: ReadonlyMap<string, number>): void {
    if (deltas.size > 0) this.#onDelta(deltas)
  }
}

function increase(sums: Sums, field: string, by: number): void {
  sums.set(field, (sums.get(field) ?? 0) + by)
}

interface Answer {
  readonly birth: string
  readonly totals: Sums
}

/** Throws if it is none of ours. */
function answerOf(reply: unknown): Answer {
  if (!Array.isArray(reply)) throw new TypeError('an answer of another form')
  let birth = ''
  const totals: Sums = new Map()
  for (let i = 0; i + 1 < reply.length; i += 2) {
    const [field, value] = [String(reply[i]), String(reply[i + 1])]
    if (field === 'birth') birth = value
    else if (field.startsWith(fieldMark)) totals.set(field.slice(fieldMark.length), Number(value))
  }
  return { birth, totals }
}
