/** What outlives a restart, a kill and a state folder that cannot be written: edits by hand, steps, evidence and latches. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import {
  ask,
  askMany,
  bad,
  canaryWith,
  edit,
  experimentOf,
  good,
  onTrial,
  phaseOf,
  quickStep,
  serveCanary,
  splitOf,
  startRemembering,
  type Remembering,
} from './support/canary.ts'
import { until } from './support/client.ts'
import type { TestGateway } from './support/gateway.ts'

const longStep = { share: 0.5, holdS: 600, minRequests: 1, below: 'off' }
const ramping = canaryWith({ steps: [longStep] })
const steady = canaryWith({})

const start = (t: TestContext, settings: object, before?: string) =>
  startRemembering(t, { store: onTrial, settings, ...(before !== undefined && { before }) })

/** Nothing can be written or read there any more, not even by root. */
async function breakState({ folder }: Remembering): Promise<void> {
  const state = join(folder, 'state')
  await until('there is a file in its place', async () => {
    await rm(state, { recursive: true, force: true })
    // The gateway may just have made it again.
    return writeFile(state, 'no folder', { flag: 'wx' }).then(
      () => true,
      () => false,
    )
  })
}

const weightsOf = async (gateway: Pick<TestGateway, 'adminUrl'>) =>
  (await splitOf(gateway)).arms.map(({ weight }: any) => Math.round(weight))
/** All that an edit may change, but for the number that goes up with each. */
async function standing(gateway: Remembering) {
  const { arms, setByHand } = await splitOf(gateway)
  const { generation: _, waitsFor: _left, ...report } = await experimentOf(gateway)
  return { arms, setByHand, report }
}
const fail = (gateway: Pick<TestGateway, 'url' | 'adminUrl'>) =>
  askMany(gateway, bad, 500, async () => (await phaseOf(gateway)) === 'rolled-back')

suite('over a restart', { concurrency: 3 }, () => {
  test('an edit is written down before it is made, and outlives a restart until the split in the file changes', async (t) => {
    const first = await start(t, steady)
    const { generation } = await splitOf(first)
    await edit(first, { weights: { stable: 30, canary: 70 } })
    const [line] = await first.audited()
    assert.deepEqual([line.who, line.what, line.after], ['local', 'split.m', { weights: { stable: 30, canary: 70 } }])
    assert.deepEqual(
      line.before.map(({ arm, weight }: any) => [arm, weight]),
      [
        ['stable', 80],
        ['canary', 20],
      ],
    )
    await first.stop()
    const again = await start(t, steady, first.folder)
    const kept = await splitOf(again)
    assert.deepEqual([await weightsOf(again), kept.setByHand], [[30, 70], { stable: 30, canary: 70 }])
    assert.deepEqual(
      kept.history.map(({ who, what }: any) => [who, what]),
      [['local', 'weights {"stable":30,"canary":70}']],
    )
    assert.equal(kept.generation, generation + 1)
    await again.stop()
    const other = await start(t, canaryWith({}, {}, [60, 40]), first.folder)
    assert.deepEqual([await weightsOf(other), (await splitOf(other)).setByHand], [[60, 40], null])
    await other.stop()
    const back = await start(t, steady, first.folder)
    assert.deepEqual(await weightsOf(back), [30, 70], 'it was an edit of this split')
  })

  test('weights that were set can be taken back, once', async (t) => {
    const gateway = await start(t, steady)
    assert.equal((await edit(gateway, { reset: true })).status, 409)
    await edit(gateway, { weights: { canary: 5 } })
    const { status, json } = await edit(gateway, { reset: true })
    assert.deepEqual([status, json.split.setByHand, await weightsOf(gateway)], [200, null, [80, 20]])
    assert.equal((await edit(gateway, { reset: true })).status, 409)
    assert.deepEqual(
      (await gateway.audited()).map(({ after }) => after.reset ?? after.weights.canary),
      [5, true],
    )
  })

  test('what cannot be written down is not done', async (t) => {
    const gateway = await start(t, ramping)
    await mkdir(join(gateway.folder, 'audit.jsonl'))
    const before = await splitOf(gateway)
    for (const body of [{ weights: { canary: 5 } }, { action: 'rollback' }, { action: 'promote' }]) {
      const { status, json } = await edit(gateway, body)
      assert.deepEqual([status, json.code], [503, 'not_changed'])
      assert.match(json.error, /^nothing is changed, because `admin\.auditFile` cannot be written \(EISDIR\)/)
    }
    assert.deepEqual(await splitOf(gateway), before)
    assert.equal((await edit(gateway, { action: 'pause', dryRun: true })).status, 200)
  })

  test('what cannot be remembered is not in force, and that is written down too', async (t) => {
    const gateway = await start(t, ramping)
    await askMany(gateway, good, 20)
    await breakState(gateway)
    const before = await standing(gateway)
    const edits = [{ weights: { canary: 5 } }, ...['pause', 'promote', 'rollback'].map((action) => ({ action }))]
    for (const body of edits) {
      const { status, json } = await edit(gateway, body)
      assert.deepEqual([status, json.code], [503, 'not_changed'], JSON.stringify(body))
      assert.match(json.error, /^nothing is changed, because it could not be remembered: /)
      assert.deepEqual(await standing(gateway), before, JSON.stringify(body))
    }
    assert.deepEqual(
      (await gateway.audited()).map(({ what }) => what),
      edits.flatMap(() => ['split.m', 'split.m.refused']),
    )
    await rm(join(gateway.folder, 'state'))
    assert.equal((await edit(gateway, { weights: { canary: 5 } })).status, 200, 'it can be again')
  })

  test('a latch that cannot be lifted for good stays, with the evidence for it', async (t) => {
    const gateway = await start(t, ramping)
    await fail(gateway)
    const before = await standing(gateway)
    await breakState(gateway)
    assert.equal((await edit(gateway, { action: 'release' })).status, 503)
    assert.deepEqual(await standing(gateway), before)
    assert.equal((await ask(gateway, good, { 'x-beta': 'yes' })).arm, 'stable')
  })

  test('one that rolls back by itself does, also where that cannot be remembered', async (t) => {
    const gateway = await start(t, ramping)
    await breakState(gateway)
    await fail(gateway)
    const got = await askMany(gateway, good, 40)
    assert.ok(got.every(({ arm, status }) => status === 200 && arm === 'stable'))
  })

  test('one that is killed in mid-ramp goes on where it was, with its evidence', async (t) => {
    const settings = canaryWith({ steps: [quickStep(0.3), longStep] })
    const first = await serveCanary(t, settings)
    await askMany(first, good, 20_000, async () => (await experimentOf(first)).step === 1)
    await askMany(first, good, 60)
    await Promise.all(Array.from({ length: 3 }, () => ask(first, bad)))
    const before = await experimentOf(first)
    const kept = async () => {
      await pause(50)
      const { value } = JSON.parse(await readFile(join(first.folder, 'state/model-m.json'), 'utf8'))
      return (Object.values(value.trials)[0] as any).evidence.units
    }
    await until('what it knows is kept', async () => {
      const { control, treatment } = await kept()
      return control + treatment >= before.evidence.units.control + before.evidence.units.treatment
    })
    first.process.child.kill('SIGKILL')
    await once(first.process.child, 'exit')
    const again = await serveCanary(t, settings, first.folder)
    const { generation, ...after } = await experimentOf(again)
    const { generation: seen, ...was } = before
    assert.deepEqual([generation, after.step, after.share, after.sinceMs], [seen, 1, 0.5, was.sinceMs])
    const { failures, slowness, units, failed } = after.evidence
    assert.deepEqual([units, failed, slowness], [was.evidence.units, was.evidence.failed, after.evidence.slowness])
    assert.ok(Math.abs(failures.evidence - was.evidence.failures.evidence) < 1e-9)
    assert.ok(failed.treatment + failed.control > 0 || was.evidence.failed.control === 0)
    await fail(again)
    assert.equal(await phaseOf(again), 'rolled-back')
  })

  test('one that is killed right behind a rollback stays rolled back, whatever comes', async (t) => {
    const settings = canaryWith({ steps: [longStep] })
    const first = await serveCanary(t, settings)
    await fail(first)
    const file = join(first.folder, 'state/model-m.json')
    await until('that is kept', async () => (await readFile(file, 'utf8')).includes('"rolled-back"'))
    first.process.child.kill('SIGKILL')
    await once(first.process.child, 'exit')
    const again = await serveCanary(t, canaryWith({ steps: [longStep] }, {}, [60, 40]), first.folder)
    assert.equal(await phaseOf(again), 'rolled-back', 'other weights are no other experiment')
    const got = await askMany(again, good, 40)
    assert.ok(got.every(({ arm }) => arm === 'stable'))
    assert.equal((await edit(again, { action: 'promote' })).status, 409)
    assert.equal((await edit(again, { action: 'release' })).status, 200)
    again.process.child.kill('SIGKILL')
    await once(again.process.child, 'exit')
    const released = await serveCanary(t, canaryWith({ steps: [longStep] }, {}, [60, 40]), first.folder)
    const { phase, evidence } = await experimentOf(released)
    assert.deepEqual([phase, evidence.failed], ['ramping', { control: 0, treatment: 0 }])
  })

  test('what is remembered and damaged costs what is damaged, and the gateway starts', async (t) => {
    const first = await start(t, ramping)
    await fail(first)
    await first.stop()
    const file = join(first.folder, 'state/model-m.json')
    const whole = JSON.parse(await readFile(file, 'utf8'))
    const [digest] = Object.keys(whole.value.trials)
    const { state, since } = whole.value.trials[digest!]
    const odd = {
      ...whole.value,
      history: 7,
      trials: { [digest!]: { since, state, evidence: { units: 'many' }, agreement: [] } },
    }
    await writeFile(file, JSON.stringify({ revision: whole.revision, value: odd }))
    const again = await start(t, ramping, first.folder)
    const { phase, evidence } = await experimentOf(again)
    assert.deepEqual([phase, evidence.units], ['rolled-back', { control: 0, treatment: 0 }])
    await again.stop()
    await writeFile(file, '{"revision": ')
    const anew = await start(t, ramping, first.folder)
    assert.equal(await phaseOf(anew), 'ramping')
    const { status, json } = await edit(anew, { action: 'pause' })
    assert.deepEqual([status, json.code], [503, 'not_changed'])
    assert.match(json.error, /is damaged; remove it/)
  })
})
