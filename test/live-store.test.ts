/** A store that changes while requests flow: versions and models that come, that are bad, and that go. */
import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { stringify } from 'yaml'
import { samples } from './support/client.ts'
import { plus } from './support/fleet.ts'
import {
  adds,
  administer,
  ask,
  fitsTogether,
  followed,
  quick,
  sharesOf,
  slowRequest,
  storeOf,
  Traffic,
  until,
  versionOf,
  type FollowedGateway,
} from './support/followed.ts'
import { folderWith, tensor, type TestGateway } from './support/gateway.ts'
import { looping } from './support/models.ts'
import { penstock } from './support/process.ts'

const one = { 'models/m/1/m.onnx': adds(1) }
const two = { ...one, 'models/m/2/m.onnx': adds(2) }
const halves = { arms: { a: { version: '1', weight: 50 }, b: { version: '2', weight: 50 } }, default: 'a' }
const pinned = { models: { m: { version: '1' } } }

const golden = (expected: number) => {
  const of = (name: string, value: number) => tensor(name, 'INT64', [1, 1], [value])
  return JSON.stringify({ inputs: [of('x', 1)], outputs: [of('y', expected)] })
}

const is = async (served: FollowedGateway, name: string, state: string | undefined) =>
  until(`${name} is ${state}`, async () => (await storeOf(served)).get(name)?.state === state)

const versionsOf = async ({ url }: FollowedGateway, model = 'm') =>
  ((await (await fetch(`${url}/v2/models/${model}`)).json()) as { versions: string[] }).versions

const gauges = async (served: FollowedGateway, version: string) =>
  [...(await samples(served as unknown as TestGateway)).keys()].filter((name) =>
    name.includes(`model="m",version="${version}"`),
  )

const refresh = (served: FollowedGateway) => administer(served, 'POST', 'store')
const byHand = { store: { path: 'models', refreshS: 0 } }

suite('while requests flow', { concurrency: 4 }, () => {
  test('a version that comes can be pinned, and after a reload be drawn; no request is lost', async (t) => {
    const served = await followed(t, { ...one, 'models/m/1/golden/a.json': golden(101) }, pinned)
    const traffic = new Traffic(t, served)
    assert.equal((await ask(served, 'm/versions/2')).status, 404)
    await served.put('models/m/2/golden/a.json', golden(201))
    await served.put('models/m/2/m.onnx', adds(2))
    await is(served, 'm/2', 'ready')
    await served.hears(/^a new version is ready$/)
    assert.equal(versionOf(await ask(served, 'm/versions/2')), '2')
    assert.deepEqual(await versionsOf(served), ['1', '2'])
    await traffic.more(20)
    assert.ok(traffic.answers.every((each) => versionOf(each) === '1' && each.arm === undefined))
    await served.configure({ models: { m: { split: halves } } })
    await served.hears(/^the split has changed/)
    await until('both answer', () =>
      Promise.resolve(['a', 'b'].every((arm) => traffic.answers.some((each) => each.arm === arm))),
    )
    const answers = await traffic.end()
    assert.deepEqual(answers.filter((each) => !fitsTogether(each)).slice(0, 3), [])
  })

  test('what is bad is told of in the log and in the status, and disturbs nothing', async (t) => {
    const served = await followed(t, one)
    const traffic = new Traffic(t, served)
    await served.put('models/m/2/golden/a.json', golden(7))
    await served.put('models/m/2/m.onnx', adds(2))
    await served.put('models/m/3/m.onnx', 'half a copy')
    await served.put('models/m/4/m.onnx', plus(4, 'other'))
    await served.put('models/new/1/n.onnx', 'no model')
    await served.put('models/m/5/manifest.yaml', 'nonsense: 1')
    await served.put('models/m/5/m.onnx', adds(5))
    await served.hears(/golden\/a\.json: output "y": element 0: expected 7, found 201/)
    await served.hears(/^not an ONNX model/)
    await served.hears(/does not serve the contract of "m"/)
    await served.hears(/nonsense/)
    await is(served, 'new/1', 'failed')
    const { json } = await administer(served, 'GET', 'status')
    const problems = json.store.map(
      ({ model, version, state, problem = '' }: any) => `${model} ${version} ${state} ${problem}`,
    )
    assert.match(problems.join('\n'), /m 1 ready \nm 2 failed .*expected 7, found 201\nm 3 failed not an ONNX/)
    assert.match(problems.join('\n'), /m 4 failed version 4 does not serve/)
    assert.equal((await ask(served, 'new')).status, 404)
    const told = served.told.length
    await traffic.more(20)
    assert.deepEqual(served.told.slice(told), [], 'each look tells nothing again')
    assert.deepEqual(await versionsOf(served), ['1'])
    assert.ok((await traffic.end()).every((each) => versionOf(each) === '1'))
    // The next one is no worse off for it.
    await served.put('models/m/2/golden/a.json', golden(201))
    await is(served, 'm/2', 'ready')
    await until('it answers', async () => versionOf(await ask(served, 'm/versions/2')) === '2')
  })

  test('a version that goes answers what it has been given, and then nothing is left of it', async (t) => {
    const manifest = 'batching: { rows: independent }'
    const store = { 'models/m/1/m.onnx': looping, 'models/m/1/manifest.yaml': manifest }
    const served = await followed(t, store, { edge: { ...quick.edge, deadlineMs: 8_000 } })
    const before = (await administer(served, 'GET', 'status')).json.modelBytes
    await served.put('models/m/2/manifest.yaml', manifest)
    await served.put('models/m/2/m.onnx', looping)
    await is(served, 'm/2', 'ready')
    const body = JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [150_000])] })
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body }
    const running = fetch(`${served.url}/v2/models/m/versions/1/infer`, init)
    const waiting = fetch(`${served.url}/v2/models/m/versions/1/infer`, init)
    await until('it runs', async () => (await gauges(served, '1')).length > 0)
    const slow = slowRequest(served, 'm/versions/1', tensor('x', 'INT64', [1, 1], [7]))
    await slow.begun
    await served.remove('models/m/1')
    await is(served, 'm/1', 'draining')
    await until('nobody is sent there', async () => (await ask(served, 'm/versions/1')).status === 404)
    assert.deepEqual(await Promise.all([running, waiting].map(async (each) => (await each).status)), [200, 200])
    for (let i = 0; i < 50; i++) await ask(served, 'm/versions/2')
    assert.equal(await slow.end(), 200, 'whoever was sent there before, and had more to say')
    await is(served, 'm/1', 'retired')
    await until(
      'its memory is given back',
      async () => (await administer(served, 'GET', 'status')).json.modelBytes <= before,
    )
    assert.deepEqual(
      (await gauges(served, '1')).filter((name) => /^penstock_(workers|queued|worker_bytes)/.test(name)),
      [],
      'metrics have forgotten it',
    )
    assert.ok((await gauges(served, '2')).some((name) => name.startsWith('penstock_workers')))
    assert.deepEqual(await versionsOf(served), ['2'])
  })

  test('a version that the split needs stays, and goes when the split needs it no more', async (t) => {
    const served = await followed(t, two, { models: { m: { split: halves } } })
    const traffic = new Traffic(t, served)
    await served.remove('models/m/2')
    const { message, level } = await served.hears(/^its folder is gone/)
    assert.deepEqual(
      [message, level],
      ['its folder is gone, and models.m.split.arms.b.version needs it: it stays until that names another', 'warn'],
    )
    assert.deepEqual((await storeOf(served)).get('m/2')!.problem, message)
    await traffic.more(40)
    assert.ok(traffic.answers.slice(-40).some((each) => versionOf(each) === '2'))
    await served.configure({ models: { m: { version: '1' } } })
    await is(served, 'm/2', 'retired')
    assert.equal((await ask(served, 'm/versions/2')).status, 404)
    assert.deepEqual(
      (await traffic.end()).filter((each) => !fitsTogether(each)),
      [],
    )
  })

  test('a version that is there again in time has never been gone', async (t) => {
    const served = await followed(t, two, { models: { m: { split: halves } } })
    const traffic = new Traffic(t, served)
    const [at, away] = [join(served.folder, 'models/m/2'), join(served.folder, 'away')]
    await rename(at, away)
    await served.hears(/^its folder is gone/)
    await rename(away, at)
    await is(served, 'm/2', 'ready')
    await served.hears(/^it is there again, as it was$/)
    assert.equal((await storeOf(served)).get('m/2')!.problem, undefined)
    await served.configure({ models: { m: { version: '1' } } })
    await served.hears(/^the configuration has changed|^configuration/)
    assert.equal(versionOf(await ask(served, 'm/versions/2')), '2')
    assert.deepEqual(
      (await traffic.end()).filter((each) => !fitsTogether(each)),
      [],
    )
  })

  test('a model that comes is listed and answers; one that goes is in no list any more', async (t) => {
    const served = await followed(t, { ...one, 'models/old.onnx': adds(7) })
    const list = async () =>
      ((await (await fetch(`${served.url}/v2/models`)).json()) as any).models.map((each: any) => each.name ?? each)
    assert.deepEqual((await list()).toSorted(), ['m', 'old'])
    assert.equal(versionOf(await ask(served, 'old')), '7')
    await served.put('models/new/3/n.onnx', adds(3))
    await until('it answers', async () => versionOf(await ask(served, 'new')) === '3')
    assert.deepEqual((await list()).toSorted(), ['m', 'new', 'old'])
    await served.remove('models/old.onnx')
    await is(served, 'old/1', 'retired')
    assert.equal((await ask(served, 'old')).status, 404)
    assert.deepEqual((await list()).toSorted(), ['m', 'new'])
    // And may come back as another.
    await served.put('models/old/9/o.onnx', plus(900, 'z'))
    await until('it is back', async () => versionOf(await ask(served, 'old')) === '9')
  })

  test('all versions of a model go at once, and so does it', async (t) => {
    const served = await followed(t, { ...two, 'models/other.onnx': adds(1) })
    await served.remove('models/m')
    await is(served, 'm/1', 'retired')
    await is(served, 'm/2', 'retired')
    assert.equal((await ask(served, 'm')).status, 404)
    assert.equal(versionOf(await ask(served, 'other')), '1')
  })
})

suite('a look at the store that is asked for', { concurrency: 4 }, () => {
  test('says what it has found, and that is in service when it says so', async (t) => {
    const served = await followed(t, one, byHand)
    await served.put('models/m/2/m.onnx', adds(2))
    await served.put('models/m/3/m.onnx', 'half a copy')
    assert.equal((await ask(served, 'm/versions/2')).status, 404)
    const { status, json } = await refresh(served)
    assert.equal(status, 200)
    assert.deepEqual(
      json.ready.map((each: any) => `${each.model} ${each.version} ${each.state}`),
      ['m 2 ready'],
    )
    assert.deepEqual(
      json.failed.map((each: any) => `${each.model} ${each.version} ${each.state}`),
      ['m 3 failed'],
    )
    assert.equal(versionOf(await ask(served, 'm/versions/2')), '2')
    await served.put('models/new/7/n.onnx', adds(7))
    await served.gateway.refresh()
    assert.ok(served.gateway.models.has('new'))
    await served.put('models/m/4/manifest.yaml', 'nonsense: 1')
    await served.put('models/m/4/m.onnx', adds(4))
    const again = (await refresh(served)).json
    assert.deepEqual([again.ready, again.failed, again.gone], [[], [], []])
    assert.match(again.mistakes[0].message, /nonsense/)
    assert.ok(served.told.some(({ message, level }) => level === 'error' && message.includes('nonsense')))
  })

  test('makes the newest version the one that answers if nothing else is said, and tells so', async (t) => {
    const served = await followed(t, { 'models/m/2/m.onnx': adds(2) }, byHand)
    const look = async () => {
      served.told.length = 0
      await refresh(served)
      const told = served.told.find(({ message }) => message.startsWith('requests that name no version'))
      return [versionOf(await ask(served, 'm')), told && [told.level, told.message]]
    }
    await served.put('models/m/1/m.onnx', adds(1))
    assert.deepEqual(await look(), ['2', undefined], 'an older one changes nothing')
    await served.put('models/m/10/m.onnx', adds(10))
    const words = (now: number, before: number) =>
      `requests that name no version go to ${now} now, and before to ${before}: set \`models.m.version\` or a split to have it otherwise`
    assert.deepEqual(await look(), ['10', ['warn', words(10, 2)]])
    await served.put('models/m/9/m.onnx', adds(9))
    assert.deepEqual(await look(), ['10', undefined])
    await served.remove('models/m/10')
    await refresh(served)
    await served.hears(/go to 9 now, and before to 10/)
    assert.equal(versionOf(await ask(served, 'm')), '9')
    const { json } = await administer(served, 'GET', 'status')
    assert.equal(json.models[0].version, '9')
  })

  test('leaves what answers alone where the configuration says which version that is', async (t) => {
    const served = await followed(t, one, { ...byHand, ...pinned })
    await served.put('models/m/2/m.onnx', adds(2))
    await refresh(served)
    assert.equal(versionOf(await ask(served, 'm')), '1')
    assert.ok(!served.told.some(({ message }) => message.startsWith('requests that name no version')))
  })

  test('lets a version wait that has the name of an alias, until the configuration goes with it', async (t) => {
    const aliased = { m: { version: '1', aliases: { next: '1' } } }
    const served = await followed(t, one, { ...byHand, models: aliased })
    await served.put('models/m/next/m.onnx', adds(5))
    await refresh(served)
    await served.hears(/^models\.m\.aliases\.next: a version has this name/)
    assert.equal(versionOf(await ask(served, 'm/versions/next')), '1')
    // It is no reason not to go by the rest.
    await served.put('models/m/2/m.onnx', adds(2))
    await refresh(served)
    await served.configure({ ...byHand, models: { m: { ...aliased.m, version: '2' } } })
    await until('version 2 answers', async () => versionOf(await ask(served, 'm')) === '2')
    await served.configure({ ...byHand, models: { m: { version: '1' } } })
    await until('it can be reached', async () => versionOf(await ask(served, 'm/versions/next')) === '5')
  })

  test('keeps a version that stands in for others', async (t) => {
    const fallback = { kind: 'version', version: '1', keepMs: 100 }
    const served = await followed(t, two, { ...byHand, models: { m: { version: '2', fallback } } })
    await served.remove('models/m/1')
    await refresh(served)
    await served.hears(/models\.m\.fallback needs it/)
    assert.equal(versionOf(await ask(served, 'm/versions/1')), '1')
  })

  test('takes a model into service once the configuration goes with it, however many versions it needs', async (t) => {
    const served = await followed(t, one, byHand)
    const models = { n: { split: halves } }
    await served.configure({ ...byHand, models })
    const { level } = await served.hears(/^nothing is changed: models\.n: no such model in the store, which has m$/)
    assert.equal(level, 'error')
    await served.put('models/n/1/n.onnx', adds(1))
    await served.put('models/n/2/n.onnx', adds(2))
    await refresh(served)
    await until('both arms answer', async () => {
      const arms = new Set<string | undefined>()
      for (let i = 0; i < 20; i++) arms.add((await ask(served, 'n')).arm)
      return arms.has('a') && arms.has('b')
    })
    assert.deepEqual(await sharesOf(served, 'n'), { a: 0.5, b: 0.5 })
  })

  test('holds what comes to the contract of a version that is needed, though that is gone from the store', async (t) => {
    const served = await followed(t, { ...one, 'models/other.onnx': adds(1) }, { ...byHand, ...pinned })
    await served.remove('models/m')
    await refresh(served)
    await served.hears(/models\.m\.version needs it/)
    await served.put('models/m/2/m.onnx', plus(2, 'other'))
    await served.put('models/m/3/m.onnx', adds(3))
    const { json } = await refresh(served)
    assert.deepEqual([json.failed[0].version, json.ready[0].version], ['2', '3'])
    assert.match(json.failed[0].problem, /does not serve the contract/)
    assert.deepEqual([versionOf(await ask(served, 'm')), versionOf(await ask(served, 'm/versions/3'))], ['1', '3'])
  })

  test('lets nothing go because the store cannot be read', async (t) => {
    const served = await followed(t, two, byHand)
    await rename(join(served.folder, 'models'), join(served.folder, 'away'))
    const { json } = await refresh(served)
    assert.deepEqual(json.gone, [])
    assert.match(json.mistakes[0].message, /no such folder/)
    assert.equal(versionOf(await ask(served, 'm/versions/1')), '1')
    await rename(join(served.folder, 'away'), join(served.folder, 'models'))
    assert.deepEqual((await refresh(served)).json.mistakes, [])
  })
})

test('a version on its way out does not keep the process from ending', async (t) => {
  const edge = { ...quick.edge, deadlineMs: 60_000 }
  const folder = await folderWith({ 'penstock.yaml': stringify({ ...quick, edge }), ...two })
  const spawned = penstock(t, ['serve', `${folder}/penstock.yaml`])
  const [, url, adminUrl = ''] = await spawned.said(/ at (http:\S+), metrics .*, status at (http:\S+)\/admin/)
  await rename(join(folder, 'models/m/1'), join(folder, 'away'))
  await until('it is draining', async () => (await storeOf({ adminUrl })).get('m/1')?.state === 'draining')
  await until('nobody is sent there', async () => (await ask({ url: url! }, 'm/versions/1')).status === 404)
  const askedAt = performance.now()
  spawned.child.kill('SIGTERM')
  const { code } = await spawned.finished
  assert.equal(code, 0)
  assert.ok(performance.now() - askedAt < 30_000, 'long before its last request could have ended')
})
