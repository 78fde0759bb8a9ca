/** A model whose split is an HTTPRoute that a controller edits while requests flow. */
import assert from 'node:assert/strict'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { start } from '../src/cli/serve.ts'
import { loadConfig } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
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
import { argo, argoHeaderRule, canary, flagger, mirrorTo, routeOf, stable } from './support/http-route.ts'

const versions = { 'iris-stable': 'stable', 'iris-primary': 'stable', 'iris-canary': 'canary' }
const aliases = { stable: '1', canary: '2' }
const files = { 'models/m/1/m.onnx': adds(1), 'models/m/2/m.onnx': picky(2), 'models/m/3/m.onnx': adds(3) }

/** Settings of a model that goes by `route.yaml`. */
const by = (more: object = {}, route: object = {}) => ({
  models: { m: { aliases, httpRoute: { file: 'route.yaml', versions, ...route }, ...more } },
})

const started = (t: TestContext, text: string, settings: object = by()): Promise<FollowedGateway> =>
  followed(t, { ...files, 'route.yaml': text }, settings)

/** As the plugin leaves the document at one of its steps. */
const step = (served: FollowedGateway, weight: number, generation: number, managed = '') =>
  served.put('route.yaml', argo(weight, generation, managed))

const share = async (served: FollowedGateway, of: number) =>
  until(`the canary has ${of}`, async () => (await sharesOf(served))['iris-canary'] === of)

suite('an HTTPRoute', { concurrency: 4 }, () => {
  test('drives the split, as Argo steps through its weights, and no request is lost', async (t) => {
    const served = await started(t, argo(0, 1))
    const traffic = new Traffic(t, served, { atOnce: 8 })
    await traffic.more(20)
    assert.ok(traffic.answers.every((each) => each.arm === 'iris-stable' && versionOf(each) === '1'))
    for (const [i, weight] of [10, 50, 100].entries()) {
      await step(served, weight, i + 2)
      await share(served, weight / 100)
    }
    const before = traffic.answers.length + 8
    await traffic.more(40)
    assert.ok(traffic.answers.slice(before).every((each) => each.arm === 'iris-canary' && versionOf(each) === '2'))
    await step(served, 0, 5)
    await share(served, 0)
    assert.deepEqual((await traffic.end()).filter((each) => !fitsTogether(each)).slice(0, 3), [])
    const { arms, version } = await splitOf(served)
    assert.deepEqual(
      arms.map((each: any) => [each.arm, each.version, each.configured]),
      [
        ['iris-stable', '1', 100],
        ['iris-canary', '2', 0],
      ],
    )
    assert.equal(version, '1')
  })

  test('sends testers to the canary by a header for as long as it says so', async (t) => {
    const served = await started(t, argo(0, 1))
    const tester = async () => (await ask(served, 'm', { headers: { 'x-canary': 'yes' } })).arm
    assert.equal(await tester(), 'iris-stable')
    await step(served, 0, 2, argoHeaderRule)
    await until('it counts', async () => (await tester()) === 'iris-canary')
    assert.equal((await ask(served, 'm', { headers: { 'x-canary': 'no' } })).arm, 'iris-stable')
    assert.equal((await ask(served, 'm')).arm, 'iris-stable')
    await step(served, 0, 3)
    await until('it does not', async () => (await tester()) === 'iris-stable')
  })

  test('lets the canary run what it mirrors, as Flagger does first, and nobody is answered by it', async (t) => {
    const served = await started(t, stringify(flagger(100, 0)))
    const traffic = new Traffic(t, served)
    await served.put('route.yaml', stringify(flagger(100, 0, [mirrorTo('iris-canary', { percent: 50 })])))
    await until('it is a shadow', async () => (await splitOf(served)).shadows.length === 1)
    const [{ version, share: sampled }] = (await splitOf(served)).shadows
    assert.deepEqual([version, sampled], ['2', 0.5])
    await until('it has run', async () => (await splitOf(served)).shadows[0].agreement?.pairs > 0)
    await served.put('route.yaml', stringify(flagger(100, 0)))
    await until('it is no more', async () => (await splitOf(served)).shadows.length === 0)
    const answers = await traffic.end()
    assert.deepEqual(answers.filter((each) => each.arm !== 'iris-primary' || !fitsTogether(each)).slice(0, 3), [])
  })

  test('that is malformed changes nothing, is told of once with its file, and the next good one is taken', async (t) => {
    const served = await started(t, argo(25, 1))
    const traffic = new Traffic(t, served)
    const { generation } = await splitOf(served)
    const retry = { backendRefs: [stable, canary], retry: { attempts: 3 } }
    const bad: [string, RegExp][] = [
      ['', /no HTTPRoute/],
      ['{', /not YAML/],
      [argo(50, 2).replace('weight: 50', 'weight: -1'), /weight/],
      [argo(50, 2).replace('weight: 50', 'weight: .nan'), /weight/],
      [argo(0, 2).replace('weight: 100', 'weight: 0'), /no backend has a weight above 0/],
      [argo(50, 2).replaceAll('iris-canary', 'iris-other'), /"iris-other" stands for no version/],
      [routeOf(retry), /retry/],
      [argo(50, 2).replace('networking.k8s.io/v1', 'networking.k8s.io/v2'), /v2/],
      [argo(50, 2).replace('kind: HTTPRoute', 'kind: GRPCRoute'), /no HTTPRoute in it, only GRPCRoute iris/],
      [`${argo(50, 2)}---\n${argo(40, 2)}`, /which counts/],
    ]
    for (const [text, why] of bad) {
      const from = served.told.length
      await served.put('route.yaml', text)
      const { file, level } = await served.hears(why, from)
      assert.deepEqual([file, level], [join(served.folder, 'route.yaml'), 'error'])
    }
    await served.remove('route.yaml')
    await served.hears(/no such file/)
    await traffic.more(100)
    assert.equal(served.told.length, bad.length + 1, 'each is told once')
    assert.deepEqual(
      [(await splitOf(served)).generation, await sharesOf(served)],
      [generation, { 'iris-stable': 0.75, 'iris-canary': 0.25 }],
    )
    await step(served, 60, 9)
    await share(served, 0.6)
    assert.deepEqual(
      (await traffic.end()).filter((each) => !fitsTogether(each)),
      [],
    )
  })

  test('that needs a version which is not there stands in the way of nothing, and is taken when it comes', async (t) => {
    const settings = by({}, { versions: { ...versions, 'iris-next': '4' } })
    const served = await started(t, argo(25, 1), settings)
    await served.put('route.yaml', argo(75, 2).replaceAll('iris-canary', 'iris-next'))
    const { file } = await served.hears(/^there is no version 4; the store has 1, 2, 3/)
    assert.equal(file, join(served.folder, 'route.yaml'))
    // The configuration and the store are followed all the same.
    await served.configure({ ...settings, models: { m: { ...settings.models.m, aliases: { ...aliases, more: '3' } } } })
    await until('the alias is there', async () => versionOf(await ask(served, 'm/versions/more')) === '3')
    await served.put('models/m/5/m.onnx', adds(5))
    await until('version 5 is there', async () => versionOf(await ask(served, 'm/versions/5')) === '5')
    assert.equal((await sharesOf(served))['iris-canary'], 0.25)
    await served.put('models/m/4/m.onnx', adds(4))
    await until('it is taken', async () => (await sharesOf(served))['iris-next'] === 0.75)
  })

  test('is followed through the links of a mounted ConfigMap', async (t) => {
    const ending = endingFor(t)
    const settings = by({}, { file: 'mounted/route.yaml' })
    const folder = await folderWith({
      ...files,
      'penstock.yaml': stringify({ ...quick, ...settings }),
      'mounted/..1/route.yaml': argo(10, 1),
    })
    await symlink('..1', join(folder, 'mounted/..data'))
    await symlink('..data/route.yaml', join(folder, 'mounted/route.yaml'))
    const served = await serveFrom(ending, folder)
    assert.equal((await sharesOf(served))['iris-canary'], 0.1)
    await mkdir(join(folder, 'mounted/..2'))
    await writeFile(join(folder, 'mounted/..2/route.yaml'), argo(35, 2))
    await relink('..2', join(folder, 'mounted/..data'))
    await share(served, 0.35)
    assert.deepEqual(
      served.told.filter(({ level }) => level === 'error'),
      [],
    )
  })

  test('has the last word over weights that were set by hand', async (t) => {
    const served = await started(t, argo(10, 1))
    assert.equal((await edit(served, { weights: { 'iris-canary': 0, 'iris-stable': 100 } })).status, 200)
    assert.equal((await sharesOf(served))['iris-canary'], 0)
    // What says nothing of the split, such as the generation, leaves them alone.
    await step(served, 10, 2)
    await served.configure({ ...by(), fairness: { weights: { bob: 2 } } })
    await served.hears(/^these settings/)
    assert.equal((await sharesOf(served))['iris-canary'], 0)
    await step(served, 20, 3)
    await share(served, 0.2)
    assert.equal((await splitOf(served)).setByHand, null)
  })

  test('keeps callers on their arm while it moves weights, where the configuration names the unit', async (t) => {
    const unit = { by: 'header', name: 'x-user' }
    const served = await started(t, argo(30, 1), by({}, { unit }))
    const arms = async () => {
      const all = Array.from({ length: 40 }, (_, i) => ask(served, 'm', { headers: { 'x-user': `user ${i}` } }))
      return (await Promise.all(all)).map(({ arm }) => arm)
    }
    const before = await arms()
    assert.deepEqual(await arms(), before)
    await step(served, 60, 2)
    await share(served, 0.6)
    const after = await arms()
    assert.ok(
      before.every((arm, i) => arm === 'iris-stable' || after[i] === arm),
      'nobody leaves the canary',
    )
    assert.ok(
      after.filter((arm) => arm === 'iris-canary').length > before.filter((arm) => arm === 'iris-canary').length,
    )
  })

  test('that is malformed at the start is told with its place, and nothing is served', async () => {
    const text = argo(50, 1).replace('weight: 50', 'weight: -1')
    const folder = await folderWith({
      ...files,
      'route.yaml': text,
      'penstock.yaml': stringify({ ...quick, ...by() }),
    })
    const file = await loadConfig(join(folder, 'penstock.yaml'))
    assert.ok(!('mistakes' in file))
    const failed = await start(file)
    assert.ok('mistakes' in failed)
    assert.match(failed.mistakes.map(showMistake).join('\n'), /route\.yaml:\d+.*weight/)
  })
})

const guarded = by({ experiment: { kind: 'canary' } })

async function rolledBack(served: FollowedGateway): Promise<void> {
  await until('it is rolled back', async () => {
    await Promise.all(Array.from({ length: 8 }, () => ask(served, 'm', { x: odd })))
    return (await splitOf(served)).experiment.phase === 'rolled-back'
  })
}

test('a canary that was rolled back stays so whatever weight the controller gives it, also after a restart', async (t) => {
  const ending = endingFor(t)
  const folder = await folderWith({
    ...files,
    'route.yaml': argo(20, 1),
    'penstock.yaml': stringify({ ...quick, ...guarded }),
  })
  const served = await serveFrom(ending, folder)
  await rolledBack(served)
  for (const [i, weight] of [40, 80, 100].entries()) {
    const from = served.told.length
    await step(served, weight, i + 2, i === 1 ? argoHeaderRule : '')
    await served.hears(/still rolled back/, from)
    const headers = { 'x-canary': 'yes' }
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(served, 'm', { x: odd, headers })))
    assert.deepEqual(
      answers.filter((each) => each.arm !== 'iris-stable' || !fitsTogether(each)),
      [],
    )
  }
  await served.stop()
  const again = await serveFrom(ending, folder)
  assert.equal((await splitOf(again)).experiment.phase, 'rolled-back')
  assert.equal((await ask(again, 'm', { x: odd })).arm, 'iris-stable')
  // Another version under the same name is another matter.
  const next = { ...guarded, models: { m: { ...guarded.models.m, aliases: { stable: '1', canary: '3' } } } }
  await again.configure(next)
  await until('another is on trial', async () => (await splitOf(again)).experiment.phase === 'steady')
  await step(again, 50, 9)
  await share(again, 0.5)
  const { json } = await administer(again, 'GET', 'models/m/experiment')
  assert.deepEqual(json.evidence.failed, { control: 0, treatment: 0 })
})
