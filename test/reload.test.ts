/** A configuration that is changed while requests flow. */
import assert from 'node:assert/strict'
import { mkdir, open, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { stringify } from 'yaml'
import { start, follow } from '../src/cli/serve.ts'
import { loadConfig } from '../src/config.ts'
import {
  adds,
  administer,
  ask,
  edit,
  endingFor,
  fitsTogether,
  followed,
  odd,
  picky,
  quick,
  relink,
  serveFrom,
  sharesOf,
  splitOf,
  Traffic,
  until,
  versionOf,
  type FollowedGateway,
} from './support/followed.ts'
import { folderWith } from './support/gateway.ts'

const store = { 'models/m/1/m.onnx': adds(1), 'models/m/2/m.onnx': adds(2), 'models/m/3/m.onnx': adds(3) }

/** Of a model with two versions in two arms. */
function split(a: number, b: number, more: object = {}) {
  const arms = { a: { version: '1', weight: a }, b: { version: '2', weight: b } }
  return { models: { m: { split: { arms, default: 'a' }, ...more } } }
}

const share = async (served: FollowedGateway, b: number) =>
  until(`b has ${b}`, async () => (await sharesOf(served))['b'] === b)

suite('a change of the configuration', { concurrency: 4 }, () => {
  test('is in force for each request as a whole, and none is lost', async (t) => {
    const first = { a: { version: '1', weight: 1 } }
    const served = await followed(t, store, { models: { m: { split: { arms: first } } } })
    const traffic = new Traffic(t, served, { atOnce: 8 })
    await traffic.more(20)
    assert.ok(traffic.answers.every(({ arm }) => arm === 'a'))
    // From one look to the next arms swap their versions, and a third comes and goes.
    const arms = [
      { a: { version: '1', weight: 50 }, b: { version: '2', weight: 50 } },
      { a: { version: '2', weight: 50 }, b: { version: '1', weight: 50 } },
      { a: { version: '3', weight: 50 }, c: { version: '2', weight: 50 } },
      { b: { version: '2', weight: 1 } },
    ]
    for (const each of arms) {
      await served.configure({ models: { m: { split: { arms: each } } } })
      const wanted = Object.entries(each).map(([arm, { version }]) => `${arm} ${version}`)
      await until(`${wanted.join(', ')} is in force`, async () => {
        const { arms: live } = await splitOf(served)
        return (
          live
            .map((arm: any) => `${arm.arm} ${arm.version}`)
            .toSorted()
            .join() === wanted.join()
        )
      })
      const before = traffic.answers.length + 8
      await traffic.more(40)
      const seen = new Set(traffic.answers.slice(before).map(({ arm, version }) => `${arm} ${version}`))
      assert.deepEqual([...seen].toSorted(), wanted)
    }
    assert.deepEqual((await traffic.end()).filter((each) => !fitsTogether(each)).slice(0, 3), [])
  })

  test('gives a model a split, takes it away again, and moves what aliases mean', async (t) => {
    const served = await followed(t, store, { models: { m: { version: '1', aliases: { next: '2' } } } })
    const heads = async () => {
      const { arm, version } = await ask(served, 'm')
      return [arm, version]
    }
    assert.deepEqual(await heads(), [undefined, undefined])
    assert.equal(versionOf(await ask(served, 'm/versions/next')), '2')
    await served.configure({ models: { m: { ...split(0, 1).models.m, aliases: { next: '3' } } } })
    await until('it is split', async () => (await ask(served, 'm')).arm === 'b')
    assert.equal(versionOf(await ask(served, 'm/versions/next')), '3')
    await served.configure({ models: { m: { version: '1' } } })
    await until('it is not', async () => (await ask(served, 'm')).arm === undefined)
    assert.equal(versionOf(await ask(served, 'm')), '1')
    assert.equal((await ask(served, 'm/versions/next')).status, 404)
    await served.configure({})
    await until('the newest answers', async () => versionOf(await ask(served, 'm')) === '3')
  })

  test('that has a mistake changes nothing, is told of once with the place, and the next good one is taken', async (t) => {
    const served = await followed(t, store, split(75, 25))
    const traffic = new Traffic(t, served)
    const bad: [string, RegExp][] = [
      ['models: { m: { split: [ }', /penstock\.yaml/],
      [stringify({ ...quick, ...split(-1, 25) }), /expected a weight from 0/],
      [stringify({ ...quick, ...split(0, 0) }), /weight above 0/],
      [stringify({ ...quick, ...split(Number.NaN, 1) }), /expected a weight from 0/],
      [stringify({ ...quick, ...split(1, 1, { version: '1' }) }), /the split decides/],
      [stringify({ ...quick, models: { m: { version: '9' } } }), /there is no version 9/],
      [stringify({ ...quick, ...split(1, 1), unheard: 1 }), /unheard/],
    ]
    const { generation } = await splitOf(served)
    for (const [text, why] of bad) {
      const from = served.told.length
      await served.put('penstock.yaml', text)
      const told = await served.hears(/^nothing is changed: /, from)
      assert.equal(told.level, 'error')
      assert.match(`${String(told['file'])} ${told.message}`, why)
    }
    const { line } = served.told.find(({ message }) => message.includes('there is no version 9'))!
    assert.ok(Number(line) > 1, 'the line of the key')
    await traffic.more(200)
    assert.equal(served.told.length, bad.length, 'each is told once')
    assert.equal((await splitOf(served)).generation, generation)
    assert.deepEqual(await sharesOf(served), { a: 0.75, b: 0.25 })
    // Nor does what follows go by any of them.
    await served.put('models/m/4/m.onnx', adds(4))
    await until('version 4 is there', async () => (await ask(served, 'm/versions/4')).status === 200)
    await served.configure(split(10, 90))
    await share(served, 0.9)
    assert.deepEqual(
      (await traffic.end()).filter((each) => !fitsTogether(each)),
      [],
    )
  })

  test('that needs a version which is not there yet is taken when it comes', async (t) => {
    const served = await followed(t, { 'models/m/1/m.onnx': adds(1) }, { models: { m: { version: '1' } } })
    await served.configure(split(1, 3))
    await served.hears(
      /^nothing is changed: models\.m\.split\.arms\.b\.version: there is no version 2; the store has 1$/,
    )
    await served.put('models/m/2/m.onnx', adds(2))
    await until('both are drawn from', async () => (await splitOf(served)).arms.length === 2)
    assert.deepEqual(await sharesOf(served), { a: 0.25, b: 0.75 })
  })

  test('is not taken back by a file that goes and comes', async (t) => {
    const served = await followed(t, store, split(75, 25))
    await served.remove('penstock.yaml')
    await served.hears(/no such file/)
    assert.deepEqual(await sharesOf(served), { a: 0.75, b: 0.25 })
    await served.configure(split(50, 50))
    await share(served, 0.5)
  })

  test('that cannot be followed is told by name, and the rest of it is', async (t) => {
    const served = await followed(t, store, split(75, 25))
    const other = { edge: { ...quick.edge, deadlineMs: 9_999 }, fairness: { weights: { alice: 2 } } }
    const routes = [{ name: 'extra', match: { path: '/extra' }, model: 'm' }]
    await served.configure({ ...other, routes, ...split(50, 50, { batching: { maxQueueRows: 7 } }) })
    await share(served, 0.5)
    const { keys, level } = await served.hears(/^these settings are not followed/)
    assert.equal(level, 'warn')
    assert.deepEqual((keys as string[]).toSorted(), ['edge', 'fairness', 'models.m', 'routes'])
    const { json } = await administer(served, 'GET', 'config')
    assert.deepEqual([json.edge.deadlineMs, json.models.m.split.arms.b.weight], [quick.edge.deadlineMs, 50])
    // Nor later, when something else has addresses made anew.
    await served.put('models/n/1/n.onnx', adds(1))
    await until('the new model is there', async () => (await ask(served, 'n')).status === 200)
    assert.equal((await fetch(`${served.url}/extra`)).status, 404)
    const from = served.told.length
    await served.configure(split(25, 75))
    await share(served, 0.75)
    assert.ok(!served.told.slice(from).some(({ message }) => message.startsWith('these settings')))
  })

  test('lets weights that were set by hand fall away if it is about the split, and only then', async (t) => {
    const common = { aliases: { s: '1' } }
    const served = await followed(t, store, split(75, 25, common))
    assert.equal((await edit(served, { weights: { a: 1, b: 9 } })).status, 200)
    assert.deepEqual(await sharesOf(served), { a: 0.1, b: 0.9 })
    const from = served.told.length
    // Keys in another order and another model say nothing of this split.
    const { m } = split(75, 25).models
    await served.configure({ models: { m: { ...common, split: m.split } }, fairness: { weights: { bob: 2 } } })
    await served.hears(/^these settings/, from)
    assert.deepEqual(await sharesOf(served), { a: 0.1, b: 0.9 })
    await served.configure(split(60, 40, common))
    await share(served, 0.4)
    assert.equal((await splitOf(served)).setByHand, null)
  })

  test('counts as it is when it is whole, if it is written in place', async (t) => {
    const served = await followed(t, store, split(75, 25))
    const traffic = new Traffic(t, served)
    const { generation } = await splitOf(served)
    const lines = stringify({ ...quick, ...split(40, 60) }).split(/^/m)
    const handle = await open(join(served.folder, 'penstock.yaml'), 'w')
    // Many of the files that are there meanwhile are good ones, without a split.
    for (const line of lines) {
      await handle.write(line)
      await pause(30)
    }
    await handle.close()
    await share(served, 0.6)
    assert.equal((await splitOf(served)).generation, generation + 1)
    const answers = await traffic.end()
    assert.deepEqual(answers.filter((each) => each.arm === undefined || !fitsTogether(each)).slice(0, 3), [])
  })

  test('comes through links that are swapped, as Kubernetes mounts a ConfigMap', async (t) => {
    const ending = endingFor(t)
    const folder = await folderWith({ ...store, '..1/penstock.yaml': stringify({ ...quick, ...split(75, 25) }) })
    await symlink('..1', join(folder, '..data'))
    await symlink('..data/penstock.yaml', join(folder, 'penstock.yaml'))
    const served = await serveFrom(ending, folder)
    const traffic = new Traffic(t, served)
    for (const [i, b] of [40, 60, 80].entries()) {
      const name = `..${i + 2}`
      await mkdir(join(folder, name))
      await writeFile(join(folder, name, 'penstock.yaml'), stringify({ ...quick, ...split(100 - b, b) }))
      await relink(name, join(folder, '..data'))
      await rm(join(folder, `..${i + 1}`), { recursive: true })
      await share(served, b / 100)
    }
    assert.ok(!served.told.some(({ level }) => level === 'error'))
    assert.deepEqual(
      (await traffic.end()).filter((each) => !fitsTogether(each)),
      [],
    )
  })

  test('is followed too if it was bad at the first look', async (t) => {
    const ending = endingFor(t)
    const folder = await folderWith({ 'penstock.yaml': stringify({ ...quick, ...split(75, 25) }), ...store })
    const path = join(folder, 'penstock.yaml')
    const file = await loadConfig(path)
    assert.ok(!('mistakes' in file))
    const started = await start(file)
    assert.ok('running' in started)
    ending.last = () => started.running.stop()
    await writeFile(path, 'nonsense')
    const following = await follow(path, started.running.gateway)
    t.after(() => following.close())
    await writeFile(path, stringify({ ...quick, ...split(30, 70) }))
    await until('it is taken', async () => (await sharesOf(started.running))['b'] === 0.7)
  })
})

const failing = { 'models/m/1/m.onnx': adds(1), 'models/m/2/m.onnx': picky(2), 'models/m/3/m.onnx': adds(3) }
const guarded = (a: number, b: number, more: object = {}, version = '2') => {
  const arms = { a: { version: '1', weight: a }, b: { version, weight: b } }
  return { models: { m: { split: { arms, default: 'a' }, experiment: { kind: 'canary', ...more } } } }
}

/** With a treatment that was rolled back because it failed. */
async function rolledBack(t: TestContext): Promise<FollowedGateway> {
  const served = await followed(t, failing, guarded(50, 50))
  await until('it is rolled back', async () => {
    await Promise.all(Array.from({ length: 8 }, () => ask(served, 'm', { x: odd })))
    return (await splitOf(served)).experiment.phase === 'rolled-back'
  })
  return served
}

const phaseOf = async (served: FollowedGateway) => (await splitOf(served)).experiment.phase as string

suite('a treatment that was rolled back', { concurrency: 4 }, () => {
  test('stays so over changes of weights and over bad files', async (t) => {
    const served = await rolledBack(t)
    for (const b of [10, 40, 90]) {
      const from = served.told.length
      await served.configure(guarded(100 - b, b))
      await served.hears(/still rolled back/, from)
      assert.deepEqual([await phaseOf(served), await sharesOf(served)], ['rolled-back', { a: 1, b: 0 }])
    }
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(served, 'm', { x: odd })))
    assert.deepEqual(
      answers.filter((each) => each.arm !== 'a' || !fitsTogether(each)),
      [],
    )
    assert.equal(versionOf(await ask(served, 'm/versions/2')), '2', 'whoever names it gets it')
  })

  test('stays so when another setting of the model changes, and when the split is gone for a while', async (t) => {
    const served = await rolledBack(t)
    await served.configure({ models: { m: { ...guarded(50, 50).models.m, aliases: { old: '1' } } } })
    await until('the alias is there', async () => (await ask(served, 'm/versions/old')).status === 200)
    assert.equal(await phaseOf(served), 'rolled-back')
    await served.configure({ models: { m: { version: '1' } } })
    await until('there is no split', async () => (await ask(served, 'm')).arm === undefined)
    await served.configure(guarded(50, 50))
    await until('it is back', async () => (await splitOf(served)).arms.length === 2)
    assert.deepEqual([await phaseOf(served), await sharesOf(served)], ['rolled-back', { a: 1, b: 0 }])
  })

  test('gives way to another version, and is remembered when it comes again', async (t) => {
    const served = await rolledBack(t)
    await served.configure(guarded(50, 50, {}, '3'))
    await until('another is on trial', async () => (await phaseOf(served)) === 'steady')
    assert.deepEqual(await sharesOf(served), { a: 0.5, b: 0.5 })
    const { json } = await administer(served, 'GET', 'models/m/experiment')
    assert.deepEqual(json.evidence.failed, { control: 0, treatment: 0 }, 'nothing of the old one counts')
    await served.configure(guarded(50, 50))
    await until('the first is back', async () => (await phaseOf(served)) === 'rolled-back')
  })

  test('gets another trial by other guards', async (t) => {
    const served = await rolledBack(t)
    await served.configure(guarded(50, 50, { failures: { tolerate: 3 } }))
    await until('it is on trial again', async () => (await phaseOf(served)) === 'steady')
  })
})
