/** Sending shadows: what they cost the request that is being answered, what bounds them, and what never comes of them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { InferRequest } from '../src/core/call.ts'
import { isRefusal, refuse, type Refusal } from '../src/core/refusal.ts'
import type { Work } from '../src/core/run.ts'
import { isStrings, joinStrings, type Tensor } from '../src/core/tensor.ts'
import type { Target } from '../src/pipeline.ts'
import {
  Shadows,
  type Outcome,
  type ShadowClaim,
  type ShadowPair,
  type ShadowsOptions,
} from '../src/routing/shadows.ts'
import { StillClock } from './support/limits.ts'

const facts = { requestId: 'r-1', caller: 'alice', budgetMs: 500, slices: ['country=CH'] }
const outputs: readonly Tensor[] = [{ name: 'y', datatype: 'FP32', shape: [1], data: Float32Array.of(7) }]
const primary = { outputs }

function requestOf(inputs: readonly Tensor[] = [floats('x', [1, 2])]): InferRequest {
  return { id: undefined, inputs, rows: 3, key: 'k', wanted: [], timeoutMs: undefined, priority: undefined }
}

function floats(name: string, values: readonly number[]): Tensor {
  return { name, datatype: 'FP32', shape: [values.length], data: Float32Array.from(values) }
}

/** A lane that does what it is told to, once it is. */
class FakeLane {
  readonly runs: { readonly work: Work; readonly claim: ShadowClaim }[] = []
  readonly #settle: ((outcome: Outcome | Refusal) => void)[] = []
  readonly #reject: ((error: Error) => void)[] = []

  run(work: Work, claim: ShadowClaim): Promise<Outcome | Refusal> {
    this.runs.push({ work, claim })
    return new Promise((resolve, reject) => {
      this.#settle.push(resolve)
      this.#reject.push(reject)
    })
  }

  async settle(outcome: Outcome | Refusal): Promise<void> {
    this.#settle.shift()!(outcome)
    await turn()
  }

  async reject(): Promise<void> {
    this.#reject.shift()!(new Error('broken'))
    await turn()
  }
}

interface FakeTarget {
  readonly model: string
  readonly version: string
  readonly lane: Pick<FakeLane, 'run'>
}

function targetOf(version: string, lane: Pick<FakeLane, 'run'>): FakeTarget {
  return { model: 'm', version, lane }
}

/** All promises that are settled have told so. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function setup(options: Partial<ShadowsOptions<FakeTarget>> = {}) {
  const clock = new StillClock()
  const pairs: ShadowPair<FakeTarget>[] = []
  const drops: string[] = []
  const shadows = new Shadows<FakeTarget>({
    clock,
    onPair: (pair) => pairs.push(pair),
    onDropped: ({ version }, why) => drops.push(`${version} ${why}`),
    random: () => 0,
    ...options,
  })
  const lane = new FakeLane()
  return { clock, pairs, drops, shadows, lane, target: targetOf('2', lane) }
}

test('a shadow runs only after the answer was sent, at the lowest priority, with a deadline of its own', () => {
  const { clock, shadows, lane, target } = setup()
  shadows.tee(requestOf(), facts, [target], primary)
  assert.equal(lane.runs.length, 0)
  const now = clock.now()
  clock.stall(20)
  const [{ work, claim }] = lane.runs as [(typeof lane.runs)[0]]
  assert.deepEqual({ rows: work.rows, key: work.key }, { rows: 3, key: 'k' })
  const { requestId, caller, deadline, priority, gone } = claim
  assert.deepEqual(
    { requestId, caller, deadline, priority, gone },
    { requestId: 'r-1', caller: 'alice', deadline: now + 500, priority: 'shadow', gone: false },
  )
  claim.onGone(() => assert.fail('nobody hangs up'))
})

test('both outcomes are told together, once, and the place is free again', async () => {
  const { clock, shadows, lane, target, pairs, drops } = setup()
  shadows.tee(requestOf(), facts, [target], primary)
  clock.pass(0)
  assert.equal(shadows.inFlight, 1)
  assert.equal(shadows.bytes, 8)
  const done = { outputs: [floats('y', [8])], computeMs: 3 }
  await lane.settle(done)
  assert.equal(pairs.length, 1)
  const { target: told, request, primary: first, shadow } = pairs[0]!
  assert.equal(told, target)
  assert.deepEqual(request, { rows: 3, requestId: 'r-1', slices: ['country=CH'] })
  assert.equal(first, outputs)
  assert.equal(shadow, done)
  assert.deepEqual([shadows.inFlight, shadows.bytes, clock.timers], [0, 0, 0])
  clock.pass(10_000)
  assert.equal(pairs.length, 1)
  assert.deepEqual(drops, [])
})

test('a refusal of the primary is told as it is', async () => {
  const { clock, shadows, lane, target, pairs } = setup()
  const refusal = refuse('model_failed', 'no')
  shadows.tee(requestOf(), facts, [target], refusal)
  clock.pass(0)
  await lane.settle(primary)
  assert.equal(pairs[0]!.primary, refusal)
})

test('inputs are copied deeply, whatever becomes of the memory they were in', () => {
  const { clock, shadows, lane, target } = setup()
  const memory = new ArrayBuffer(64)
  const numbers = new Float32Array(memory, 8, 2)
  numbers.set([1, 2])
  const words = joinStrings([Buffer.from('ab'), Buffer.from(''), Buffer.from('c')])
  const inputs: Tensor[] = [
    { name: 'x', datatype: 'FP32', shape: [2], data: numbers },
    { name: 's', datatype: 'BYTES', shape: [3], data: words },
  ]
  shadows.tee(requestOf(inputs), facts, [target], primary)
  assert.equal(shadows.bytes, 8 + 16 + 3)
  numbers.fill(9)
  words.bytes.fill(0)
  words.offsets.fill(0)
  clock.pass(0)
  const [x, s] = lane.runs[0]!.work.inputs as [Tensor, Tensor]
  assert.deepEqual(x, { ...inputs[0], data: Float32Array.of(1, 2) })
  assert.equal((x.data as Float32Array).buffer.byteLength, 8)
  assert.ok(isStrings(s.data))
  assert.deepEqual([...s.data.offsets], [0, 2, 2, 3])
  assert.equal(Buffer.from(s.data.bytes).toString(), 'abc')
})

test('shadows of one request share one copy, which is let go with the last of them', async () => {
  const { clock, shadows, lane, drops } = setup({ mostBytes: 8 })
  const other = new FakeLane()
  shadows.tee(requestOf(), facts, [targetOf('2', lane), targetOf('3', other)], primary)
  clock.pass(0)
  assert.equal(lane.runs[0]!.work, other.runs[0]!.work)
  assert.equal(shadows.bytes, 8)
  await lane.settle(primary)
  assert.equal(shadows.bytes, 8)
  await other.settle(primary)
  assert.equal(shadows.bytes, 0)
  assert.deepEqual(drops, [])
})

/** A request whose inputs must not be copied. */
function untouchable(): InferRequest {
  const data = Float32Array.of(1, 2)
  data.slice = () => assert.fail('it was copied')
  return requestOf([{ name: 'x', datatype: 'FP32', shape: [2], data }])
}

test('when as many are in flight as may be, a shadow is dropped at once and nothing is copied', async () => {
  const { clock, shadows, lane, target, drops } = setup({ mostInFlight: 2 })
  for (let i = 0; i < 2; i++) shadows.tee(requestOf(), facts, [target], primary)
  assert.deepEqual(drops, [])
  shadows.tee(untouchable(), facts, [target], primary)
  assert.deepEqual(drops, ['2 busy'])
  clock.pass(0)
  assert.equal(lane.runs.length, 2)
  await lane.settle(primary)
  shadows.tee(requestOf(), facts, [target], primary)
  assert.deepEqual(drops, ['2 busy'])
})

test('when copies hold as much memory as they may, a shadow is dropped and nothing is copied', async () => {
  const { clock, shadows, lane, target, drops } = setup({ mostBytes: 15 })
  shadows.tee(requestOf(), facts, [target], primary)
  shadows.tee(untouchable(), facts, [target], primary)
  assert.deepEqual(drops, ['2 memory'])
  assert.equal(shadows.inFlight, 1)
  clock.pass(0)
  await lane.settle(primary)
  shadows.tee(requestOf(), facts, [target], primary)
  assert.deepEqual(drops, ['2 memory'])
})

test('without targets nothing is copied and nothing is held', () => {
  const { shadows, clock } = setup()
  shadows.tee(untouchable(), facts, [], primary)
  assert.deepEqual([shadows.inFlight, shadows.bytes, clock.timers], [0, 0, 0])
})

test('when only one of several finds room, chance says which', () => {
  const started = [0, 0.4, 0.99].map((draw) => {
    const { shadows, drops, lane } = setup({ mostInFlight: 1, random: () => draw })
    shadows.tee(
      requestOf(),
      facts,
      ['1', '2', '3'].map((version) => targetOf(version, lane)),
      primary,
    )
    return drops
  })
  assert.deepEqual(started, [
    ['2 busy', '3 busy'],
    ['3 busy', '1 busy'],
    ['1 busy', '2 busy'],
  ])
})

test('what a lane turns away, or never begins before its deadline, is dropped: it says nothing of the version', async () => {
  const { clock, shadows, lane, target, pairs, drops } = setup()
  for (const code of ['overloaded', 'not_ready', 'draining', 'abandoned', 'expired'] as const) {
    shadows.tee(requestOf(), facts, [target], primary)
    clock.pass(0)
    await lane.settle(refuse(code, 'no'))
  }
  assert.deepEqual(
    drops,
    Array.from({ length: 5 }, () => '2 refused'),
  )
  assert.deepEqual(pairs, [])
  assert.deepEqual([shadows.inFlight, shadows.bytes, clock.timers], [0, 0, 0])
})

test('a version that fails, or does not come to an end in time once it has begun, makes a pair', async () => {
  const { clock, shadows, lane, target, pairs, drops } = setup()
  for (const code of ['model_failed', 'internal', 'expired'] as const) {
    shadows.tee(requestOf(), facts, [target], primary)
    clock.pass(0)
    lane.runs.at(-1)!.claim.begin()
    await lane.settle(refuse(code, 'no'))
  }
  assert.deepEqual(codesOf(pairs), ['model_failed', 'internal', 'expired'])
  assert.deepEqual(drops, [])
})

function codesOf(pairs: readonly ShadowPair<FakeTarget>[]): (string | undefined)[] {
  return pairs.map(({ shadow }) => (isRefusal(shadow) ? shadow.code : undefined))
}

test('a run that never settles leaves its place after deadline and grace, and what comes later is not told', async () => {
  const { clock, shadows, lane, target, pairs, drops } = setup({ graceMs: 100 })
  shadows.tee(requestOf(), facts, [target], primary)
  clock.pass(599)
  assert.equal(shadows.inFlight, 1)
  clock.pass(1)
  assert.deepEqual([shadows.inFlight, shadows.bytes], [0, 0])
  assert.deepEqual(codesOf(pairs), ['expired'])
  await lane.settle(primary)
  assert.deepEqual([shadows.inFlight, shadows.bytes, pairs.length, drops.length], [0, 0, 1, 0])
})

test('a lane that throws or rejects, early or late, is a counted defect and reaches nobody', async (t) => {
  const unhandled: unknown[] = []
  const listen = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', listen)
  t.after(() => process.off('unhandledRejection', listen))
  const { clock, shadows, lane, target, pairs } = setup({ graceMs: 100 })
  const throwing = targetOf('3', { run: () => assert.fail('at once') })
  shadows.tee(requestOf(), facts, [throwing], primary)
  clock.pass(0)
  await turn()
  assert.deepEqual(codesOf(pairs), ['internal'])
  for (const ms of [0, 600]) {
    shadows.tee(requestOf(), facts, [target], primary)
    clock.pass(ms)
    await lane.reject()
  }
  assert.deepEqual(codesOf(pairs), ['internal', 'internal', 'expired'])
  assert.equal(shadows.defects, 3)
  assert.deepEqual([shadows.inFlight, shadows.bytes, clock.timers], [0, 0, 0])
  assert.deepEqual(unhandled, [])
})

test('a callback that throws harms neither the caller nor the counts', async () => {
  const fail = () => assert.fail('in a callback')
  const { clock, shadows, lane, target } = setup({ mostInFlight: 1, onPair: fail, onDropped: fail })
  shadows.tee(requestOf(), facts, [target, target], primary)
  clock.pass(0)
  await lane.settle(primary)
  assert.deepEqual([shadows.inFlight, shadows.bytes, shadows.defects], [0, 0, 2])
})

test('unless told otherwise 32 are in flight and 64 MiB are copied at most', () => {
  const { shadows, drops, target } = setup()
  for (let i = 0; i < 33; i++) shadows.tee(requestOf(), facts, [target], primary)
  assert.deepEqual(drops, ['2 busy'])
  const big = setup()
  // Only its length is looked at before it is copied.
  const data = { byteLength: 64 * 2 ** 20 + 1 } as Float32Array
  big.shadows.tee(requestOf([{ name: 'x', datatype: 'FP32', shape: [1], data }]), facts, [big.target], primary)
  assert.deepEqual(big.drops, ['2 memory'])
})

test('the targets of the gateway can be shadows', () => {
  const { clock } = setup()
  const ignored = () => {}
  // The compiler is the judge.
  const shadows = new Shadows<Target>({ clock, onPair: ignored, onDropped: ignored, random: () => 0 })
  assert.equal(shadows.inFlight, 0)
})
