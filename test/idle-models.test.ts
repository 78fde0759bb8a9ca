/** Versions that nobody asks for leave, come back when somebody does, and share the memory that there is for them. */
import assert from 'node:assert/strict'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { admin, binaryTensor, fixed, outcomes, post, samples, until as untilNow } from './support/client.ts'
import { withBinary } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { folderWith, startGateway, tensor, type Reply, type TestGateway } from './support/gateway.ts'
import { looping, slow } from './support/models.ts'
import { identity, onnx } from './support/onnx.ts'
import { penstock } from './support/process.ts'
import { Wire, wireRequest } from './support/socket.ts'

const isolations = ['thread', 'process'] as const
type Isolation = (typeof isolations)[number]

/** Adds so much to its numbers. */
function plus(addend: number, output: string = 'y'): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
    outputs: [{ name: output, type: 'INT64', shape: ['n', 1] }],
    constants: [{ name: 'addend', type: 'INT64', shape: [1], data: [addend] }],
    nodes: [{ op: 'Add', inputs: ['x', 'addend'], outputs: [output] }],
  })
}

/** `m0`, `m1` and so on: each adds its own number. */
function family(count: number): Record<string, Buffer> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`m${i}.onnx`, plus(i)]))
}

/** One worker for each version, without warm-up. */
function quick(isolation: Isolation, runtime: object = {}) {
  return { executors: 1, warmUpMs: 0, worker: { isolation }, ...runtime }
}

/** Most of what these tests do is to wait until somebody has left; they leave each other the time to. */
const lookMs = 25
const until = (what: string, holds: () => Promise<boolean>) =>
  untilNow(what, async () => (await holds()) || sleep(lookMs, false))
const atOnce = { concurrency: 3 }

const rowOf = (x: number) => ({ inputs: [tensor('x', 'INT64', [1, 1], [x])] })
const ask = (served: TestGateway, model: string, x: number = 1) => served.infer(model, rowOf(x))

function answerOf({ status, json }: Reply): number {
  assert.equal(status, 200, JSON.stringify(json))
  return json.outputs[0].data[0]
}

function refusedAs(code: string, { status, json }: Reply): void {
  assert.deepEqual([status, json.code], [503, code])
}

/** Where a model's version is, and what runs it. */
async function placeOf(served: TestGateway, model: string): Promise<any> {
  const { models } = await admin(served, '/admin/status')
  return models.find(({ name }: { name: string }) => name === model).versions[0]
}

/** Settles once a model is as it is said, and nothing is left of it if it is `unloaded`. */
const reaches = (served: TestGateway, model: string, wanted: 'unloaded' | 'loaded') =>
  until(`${model} is ${wanted}`, async () => {
    const { state, workers } = await placeOf(served, model)
    return state === wanted && (state === 'loaded' || workers.bytes === 0)
  })
const left = (served: TestGateway, model: string) => reaches(served, model, 'unloaded')

async function loadedOf(served: TestGateway): Promise<string[]> {
  const { models } = await admin(served, '/admin/status')
  return models.filter(({ versions }: any) => versions[0].state === 'loaded').map(({ name }: any) => name)
}

/** What was just loaded may stay for twice the time of its load, even if it is the one that should leave. */
async function settled(served: TestGateway): Promise<void> {
  const { models } = await admin(served, '/admin/status')
  await sleep(2 * Math.max(...models.map(({ versions }: any) => versions[0].loadMs)) + 20)
}

/** Looks at the memory of the models time and again, until it is told to stop; then it says how much there was at most. */
function watchMemory(served: TestGateway): () => Promise<number> {
  const over = new AbortController()
  const watch = async () => {
    let most = 0
    for (; !over.signal.aborted; await sleep(lookMs))
      most = Math.max(most, (await admin(served, '/admin/status')).modelBytes)
    return most
  }
  const watching = watch()
  return () => {
    over.abort()
    return watching
  }
}

/** A model whose load, with its warm-up, takes a while. */
const weighty = { 'm.onnx': slow(8) }
const weightyRow = { inputs: [tensor('x', 'FP32', [1, 1], [5])] }

for (const isolation of isolations)
  suite(`as a ${isolation}`, atOnce, () => {
    test('a model without requests leaves, and one load answers all that come at once', async (t) => {
      const served = await startGateway(t, {
        store: { 'm.onnx': plus(7), 'keep.onnx': plus(1) },
        settings: {
          runtime: quick(isolation, { unloadAfterS: 0.1 }),
          models: { keep: { unloadAfterS: 3_600 } },
        },
      })
      for (let round = 1; round <= 2; round++) {
        await left(served, 'm')
        const { workers } = await placeOf(served, 'm')
        assert.deepEqual([workers.ready, workers.deaths], [0, 0])
        const numbers = Array.from({ length: 30 }, (_, i) => 100 * round + i)
        const replies = await Promise.all(numbers.map((x) => ask(served, 'm', x)))
        assert.deepEqual(
          replies.map(answerOf),
          numbers.map((x) => x + 7),
        )
        assert.equal((await placeOf(served, 'm')).coldStarts, round)
      }
      const seen = await samples(served)
      assert.equal(seen.get('penstock_cold_starts_total{model="m",version="1"}'), 2)
      assert.equal(seen.get('penstock_cold_starts_total{model="keep",version="1"}'), 0)
      assert.equal(seen.get('penstock_workers{model="keep",version="1"}'), 1)
      assert.equal((await placeOf(served, 'keep')).state, 'loaded')
    })

    test('a request that cannot wait for the load is refused at once, and brings it about', async (t) => {
      const settings = {
        runtime: quick(isolation, { warmUpMs: 200 }),
        models: { m: { unloadAfterS: 0.5 } },
      }
      const served = await startGateway(t, { store: weighty, settings })
      await left(served, 'm')
      const { status, json, headers } = await post(served, 'm', JSON.stringify(weightyRow), {
        'x-request-timeout-ms': '20',
      })
      assert.deepEqual([status, json.code], [503, 'not_ready'])
      assert.match(headers.get('retry-after')!, /^[1-9]\d*$/)
      await reaches(served, 'm', 'loaded')
      assert.equal(answerOf(await served.infer('m', weightyRow)), 5)
      assert.equal((await placeOf(served, 'm')).coldStarts, 1)
    })

    test('a client that hangs up during the load disturbs nobody', async (t) => {
      const settings = { runtime: quick(isolation, { warmUpMs: 200, unloadAfterS: 0.1 }) }
      const served = await startGateway(t, { store: weighty, settings })
      for (const others of [2, 0]) {
        await left(served, 'm')
        const wire = await Wire.open(t, served.url)
        wire.write(wireRequest('m', JSON.stringify(weightyRow)))
        const replies = Array.from({ length: others }, () => served.infer('m', weightyRow))
        await until('all wait', async () => {
          const { state, queuedRows } = await placeOf(served, 'm')
          return state === 'loading' && queuedRows === 1 + others
        })
        wire.hangUp()
        for (const reply of replies) assert.equal(answerOf(await reply), 5)
      }
      await until('it was noticed', async () => (await outcomes(served, 'm', 'abandoned')) === 2)
      assert.equal(answerOf(await served.infer('m', weightyRow)), 5)
      assert.equal((await placeOf(served, 'm')).workers.deaths, 0)
    })

    test('nothing leaves under a request, however long it runs or waits', async (t) => {
      const settings = {
        runtime: quick(isolation, { unloadAfterS: 0.05, watchdog: { leastMs: 30_000 } }),
        // One by one, so that the second has to wait for the first.
        models: { m: { batching: fixed(1, 0) }, pair: { batching: fixed(2, 1_200) } },
      }
      const served = await startGateway(t, { store: { 'm.onnx': looping, 'pair.onnx': plus(1) }, settings })
      await Promise.all([left(served, 'm'), left(served, 'pair')])
      const long = [500_000, 500_001]
      const replies = Promise.all(long.map((x) => ask(served, 'm', x)))
      await until('one waits behind the other', async () => {
        const { workers, queuedRows } = await placeOf(served, 'm')
        return workers.ready === 1 && queuedRows === 1
      })
      const over = new AbortController()
      void replies.finally(() => over.abort())
      for (; !over.signal.aborted; await sleep(lookMs)) {
        const { state } = await placeOf(served, 'm')
        assert.ok(over.signal.aborted || state !== 'unloaded', 'it left')
      }
      assert.deepEqual((await replies).map(answerOf), long)
      await left(served, 'm')
      // Waits for company that does not come, with nothing running.
      assert.equal(answerOf(await ask(served, 'pair')), 2)
      for (const model of ['m', 'pair']) {
        const { coldStarts, workers } = await placeOf(served, model)
        assert.deepEqual([coldStarts, workers.deaths], [1, 0])
      }
    })

    test('without its file a model refuses, those who wait too, and it is back when the file is', async (t) => {
      const path = await folderWith({ 'm.onnx': plus(7), 'other.onnx': plus(1) })
      const settings = { runtime: quick(isolation), models: { m: { unloadAfterS: 0.1 } } }
      const served = await startGateway(t, { store: path, settings })
      const [here, away] = [join(path, 'm.onnx'), join(path, 'm.away')]
      await left(served, 'm')
      await rename(here, away)
      for (const reply of await Promise.all([1, 2, 3, 4].map((x) => ask(served, 'm', x)))) refusedAs('not_ready', reply)
      const again = await ask(served, 'm')
      refusedAs('not_ready', again)
      assert.match(again.headers.get('retry-after')!, /^[1-9]\d*$/)
      assert.equal((await served.get('/v2/models/m/ready')).status, 503)
      assert.equal((await served.get('/v2/health/ready')).status, 200)
      assert.equal(answerOf(await ask(served, 'other')), 2)
      await rename(away, here)
      await until('it is back', async () => (await ask(served, 'm')).status === 200)
      assert.equal(answerOf(await ask(served, 'm', 3)), 10)
      assert.equal((await served.get('/v2/models/m/ready')).status, 200)
    })
  })

/** A gateway in a process of its own, whose log can be read when it has ended. */
async function serveApart(t: TestContext, files: Record<string, Buffer>) {
  const settings = {
    auth: 'none',
    edge: { port: 0, drain: { idleMs: 0 } },
    metrics: { port: 0 },
    admin: { port: 0 },
    store: { path: '.' },
    runtime: quick('thread', { unloadAfterS: 0.1 }),
  }
  const folder = await folderWith({ 'penstock.yaml': stringify(settings), ...files })
  const spawned = penstock(t, ['serve', join(folder, 'penstock.yaml')])
  const [, url, adminUrl] = await spawned.said(/ at (http:\S+), metrics at .* status at (http:\S+)\/admin\/status\n/)
  const stop = async () => {
    spawned.child.kill('SIGTERM')
    const { stderr } = await spawned.finished
    return stderr.split('\n').filter((line) => line !== '')
  }
  return { served: { url, adminUrl } as unknown as TestGateway, file: join(folder, 'm.onnx'), stop }
}

const ask2 = (served: TestGateway, x: number) => post(served, 'm', JSON.stringify(rowOf(x)))

suite('on a budget, and with files that change', atOnce, () => {
  test('fifty versions share the memory of ten, and whoever asks gets the right answer', async (t) => {
    const budgetMb = 85
    const served = await startGateway(t, {
      store: family(50),
      settings: { runtime: quick('thread', { memoryMb: budgetMb }) },
    })
    const stop = watchMemory(served)
    const draw = drawFrom(5)
    for (let i = 0; i < 50; i++) {
      const [which, x] = [(7 + i * 31) % 50, draw(1_000)]
      assert.equal(answerOf(await ask(served, `m${which}`, x)), which + x)
    }
    const asked = Array.from({ length: 32 }, () => draw(50))
    const next = asked.values()
    const client = async () => {
      for (const which of next) {
        const x = draw(1_000)
        assert.equal(answerOf(await ask(served, `m${which}`, x)), which + x)
      }
    }
    await Promise.all(Array.from({ length: 8 }, client))
    assert.ok((await stop()) <= budgetMb * 2 ** 20)
    assert.ok((await loadedOf(served)).length <= 10)
  })

  test('the version that was asked for longest ago leaves first', async (t) => {
    const served = await startGateway(t, { store: family(4), settings: { runtime: quick('thread', { memoryMb: 17 }) } })
    assert.deepEqual(await loadedOf(served), ['m2', 'm3'])
    await settled(served)
    for (const [i, stay] of [
      [0, ['m0', 'm3']],
      [3, ['m0', 'm3']],
      [1, ['m1', 'm3']],
      [1, ['m1', 'm3']],
      [2, ['m1', 'm2']],
    ] as const) {
      assert.equal(answerOf(await ask(served, `m${i}`, 1)), 1 + i)
      assert.deepEqual(await loadedOf(served), stay, `after m${i}`)
      await settled(served)
    }
  })

  test('processes share a budget too', async (t) => {
    const runtime = quick('process', { memoryMb: 300 })
    const served = await startGateway(t, { store: family(4), settings: { runtime } })
    const stop = watchMemory(served)
    for (const i of [0, 1, 2, 3]) assert.equal(answerOf(await ask(served, `m${i}`, 10)), 10 + i)
    const all = [0, 1, 2, 3, 3, 2, 1, 0]
    const replies = await Promise.all(all.map((i) => ask(served, `m${i}`, 5)))
    for (const [at, i] of all.entries()) assert.equal(answerOf(replies[at]!), 5 + i)
    assert.ok((await stop()) <= 300 * 2 ** 20)
  })

  test('if processes grow beyond the budget, one of them leaves', async (t) => {
    const store = { 'a.onnx': identity('FP32', ['n', 'w']), 'b.onnx': identity('FP32', ['n', 'w']) }
    const served = await startGateway(t, { store, settings: { runtime: quick('process', { memoryMb: 250 }) } })
    const inputs = [binaryTensor('x', 'FP32', [1, 3_000_000], 12_000_000)]
    const { body, headers } = withBinary(
      { inputs, parameters: { binary_data_output: true } },
      new Float32Array(3_000_000),
    )
    for (const model of ['a', 'b', 'b']) assert.equal((await post(served, model, body, headers)).status, 200)
    await left(served, 'a')
    assert.deepEqual(await loadedOf(served), ['b'])
  })

  test('a request that waits for room is answered, and waited for one load', async (t) => {
    const served = await startGateway(t, { store: family(3), settings: { runtime: quick('thread', { memoryMb: 17 }) } })
    // Those that were loaded just before may stay for a while.
    for (const i of [0, 1, 2, 0, 1, 2]) {
      const before = await placeOf(served, `m${i}`)
      assert.equal(answerOf(await ask(served, `m${i}`, 1)), 1 + i)
      const { coldStarts } = await placeOf(served, `m${i}`)
      assert.equal(coldStarts - before.coldStarts, before.state === 'loaded' ? 0 : 1)
    }
  })

  test('a version that is larger than the memory for all is a mistake that names both', async (t) => {
    for (const [runtime, needed, has] of [
      [{ executors: 1, memoryMb: 8 }, 9, 8],
      [{ executors: 3, memoryMb: 24 }, 25, 24],
      [{ executors: 1, memoryMb: 100, worker: { isolation: 'process' } }, 111, 100],
    ] as const) {
      const message = new RegExp(`m0\\.onnx: its workers need about ${needed} MiB, and .runtime\\.memoryMb. is ${has}`)
      await assert.rejects(startGateway(t, { store: family(1), settings: { runtime } }), message)
    }
  })

  test('a file that has become another while it was unloaded is refused, and the log says why', async (t) => {
    const { served, file, stop } = await serveApart(t, { 'm.onnx': plus(7) })
    await left(served, 'm')
    await writeFile(file, plus(7, 'z'))
    refusedAs('not_ready', await ask2(served, 1))
    await writeFile(file, plus(7))
    await until('it is back', async () => (await ask2(served, 1)).status === 200)
    const [line, ...others] = (await stop()).map((each) => JSON.parse(each))
    assert.deepEqual([line.model, line.version, line.msg, others], ['m', '1', 'a worker cannot be made ready', []])
    assert.match(line.reason, /become .* since it was first loaded: give .* a new version$/)
  })

  test('a file that has become another with the same inputs and outputs is refused as well', async (t) => {
    const { served, file } = await serveApart(t, { 'm.onnx': plus(7) })
    await left(served, 'm')
    await writeFile(file, plus(8))
    refusedAs('not_ready', await ask2(served, 1))
  })
})
