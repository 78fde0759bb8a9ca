/** What limits cost a request: counted in the gateway among a million buckets, drawn ahead from Redis, or asked of it. */
import { systemClock } from '../src/core/clock.ts'
import type { Caller } from '../src/core/caller.ts'
import { isRefusal } from '../src/core/refusal.ts'
import { Limits } from '../src/limits/limits.ts'
import { limitsOptions } from '../src/limits/options.ts'
import { redisOptions } from '../src/redis/options.ts'
import { Redis } from '../src/redis/redis.ts'
import { LimitCounts } from '../src/telemetry/limit-counts.ts'
import { seeded } from '../test/support/draw.ts'
import { RedisServer } from '../test/support/redis.ts'
import type { Bench, BenchOptions, Report } from './support/bench.ts'
import { medianOf, round, roundSpread, showSpread, spreadOf, type Spread } from './support/interleave.ts'

const maxLocalUs = 5
const maxLeasedUs = 1
const minExactPerS = 12_000
const callerCount = 250_000
/** As many as a gateway knows tokens of. */
const knownCount = 10_000
const busyCount = 100
const atOnce = 128

export const limits: Bench = {
  name: 'limits',
  question:
    'time that four limits take of a request: local ones with a million live buckets, leased and exact ones of Redis',
  measure,
}

interface Figures {
  /** Microseconds for the decision and what ends it, for callers that are known and for new ones. */
  readonly localUs: Spread
  readonly freshUs: Spread
  readonly liveKeys: number
  readonly forgotten: number
  readonly bytesPerKey: number
  /** Microseconds, at the median of requests; the mean has the draws in it too. */
  readonly fewLocalUs: number
  readonly leasedUs: number
  readonly leasedMoreUs: number
  readonly leasedMeanUs: number
  readonly exactPerS: Spread
  readonly scriptsPerRequest: number
}

async function measure({ quick, say }: BenchOptions): Promise<Report> {
  const slices = quick ? 5 : 15
  const local = measureLocal(slices)
  say(`  local: ${showSpread(local.localUs)} µs; new callers ${showSpread(local.freshUs)} µs`)
  say(`  ${local.liveKeys} live buckets, ${local.forgotten} forgotten, ${local.bytesPerKey.toFixed(1)} bytes each`)
  await using stack = new AsyncDisposableStack()
  const server = await RedisServer.start({ after: (end) => stack.defer(end) })
  const leased = await measureLeased(server, slices)
  say(
    `  leased: ${leased.leasedUs.toFixed(2)} µs over ${leased.fewLocalUs.toFixed(2)}, mean ${leased.leasedMeanUs.toFixed(2)}`,
  )
  const exact = await measureExact(server, slices)
  say(`  exact: ${showSpread(exact.exactPerS)} decisions a second, ${exact.scriptsPerRequest.toFixed(2)} scripts each`)
  return report({ ...local, ...leased, ...exact })
}

const fours = [['caller'], ['tenant'], ['caller', 'model'], ['tenant', 'route']]

function limitsOf(rule: object, redis?: Redis): { made: Limits; counts: LimitCounts } {
  const rules = fours.map((by, i) => ({ name: `limit-${i}`, by, ...rule }))
  const counts = new LimitCounts()
  const made = new Limits(limitsOptions.parse({ rules }), { clock: systemClock, redis, counts })
  return { made, counts }
}

function callerOf(number: number): Caller {
  const name = `https://login.example.com/caller-${number}`
  const rest = { subject: name, scopes: [], claims: {}, spiffe: undefined, profile: undefined }
  return { name, method: 'jwt', tenant: `tenant-${number}`, ...rest }
}

const asked = { route: 'digits', model: 'digits', priority: 'standard' } as const

type Outcome = ReturnType<Limits['admit']>

function settle(outcome: Outcome): void {
  if (outcome instanceof Promise || isRefusal(outcome)) throw new Error('it was not let in at once')
  outcome.release()
}

function usOf(count: number, run: () => void): number {
  const begin = performance.now()
  for (let i = 0; i < count; i++) run()
  return ((performance.now() - begin) * 1_000) / count
}

function measureLocal(slices: number): Pick<Figures, 'localUs' | 'freshUs' | 'liveKeys' | 'forgotten' | 'bytesPerKey'> {
  // So slow that whatever was asked for once is not full again for an hour.
  const before = process.memoryUsage().arrayBuffers
  const { made, counts } = limitsOf({ rate: 10_000, per: 'day', burst: 1_000_000 })
  for (let i = 0; i < callerCount; i++) settle(made.admit({ caller: callerOf(i), ...asked }))
  const bytes = process.memoryUsage().arrayBuffers - before
  const known = Array.from({ length: knownCount }, (_, i) => callerOf(i * Math.floor(callerCount / knownCount)))
  const random = seeded(1)
  const draw = (below: number) => Math.floor(random() * below)
  const local = () => settle(made.admit({ caller: known[draw(knownCount)]!, ...asked }))
  const fresh = () => settle(made.admit({ caller: callerOf(draw(callerCount)), ...asked }))
  usOf(200_000, local)
  usOf(50_000, fresh)
  const figures = {
    localUs: spreadOf(Array.from({ length: slices }, () => usOf(200_000, local))),
    freshUs: spreadOf(Array.from({ length: slices }, () => usOf(20_000, fresh))),
    liveKeys: counts.keys(),
    forgotten: counts.replaced(),
    bytesPerKey: bytes / counts.keys(),
  }
  made.close()
  return figures
}

async function connect({ url }: RedisServer): Promise<Redis> {
  const redis = await Redis.open(redisOptions.parse({ url, budgetMs: 1_000 }), {
    clock: systemClock,
    onChange: () => {},
  })
  if (!(redis instanceof Redis)) throw new Error(redis.problem)
  while (!redis.isUp) await turn()
  return redis
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Of groups of requests, as a gateway takes them in a turn of its event loop. */
async function groupsOf(made: Limits, callers: readonly Caller[], forMs: number): Promise<number[]> {
  const random = seeded(2)
  const groups: number[] = []
  for (const endAt = performance.now() + forMs; performance.now() < endAt;) {
    let waited: Exclude<Outcome, Promise<unknown>>[] = []
    const waiting: Promise<unknown>[] = []
    groups.push(
      usOf(50, () => {
        const outcome = made.admit({ caller: callers[Math.floor(random() * callers.length)]!, ...asked })
        if (outcome instanceof Promise) waiting.push(outcome)
        else waited.push(outcome)
      }),
    )
    waited = waited.concat((await Promise.all(waiting)) as never)
    for (const outcome of waited) settle(outcome)
    await turn()
  }
  return groups
}

async function measureLeased(
  server: RedisServer,
  slices: number,
): Promise<Pick<Figures, 'fewLocalUs' | 'leasedUs' | 'leasedMoreUs' | 'leasedMeanUs'>> {
  const rule = { rate: 1e6, burst: 1e6 }
  const redis = await connect(server)
  const local = limitsOf(rule).made
  const leased = limitsOf({ ...rule, store: 'redis' }, redis).made
  const callers = Array.from({ length: busyCount }, (_, i) => callerOf(i))
  const found: { local: number[]; leased: number[] }[] = []
  for (let slice = -2; slice < slices; slice++) {
    const pair = { local: await groupsOf(local, callers, 300), leased: await groupsOf(leased, callers, 300) }
    if (slice >= 0) found.push(pair)
  }
  leased.close()
  local.close()
  await redis.close()
  return {
    fewLocalUs: medianOf(found.map((pair) => medianOf(pair.local))),
    leasedUs: medianOf(found.map((pair) => medianOf(pair.leased))),
    leasedMoreUs: medianOf(found.map((pair) => medianOf(pair.leased) - medianOf(pair.local))),
    leasedMeanUs: medianOf(found.map((pair) => pair.leased.reduce((sum, us) => sum + us, 0) / pair.leased.length)),
  }
}

async function measureExact(
  server: RedisServer,
  slices: number,
): Promise<Pick<Figures, 'exactPerS' | 'scriptsPerRequest'>> {
  const redis = await connect(server)
  const { made, counts } = limitsOf({ rate: 1e6, burst: 1e6, store: 'redis', exact: true }, redis)
  const callers = Array.from({ length: knownCount }, (_, i) => callerOf(i))
  let [decided, next] = [0, 0]
  const loop = async (endAt: number) => {
    while (performance.now() < endAt) {
      const outcome = await made.admit({ caller: callers[next++ % knownCount]!, ...asked })
      if (isRefusal(outcome)) throw new Error('it was refused')
      outcome.release()
      decided++
    }
  }
  const slice = async () => {
    decided = 0
    const [begin, scripts] = [performance.now(), await scriptsRun(server)]
    await Promise.all(Array.from({ length: atOnce }, () => loop(begin + 500)))
    const perS = (decided * 1_000) / (performance.now() - begin)
    return { perS, scripts: ((await scriptsRun(server)) - scripts) / decided }
  }
  await slice()
  const found: Awaited<ReturnType<typeof slice>>[] = []
  for (let i = 0; i < slices; i++) found.push(await slice())
  if (counts.missed.size > 0) throw new Error('Redis did not answer in time')
  made.close()
  await redis.close()
  return {
    exactPerS: spreadOf(found.map(({ perS }) => perS)),
    scriptsPerRequest: medianOf(found.map(({ scripts }) => scripts)),
  }
}

async function scriptsRun(server: RedisServer): Promise<number> {
  const stats = String(await server.command('INFO', 'commandstats'))
  return [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
}

function report(figures: Figures): Report {
  const { localUs, freshUs, liveKeys, forgotten, bytesPerKey, exactPerS, scriptsPerRequest } = figures
  const { fewLocalUs, leasedUs, leasedMoreUs, leasedMeanUs } = figures
  return {
    figures: {
      localUs: roundSpread(localUs),
      freshUs: roundSpread(freshUs),
      liveKeys,
      forgotten,
      bytesPerKey: round(bytesPerKey, 1),
      fewLocalUs: round(fewLocalUs, 2),
      leasedUs: round(leasedUs, 2),
      leasedMoreUs: round(leasedMoreUs, 2),
      leasedMeanUs: round(leasedMeanUs, 2),
      exactPerS: roundSpread(exactPerS),
      scriptsPerRequest: round(scriptsPerRequest, 2),
    },
    targets: {
      localUs: `<= ${maxLocalUs}`,
      leasedMoreUs: `<= ${maxLeasedUs}`,
      exactPerS: `>= ${minExactPerS}`,
      scriptsPerRequest: '1',
    },
    pass:
      localUs.median <= maxLocalUs &&
      leasedMoreUs <= maxLeasedUs &&
      exactPerS.median >= minExactPerS &&
      round(scriptsPerRequest, 2) === 1,
    table: {
      head: ['four limits', 'measured'],
      rows: [
        [`local, ${liveKeys} live buckets, a caller that is known: µs`, showSpread(localUs)],
        ['the same, a caller that is new', showSpread(freshUs)],
        [`memory of a bucket, of which ${forgotten} were forgotten: bytes`, bytesPerKey.toFixed(1)],
        [`local, ${busyCount} callers, at the median: µs`, fewLocalUs.toFixed(2)],
        ['leased, the same', leasedUs.toFixed(2)],
        ['leased, mean, with the draws', leasedMeanUs.toFixed(2)],
        [`exact, ${atOnce} at once: decisions a second`, showSpread(exactPerS)],
        ['exact: scripts that Redis runs for a request', scriptsPerRequest.toFixed(2)],
      ],
    },
    notes: [
      'A decision is `admit` and `release`. The four limits are by caller, by tenant, by caller and model, by tenant and route;' +
        ' each caller has a tenant of its own. Leased and exact ones are in a Redis on the same machine, over a Unix socket, which has' +
        ' its share of the two cores.',
    ],
  }
}
