/** Versions that come to a store, change in it and go from it while others are served, in real workers. */
import assert from 'node:assert/strict'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { loadFleet, type Model } from '../src/models/fleet.ts'
import { LiveFleet, type LiveEvents, type VersionStatus } from '../src/models/live.ts'
import { scanStore, type Bundle } from '../src/models/store.ts'
import { until } from './support/client.ts'
import { ask, plus, startRuntime, type Options } from './support/fleet.ts'
import { folderWith, tensor } from './support/gateway.ts'

const golden = (given: number, expected: number) => {
  const of = (name: string, value: number) => tensor(name, 'INT64', [1, 1], [value])
  return JSON.stringify({ inputs: [of('x', given)], outputs: [of('y', expected)] })
}

/** A store that is served, and what is told of it from then on. */
async function served(t: TestContext, files: Parameters<typeof folderWith>[0], more: Options = {}) {
  const path = await folderWith(files)
  const { runtime, runner, deploys } = startRuntime(t, more)
  let known: Bundle[] = []
  const scan = async () => {
    const scanned = await scanStore(path, known)
    known = scanned.bundles
    return scanned
  }
  const { models, mistakes } = await loadFleet((await scan()).bundles, runner)
  assert.deepEqual(mistakes, [])
  const told: string[] = []
  const short = (message: string) => message.replaceAll(`${path}/`, '').replace(/sha256:\w+/, 'DIGEST')
  const events: LiveEvents = {
    onReady: (model, { bundle: { version } }) => told.push(`ready ${model.name} ${version} of ${namesIn(model)}`),
    onFailed: ({ file }, message) => told.push(`failed ${relative(path, file)}: ${short(message)}`),
    contractOf: () => undefined,
    onGone: async (model, { bundle, program }) => {
      told.push(`gone ${model.name} ${bundle.version} of ${namesIn(model)}`)
      await runtime.retire(program.id)
    },
  }
  const live = new LiveFleet(models, runner, events)
  return {
    path,
    runtime,
    live,
    deploys,
    told,
    scan,
    /** Looks once; returns what was told. */
    refresh: async () => {
      told.length = 0
      const refreshed = await live.refresh(scan)
      return { ...refreshed, told: [...told] }
    },
    put: async (name: string, content: string | Buffer) => {
      await mkdir(dirname(join(path, name)), { recursive: true })
      await writeFile(join(path, name), content)
    },
    remove: (name: string) => rm(join(path, name), { recursive: true }),
    ask: (model: string, version: string, x: number) => ask(runtime, live.models.get(model)?.versions.get(version), x),
  }
}

const namesIn = ({ versions }: Model) => [...versions.keys()].join(',')

const stateOf = (live: LiveFleet, wanted: string): VersionStatus | undefined =>
  live.states.find(({ model, version }) => `${model} ${version}` === wanted)

suite('a look at the store', { concurrency: 2 }, () => {
  test('that finds nothing new tells nothing and loads nothing', async (t) => {
    const { refresh, deploys } = await served(t, { 'm/1/m.onnx': plus(1), 'loose.onnx': plus(2) })
    assert.deepEqual(await refresh(), { ready: [], failed: [], gone: [], mistakes: [], told: [] })
    assert.deepEqual(deploys, ['loose 1', 'm 1'])
  })

  test('loads new versions and new models, from the oldest to the newest, and each answers', async (t) => {
    const { refresh, put, ask: answer, live } = await served(t, { 'm/2/m.onnx': plus(2) })
    for (const version of [10, 9, 1]) await put(`m/${version}/m.onnx`, plus(version))
    await put('new/1/n.onnx', plus(100, 'z'))
    const { told, ready } = await refresh()
    assert.deepEqual(told, ['ready m 1 of 1,2', 'ready m 9 of 1,2,9', 'ready m 10 of 1,2,9,10', 'ready new 1 of 1'])
    assert.deepEqual(ready.map(({ model, version, state }) => [model, version, state]).at(-1), ['new', '1', 'ready'])
    for (const version of [1, 2, 9, 10]) assert.equal(await answer('m', String(version), 5), 5 + version)
    assert.equal(await answer('new', '1', 5), 105)
    assert.deepEqual(
      live.models.get('new')!.contract.outputs.map(({ name }) => name),
      ['z'],
    )
    assert.deepEqual((await refresh()).told, [])
  })

  test('warms new versions up', async (t) => {
    const { refresh, put, live } = await served(t, { 'm/1/m.onnx': plus(1) }, { warmUpMs: 500 })
    await put('m/2/m.onnx', plus(2))
    await refresh()
    assert.ok(live.models.get('m')!.versions.get('2')!.firstRuns.length > 0)
  })

  test('tells once of what fails, leaves nothing of it, and tries it again when it has become another', async (t) => {
    const { refresh, put, runtime, deploys, live, ask: answer } = await served(t, { 'm/1/m.onnx': plus(1) })
    const bytes = runtime.bytes
    await put('m/2/m.onnx', plus(2))
    await put('m/2/golden/a.json', golden(1, 4))
    await put('m/3/m.onnx', 'half a copy')
    await put('m/4/m.onnx', plus(4, 'other'))
    await put('m/5/m.onnx', plus(5))
    const { told, failed } = await refresh()
    assert.equal(told.length, 4)
    assert.equal(told[0], 'failed m/2/m.onnx: m/2/golden/a.json: output "y": element 0: expected 4, found 3')
    assert.match(told[1]!, /^failed m\/3\/m\.onnx: not an ONNX model/)
    assert.match(told[2]!, /^failed m\/4\/m\.onnx: version 4 does not serve the contract of "m": /)
    assert.equal(told[3], 'ready m 5 of 1,5')
    assert.deepEqual(
      failed.map(({ version, state }) => [version, state]),
      [
        ['2', 'failed'],
        ['3', 'failed'],
        ['4', 'failed'],
      ],
    )
    assert.match(stateOf(live, 'm 3')!.problem!, /not an ONNX model/)
    assert.equal(Object.keys(runtime.deployments).length, 2)
    assert.equal(runtime.bytes, 2 * bytes)

    const tries = deploys.length
    assert.deepEqual((await refresh()).told, [])
    assert.equal(deploys.length, tries)
    await put('m/2/golden/a.json', golden(1, 3))
    assert.deepEqual((await refresh()).told, ['ready m 2 of 1,2,5'])
    assert.equal(await answer('m', '2', 7), 9)
    assert.equal(stateOf(live, 'm 2')!.state, 'ready')
  })

  test('forgets a failed version that has gone', async (t) => {
    const { refresh, put, remove, live } = await served(t, { 'm/1/m.onnx': plus(1) })
    await put('m/2/m.onnx', 'no model')
    assert.equal((await refresh()).told.length, 1)
    await remove('m/2')
    assert.deepEqual((await refresh()).told, [])
    assert.equal(stateOf(live, 'm 2'), undefined)
    await put('m/2/m.onnx', 'no model')
    assert.equal((await refresh()).told.length, 1)
  })

  test('tells of a version that has changed in place, and goes on with what it was', async (t) => {
    const { refresh, put, ask: answer, live, deploys } = await served(t, { 'm/1/m.onnx': plus(1) })
    const { digest } = stateOf(live, 'm 1')!
    const why = 'its files have become others (DIGEST): a version is immutable, give the new one a new name'
    await put('m/1/m.onnx', plus(50))
    const { told, failed, ready } = await refresh()
    assert.deepEqual([told, ready], [[`failed m/1/m.onnx: ${why}`], []])
    assert.equal(failed[0]!.state, 'ready')
    assert.deepEqual((await refresh()).told, [])
    assert.equal(stateOf(live, 'm 1')!.digest, digest)
    assert.match(stateOf(live, 'm 1')!.problem!, /immutable/)
    assert.equal(await answer('m', '1', 5), 6)
    await put('m/1/m.onnx', plus(60))
    assert.equal((await refresh()).told.length, 1, 'it has changed again')
    await put('m/1/m.onnx', plus(1))
    assert.deepEqual((await refresh()).told, [])
    assert.equal(stateOf(live, 'm 1')!.problem, undefined)
    assert.deepEqual(deploys, ['m 1'])
  })

  test('announces what is gone, after what came in its place, and then nothing is left of it', async (t) => {
    const { refresh, put, remove, runtime, live } = await served(t, { 'm/1/m.onnx': plus(1), 'n/1/n.onnx': plus(9) })
    const first = live.models.get('m')!.versions.get('1')!
    const bytes = runtime.bytes
    await put('m/2/m.onnx', plus(2))
    await remove('m/1')
    const { told, gone } = await refresh()
    assert.deepEqual(told, ['ready m 2 of 1,2', 'gone m 1 of 2'])
    assert.deepEqual(
      gone.map(({ version, state }) => [version, state]),
      [['1', 'draining']],
    )
    await until('it is retired', () => Promise.resolve(stateOf(live, 'm 1')!.state === 'retired'))
    assert.equal(runtime.deployments[first.program.id], undefined)
    assert.deepEqual(
      Object.values(runtime.deployments).map(({ id }) => id),
      [1, 2],
    )
    assert.equal(runtime.bytes, bytes)
    assert.equal(await ask(runtime, first, 1), undefined)
    assert.deepEqual((await refresh()).told, [])
  })

  test('takes a model away with its last version, and another may have its name and a contract of its own', async (t) => {
    const { refresh, put, remove, live, ask: answer } = await served(t, { 'm/1/m.onnx': plus(1), 'n.onnx': plus(9) })
    await remove('m')
    assert.deepEqual((await refresh()).told, ['gone m 1 of '])
    assert.deepEqual([...live.models.keys()], ['n'])
    await until('it is retired', () => Promise.resolve(stateOf(live, 'm 1')!.state === 'retired'))
    await put('m/1/m.onnx', plus(3, 'z'))
    assert.deepEqual((await refresh()).told, ['ready m 1 of 1'])
    assert.equal(await answer('m', '1', 1), 4)
  })

  test('takes nothing away because of what it cannot read, and tells of that once', async (t) => {
    const store = { 'm/1/m.onnx': plus(1), 'loose.onnx': plus(2), 'n/1/n.onnx': plus(3), 'n/2/n.onnx': plus(4) }
    const { path, refresh, put, remove, live } = await served(t, store)
    await put('m/1/manifest.yaml', 'nonsense: 1')
    await put('bad/1/b.onnx', plus(1))
    await put('bad/1/manifest.yaml', 'nonsense: 1')
    await remove('loose.onnx')
    const { told, mistakes } = await refresh()
    assert.deepEqual(told, ['gone loose 1 of '], 'the mistakes of others do not keep it')
    const places = mistakes.map(({ file }) => relative(path, file))
    assert.deepEqual(places.toSorted(), ['bad/1/manifest.yaml', 'm/1/manifest.yaml'])
    assert.deepEqual((await refresh()).mistakes, [])
    assert.deepEqual([...live.models.keys()], ['m', 'n'])

    await rename(path, `${path}.away`)
    const away = await refresh()
    await rename(`${path}.away`, path)
    assert.deepEqual(away.told, [])
    assert.match(away.mistakes[0]!.message, /no such folder/)
    assert.deepEqual((await refresh()).told, [])
    assert.equal(live.models.get('n')!.versions.size, 2)
  })

  test('does not load a version that lies in two places', async (t) => {
    const { refresh, put, remove } = await served(t, { 'm/1/m.onnx': plus(1) })
    await put('twin.onnx', plus(2))
    await put('twin/1/t.onnx', plus(3))
    const { told, mistakes } = await refresh()
    assert.deepEqual([told, mistakes.length], [[], 1])
    await remove('twin.onnx')
    assert.deepEqual((await refresh()).told, ['ready twin 1 of 1'])
  })

  test('is one at a time, and all that ask meanwhile share the next', async (t) => {
    const { put, live, scan, told } = await served(t, { 'm/1/m.onnx': plus(1) })
    let [looks, atOnce, most] = [0, 0, 0]
    const counted = async () => {
      looks++
      most = Math.max(most, ++atOnce)
      const scanned = await scan()
      await put(`m/${looks + 1}/m.onnx`, plus(looks + 1))
      atOnce--
      return scanned
    }
    const all = [live.refresh(counted), live.refresh(counted), live.refresh(counted), live.refresh(counted)]
    const refreshed = await Promise.all(all)
    assert.deepEqual([looks, most], [2, 1])
    assert.equal(refreshed[1], refreshed[3])
    assert.deepEqual(
      refreshed.map(({ ready }) => ready.length),
      [0, 1, 1, 1],
    )
    assert.deepEqual(told, ['ready m 2 of 1,2'])
    await live.refresh(counted)
    assert.equal(looks, 3)
  })

  test('that could not be made does not stand in the way of the next', async (t) => {
    const { live, scan } = await served(t, { 'm/1/m.onnx': plus(1) })
    const broken = live.refresh(() => Promise.reject(new Error('no')))
    const next = live.refresh(scan)
    await assert.rejects(broken, /no/)
    assert.deepEqual((await next).mistakes, [])
  })

  test('loads nothing and tells nothing once the fleet and its runtime are closed', async (t) => {
    const { live, put, told, runtime, scan } = await served(t, { 'm/1/m.onnx': plus(1) })
    await put('m/2/m.onnx', plus(2))
    await put('m/3/m.onnx', plus(3))
    const looking = live.refresh(scan)
    await until('one is being loaded', () => Promise.resolve(stateOf(live, 'm 2')?.state === 'loading'))
    live.close()
    assert.equal(await runtime.close(5_000), true)
    const { ready, failed, gone } = await looking
    assert.deepEqual([told, ready, failed, gone], [[], [], [], []])
    assert.equal(runtime.bytes, 0)
  })
})
