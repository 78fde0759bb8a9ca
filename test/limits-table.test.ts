/** The parts of the limits that are nothing but arithmetic: the table of buckets, overload, and the breaker of Redis. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refusals, isRefusal } from '../src/core/refusal.ts'
import { Limits } from '../src/limits/limits.ts'
import { limitsOptions } from '../src/limits/options.ts'
import { LagMeter, Overload, overloadOptions } from '../src/limits/overload.ts'
import { BucketTable } from '../src/limits/table.ts'
import { Breaker } from '../src/redis/breaker.ts'
import { LimitCounts } from '../src/telemetry/limit-counts.ts'
import { drawFrom } from './support/draw.ts'
import { askerOf, StillClock } from './support/limits.ts'

const word = 2 ** 32

function fingerprints(seed: number, count: number): [low: number, high: number][] {
  const draw = drawFrom(seed)
  return Array.from({ length: count }, () => [draw(word) | 0, draw(word) | 0])
}

test('the table keeps as many buckets as it has keys for, in memory that grows with them and is bounded', () => {
  const keys = fingerprints(1, 100_000)
  const table = new BucketTable(keys.length)
  assert.equal(table.bytes, 0)
  for (const [i, [low, high]] of keys.entries()) {
    table.set(low, high, 1_000 + i, 1)
    if (i === 999) assert.ok(table.bytes < 200_000, `${table.bytes}`)
  }
  assert.ok(table.bytes <= 64 * keys.length, `${table.bytes}`)
  const lost = keys.filter(([low, high], i) => table.fullAt(low, high) !== 1_000 + i)
  assert.equal(lost.length, table.replaced)
  assert.ok(lost.length < 20, `${lost.length}`)
  assert.equal(table.used, keys.length - lost.length)
})

test('a bucket that is full again leaves its place to others', () => {
  const table = new BucketTable(10_000)
  for (let round = 0; round < 20; round++) {
    for (const [low, high] of fingerprints(round, 10_000)) table.set(low, high, round + 1, round)
  }
  assert.ok(table.replaced < 50, `${table.replaced}`)
  assert.ok(table.bytes <= 64 * 10_000 * 2)
})

test('when all places are taken, the bucket nearest to full is forgotten and counted', () => {
  const table = new BucketTable(1)
  for (let i = 1; i <= 40; i++) table.set(i, 0, 1_000 - i, 1)
  assert.equal(table.replaced, 24)
  // Each new one is nearer to full than all before, so it is the next to go.
  for (let i = 1; i <= 15; i++) assert.equal(table.fullAt(i, 0), 1_000 - i)
  assert.equal(table.fullAt(40, 0), 960)
  for (let i = 16; i < 40; i++) assert.equal(table.fullAt(i, 0), 0)
})

test('a table in random use says of each bucket what a map says, but for those it has forgotten', () => {
  const draw = drawFrom(7)
  const table = new BucketTable(2_000)
  const map = new Map<string, number>()
  const keys = fingerprints(8, 2_000)
  for (let now = 1; now < 60_000; now++) {
    const [low, high] = keys[draw(keys.length)]!
    const at = now + draw(3_000)
    table.set(low, high, at, now)
    map.set(`${low} ${high}`, at)
    const [otherLow, otherHigh] = keys[draw(keys.length)]!
    const [found, expected] = [table.fullAt(otherLow, otherHigh), map.get(`${otherLow} ${otherHigh}`) ?? 0]
    if (table.replaced === 0) assert.equal(Math.max(found, now), Math.max(expected, now))
  }
  assert.equal(table.replaced, 0)
})

/** Which classes are refused after so many observations of a lag. */
function shedAfter(overload: Overload, lag: number, times: number): string {
  for (let i = 0; i < times; i++) overload.observe(lag)
  return (['interactive', 'standard', 'bulk', 'shadow'] as const).filter((each) => overload.sheds(each)).join()
}

test('an event loop that stays late has bulk refused first and interactive last', () => {
  const made = () => new Overload(overloadOptions.parse({}))
  assert.equal(shedAfter(made(), 200, 100), '')
  assert.equal(shedAfter(made(), 300, 100), 'bulk,shadow')
  assert.equal(shedAfter(made(), 600, 100), 'standard,bulk,shadow')
  assert.equal(shedAfter(made(), 1_100, 100), 'interactive,standard,bulk,shadow')
})

test('one long stall refuses nobody for long, however long it was', () => {
  assert.equal(shedAfter(new Overload(overloadOptions.parse({})), 1_000, 1), '')
  const overload = new Overload(overloadOptions.parse({}))
  overload.observe(8 * 3_600_000)
  assert.equal(shedAfter(overload, 0, 10), '')
})

test('who is refused is let in again only when the lag is half of what it was refused for', () => {
  const overload = new Overload(overloadOptions.parse({ bulkMs: 100, standardMs: 200, interactiveMs: 400 }))
  assert.equal(shedAfter(overload, 220, 100), 'standard,bulk,shadow')
  assert.equal(shedAfter(overload, 120, 100), 'standard,bulk,shadow')
  assert.equal(shedAfter(overload, 90, 100), 'bulk,shadow')
  assert.equal(shedAfter(overload, 60, 100), 'bulk,shadow')
  assert.equal(shedAfter(overload, 40, 100), '')
  assert.equal(shedAfter(overload, 90, 100), '')
})

test('the lag is measured while requests come, and not for ever', () => {
  const clock = new StillClock()
  const seen: number[] = []
  const meter = new LagMeter(clock, (late) => seen.push(late))
  assert.equal(clock.timers, 0)
  meter.use()
  meter.use()
  assert.equal(clock.timers, 1)
  for (const late of [0, 7, 300]) clock.stall(20 + late)
  assert.deepEqual(seen, [0, 7, 300])
  for (let i = 0; i < 100; i++) clock.stall(20)
  assert.equal(clock.timers, 0)
  meter.use()
  assert.equal(clock.timers, 1)
  meter.close()
  assert.equal(clock.timers, 0)
})

test('limits refuse by class when the event loop is late, whether there are rules or not', () => {
  const clock = new StillClock()
  const counts = new LimitCounts()
  const limits = new Limits(limitsOptions.parse({}), { clock, counts })
  const asks = askerOf('alice')
  for (let i = 0; i < 100; i++) {
    void limits.admit(asks('interactive'))
    clock.stall(20 + 700)
  }
  assert.equal(isRefusal(limits.admit(asks('interactive'))), false)
  for (const priority of ['standard', 'bulk'] as const) {
    const refusal = limits.admit(asks(priority))
    assert.ok(isRefusal(refusal))
    assert.deepEqual([refusal.code, refusals[refusal.code].status], ['overloaded', 503])
  }
  assert.deepEqual(counts.shed, { interactive: 0, standard: 1, bulk: 1, shadow: 0 })
  limits.close()
  assert.equal(clock.timers, 0)
})

test('thresholds of overload are in the order of the classes', () => {
  assert.match(overloadOptions.safeParse({ bulkMs: 600 }).error!.message, /who can wait is refused first/)
})

test('the breaker opens after five failures in a row, and tries one question at a time after pauses that double', () => {
  const breaker = new Breaker()
  const fail = (now: number) => {
    assert.ok(breaker.allows(now))
    breaker.begin()
    breaker.fail(now)
  }
  for (let i = 0; i < 4; i++) fail(0)
  breaker.succeed()
  for (let i = 0; i < 5; i++) fail(0)
  let now = 0
  for (const pauseMs of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    assert.equal(breaker.allows(now + pauseMs - 1), false)
    now += pauseMs
    assert.ok(breaker.allows(now))
    breaker.begin()
    assert.equal(breaker.allows(now), false)
    breaker.fail(now)
  }
  now += 30_000
  breaker.begin()
  breaker.succeed()
  for (let i = 0; i < 5; i++) fail(now)
  assert.deepEqual([breaker.allows(now + 999), breaker.allows(now + 1_000)], [false, true])
})

test('failures of what was asked before the breaker opened do not make its pause longer', () => {
  const breaker = new Breaker()
  for (let i = 0; i < 50; i++) breaker.begin()
  for (let i = 0; i < 50; i++) breaker.fail(i)
  assert.deepEqual([breaker.allows(1_003), breaker.allows(1_004)], [false, true])
})
