/** Limits that a gateway counts for itself: what is let in, what is refused and how, and what it costs whom. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRefusal } from '../src/core/refusal.ts'
import { limitsOptions } from '../src/limits/options.ts'
import type { Permit } from '../src/limits/permit.ts'
import { drawFrom } from './support/draw.ts'
import { askerOf, burstOf, limitsWith, permitOf, refusalOf, StillClock, type Spent } from './support/limits.ts'

const alice = askerOf('alice', 'red')
const bob = askerOf('bob', 'red')
const carol = askerOf('carol', 'blue')

type Asker = typeof alice

/** How many of so many requests are let in. */
function admitted({ limits }: ReturnType<typeof limitsWith>, asks: Asker, count = 100, model = 'digits'): number {
  return Array.from({ length: count }, () => limits.admit(asks('standard', model))).filter((each) => !isRefusal(each))
    .length
}

/** Field values by name. */
function fieldsOf(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]))
}

test('in any time no more is let in than the burst and what comes back in that time', () => {
  const draw = drawFrom(1)
  for (let round = 0; round < 200; round++) {
    const [rate, burst] = [1 + draw(500), 1 + draw(50)]
    const clock = new StillClock()
    const { limits } = limitsWith([{ rate, burst, cost: 'row' }], { clock })
    const spent: Spent[] = []
    const idle = 1 + draw(40)
    for (let i = 0; i < 300; i++) {
      clock.pass(draw(10) === 0 ? draw(2_000) : draw(idle) / 2)
      const units = 1 + draw(burst)
      const permit = limits.admit(alice())
      if (!isRefusal(permit) && !(permit as Permit).charge(units, () => undefined))
        spent.push({ at: clock.now(), units })
    }
    const most = burstOf(spent, rate / 1_000)
    assert.ok(most <= burst + 1e-3, `${most} of ${burst}`)
    assert.ok(most >= Math.min(burst, 10) / 2, `only ${most} of ${burst}`)
  }
})

test('what was refused can be taken when the refusal said, and not before', () => {
  const clock = new StillClock()
  const { limits } = limitsWith([{ rate: 6, per: 'minute', burst: 3 }], { clock })
  for (let i = 0; i < 3; i++) permitOf(limits.admit(alice()))
  for (let i = 0; i < 5; i++) {
    assert.equal(refusalOf(limits.admit(alice())).retryAfterS, 10)
    clock.pass(9_999)
    assert.equal(refusalOf(limits.admit(alice())).retryAfterS, 1)
    clock.pass(1)
    permitOf(limits.admit(alice()))
  }
})

test('each combination of the values in `by` has a bucket of its own', () => {
  const cases: [by: string[], alice: number, alicesOther: number, bob: number, carol: number][] = [
    [[], 10, 0, 0, 0],
    [['tenant'], 10, 0, 0, 10],
    [['caller'], 10, 0, 10, 10],
    [['model'], 10, 10, 0, 0],
    [['route'], 10, 10, 0, 0],
    [['tenant', 'model'], 10, 10, 0, 10],
  ]
  for (const [by, ...expected] of cases) {
    const made = limitsWith([{ by, rate: 10 }])
    const found = [
      admitted(made, alice),
      admitted(made, alice, 100, 'other'),
      admitted(made, bob),
      admitted(made, carol),
    ]
    assert.deepEqual(found, expected, by.join())
  }
})

test('the same caller has the same bucket when it comes as another object', () => {
  const made = limitsWith([{ by: ['caller'], rate: 10 }])
  assert.equal(admitted(made, alice), 10)
  assert.equal(admitted(made, askerOf('alice', 'red')), 0)
})

test('values that look alike when they are joined are kept apart', () => {
  const made = limitsWith([{ by: ['tenant', 'caller'], rate: 10 }])
  for (const [name, tenant] of [
    ['b","c', 'a'],
    ['c', 'a","b'],
    ['bc', 'a'],
    ['c', 'ab'],
    ['', 'abc'],
  ] as const) {
    assert.equal(admitted(made, askerOf(name, tenant)), 10, `${tenant} ${name}`)
  }
})

test('a rule holds for those in `where`, and costs others nothing', () => {
  const made = limitsWith([{ rate: 10, where: { tenants: ['r*'], models: ['digits'], callers: ['alice'] } }])
  assert.equal(admitted(made, alice), 10)
  assert.equal(admitted(made, alice, 100, 'other'), 100)
  assert.equal(admitted(made, bob), 100)
  assert.equal(admitted(made, carol), 100)
  const permit = permitOf(made.limits.admit(carol()))
  assert.equal(permit, made.limits.admit(bob()))
  assert.deepEqual([permit.charge(1, () => 1), permit.fields()], [undefined, []])
})

test('the tightest of several limits decides, and a refusal takes nothing of the others', () => {
  const clock = new StillClock()
  const made = limitsWith(
    [
      { name: 'all', rate: 1, per: 'hour', burst: 20 },
      { name: 'one', rate: 1, burst: 5, by: ['caller'] },
      { name: 'busy', concurrency: 16, by: ['tenant'] },
    ],
    { clock },
  )
  assert.equal(admitted(made, alice), 5)
  assert.match(refusalOf(made.limits.admit(alice())).message, /"one"/)
  assert.equal(admitted(made, bob), 5)
  assert.equal(admitted(made, carol), 5)
  assert.equal(admitted(made, askerOf('dave', 'red')), 5)
  assert.match(refusalOf(made.limits.admit(askerOf('erin', 'red')())).message, /"all"/)
  assert.deepEqual([...made.counts.refused.keys()].toSorted(), ['all', 'one'])
})

test('a cap counts requests in flight, and each gives its place back once', () => {
  const made = limitsWith([{ concurrency: 3, by: ['caller'] }])
  const permits = [1, 2, 3].map(() => permitOf(made.limits.admit(alice())))
  const refusal = refusalOf(made.limits.admit(alice()))
  assert.deepEqual([refusal.status, refusal.retryAfterS], [429, 1])
  permitOf(made.limits.admit(bob()))
  permits[0]!.release()
  permits[0]!.release(5)
  permitOf(made.limits.admit(alice()))
  refusalOf(made.limits.admit(alice()))
})

test('a request that a bucket refuses holds no place', () => {
  const clock = new StillClock()
  const made = limitsWith(
    [
      { name: 'busy', concurrency: 2 },
      { name: 'rate', rate: 1 },
    ],
    { clock },
  )
  permitOf(made.limits.admit(alice())).release()
  for (let i = 0; i < 5; i++) assert.match(refusalOf(made.limits.admit(alice())).message, /"rate"/)
  for (let i = 0; i < 2; i++) {
    clock.pass(1_000)
    permitOf(made.limits.admit(alice()))
  }
  clock.pass(1_000)
  assert.match(refusalOf(made.limits.admit(alice())).message, /"busy"/)
})

test('rows are taken once they are known: all buckets give them, or none does', () => {
  const made = limitsWith([
    { name: 'wide', cost: 'row', rate: 100 },
    { name: 'narrow', cost: 'row', rate: 30, by: ['caller'] },
  ])
  const charge = (asks: Asker, rows: number) => permitOf(made.limits.admit(asks())).charge(rows, () => undefined)
  assert.equal(charge(alice, 20), undefined)
  assert.match(refusalOf(charge(alice, 20)).message, /"narrow"/)
  assert.equal(charge(alice, 10), undefined)
  // The refusal took none of the wide one: 70 are left of it.
  assert.equal(charge(bob, 30), undefined)
  assert.equal(charge(carol, 30), undefined)
  assert.match(refusalOf(charge(askerOf('dave'), 11)).message, /"wide"/)
  assert.equal(charge(askerOf('dave'), 10), undefined)
  // From the head it is seen that there is nothing left.
  assert.match(refusalOf(made.limits.admit(askerOf('erin')())).message, /"wide"/)
})

test('a request for more than the burst is refused for good, and told the most', () => {
  const { limits } = limitsWith([{ name: 'rows', cost: 'row', rate: 100, burst: 40 }])
  const refusal = refusalOf(permitOf(limits.admit(alice())).charge(41, () => undefined))
  assert.deepEqual([refusal.status, refusal.code], [429, 'rate_limited'])
  assert.match(refusal.message, /"rows".* 40 rows/)
  assert.ok(refusal.retryAfterS === undefined || refusal.retryAfterS === Infinity)
  assert.equal(
    permitOf(limits.admit(alice())).charge(40, () => undefined),
    undefined,
  )
})

test('compute is charged as predicted and set right by what it took', () => {
  const left = (permit: Permit) => Number(/r=(\d+)/.exec(fieldsOf(permit.fields())['ratelimit']!)![1])
  for (const [predicted, took, expected] of [
    [30, 30, 70],
    [30, 10, 90],
    [30, 60, 40],
    [30, undefined, 100],
    [undefined, 25, 75],
    [undefined, undefined, 100],
  ] as const) {
    const { limits } = limitsWith([{ cost: 'computeMs', rate: 100 }])
    const permit = permitOf(limits.admit(alice()))
    assert.equal(
      permit.charge(1, () => predicted),
      undefined,
    )
    assert.equal(left(permit), 100 - (predicted ?? 0))
    permit.release(took)
    assert.equal(left(permit), expected, `${predicted} ${took}`)
  }
})

test('what a run took beyond all there was is owed, and nobody is let in until it is paid back', () => {
  const clock = new StillClock()
  const { limits } = limitsWith([{ cost: 'computeMs', rate: 100 }], { clock })
  const permit = permitOf(limits.admit(alice()))
  assert.equal(
    permit.charge(1, () => 50),
    undefined,
  )
  permit.release(300)
  assert.equal(refusalOf(limits.admit(alice())).retryAfterS, 3)
  clock.pass(1_900)
  refusalOf(limits.admit(alice()))
  clock.pass(200)
  permitOf(limits.admit(alice()))
})

test('RateLimit fields tell the quota that comes in a window, the tightest limit, and when there is more', () => {
  const clock = new StillClock()
  const cases: [rule: object, policy: string, first: string, refused: string | undefined][] = [
    [{ rate: 100, burst: 200 }, 'q=200;w=2', 'r=199;t=1', 'r=0;t=1'],
    [{ rate: 60, per: 'minute', burst: 1 }, 'q=1;w=1', 'r=0;t=1', 'r=0;t=1'],
    [{ rate: 100, burst: 10 }, 'q=100;w=1', 'r=9;t=1', 'r=0;t=1'],
    [{ rate: 2, per: 'hour' }, 'q=2;w=3600', 'r=1;t=1800', 'r=0;t=1800'],
    [{ rate: 5, cost: 'row' }, 'q=5;w=1;qu="rows"', 'r=5;t=0', undefined],
    [{ rate: 5, cost: 'computeMs' }, 'q=5;w=1;qu="compute-milliseconds"', 'r=5;t=0', undefined],
    [{ concurrency: 4 }, 'q=4;qu="concurrent-requests"', 'r=3', 'r=0'],
  ]
  for (const [rule, policy, first, refused] of cases) {
    const { limits } = limitsWith([{ name: 'mine', ...rule }], { clock })
    const expected = { 'ratelimit-policy': `"mine";${policy}`, ratelimit: `"mine";${first}` }
    assert.deepEqual(fieldsOf(permitOf(limits.admit(alice())).fields()), expected)
    if (refused === undefined) continue
    const refusal = Array.from({ length: 250 }, () => limits.admit(alice())).find(isRefusal)
    assert.equal(fieldsOf(refusal!.head)['ratelimit'], `"mine";${refused}`)
  }
  const { limits } = limitsWith([{ name: 'a', rate: 100 }, { name: 'b', rate: 50, burst: 80 }, { concurrency: 9 }], {
    clock,
  })
  assert.deepEqual(fieldsOf(permitOf(limits.admit(alice())).fields()), {
    'ratelimit-policy': '"a";q=100;w=1, "b";q=100;w=2, "limit-2";q=9;qu="concurrent-requests"',
    ratelimit: '"limit-2";r=8',
  })
})

test('a configuration that makes no sense is told what to change', () => {
  const good = { name: 'a', by: [], rate: 1 }
  const cases: [rule: object, message: RegExp][] = [
    [{ name: 'a', by: [] }, /expected `rate` or `concurrency`/],
    [{ ...good, concurrency: 1 }, /make two rules/],
    [{ name: 'a', by: [], concurrency: 1, burst: 3 }, /goes with `rate`/],
    [{ name: 'a', by: [], concurrency: 1, store: 'redis' }, /in each gateway/],
    [{ name: 'a', by: [], concurrency: 1, cost: 'row' }, /goes with `rate`/],
    [{ ...good, exact: true }, /set `store: redis`/],
    [{ ...good, by: ['tenant', 'tenant'] }, /each word once/],
    [{ ...good, name: 'no spaces' }, /letters, digits and -/],
    [{ ...good, per: 'day', rate: 1, burst: 400 }, /longer than a year/],
    [{ ...good, burst: 0.5 }, />=1/],
  ]
  for (const [rule, message] of cases) {
    const { error } = limitsOptions.safeParse({ rules: [rule] })
    assert.match(error?.message ?? 'it was taken', message)
  }
  assert.match(limitsOptions.safeParse({ rules: [good, good] }).error!.message, /a `name` of its own/)
})
