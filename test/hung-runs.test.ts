/** Runs that never return, in threads and in processes, and what is left when the gateway is told to stop or is killed. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { admin, fixed, outcomes, samples, until } from './support/client.ts'
import { folderWith, repository, startGateway, tensor, type TestGateway } from './support/gateway.ts'
import { forever, looping, stuck } from './support/models.ts'
import { identity } from './support/onnx.ts'
import { Wire, wireRequest } from './support/socket.ts'

type Files = Readonly<Record<string, string | Buffer>>
const echo = { 'echo.onnx': identity('INT64', ['n', 1]) }
const store: Files = { 'm.onnx': looping, ...echo }
/** No run of it is repeated. */
const once: Files = {
  'm/1/model.onnx': looping,
  'm/1/manifest.yaml': '{ summary: s, owner: o, licence: l, sideEffects: true }',
  ...echo,
}
const watchful = { leastMs: 1_000, mostMs: 1_000, factor: 2 }
/** A watchdog that does nothing for as long as a test takes. */
const patient = { leastMs: 60_000, mostMs: 60_000, factor: 2 }

/** A model alone with its executor, and one beside it with another. */
function beside(isolation: string, watchdog: object, batching: object = {}) {
  return {
    runtime: { executors: 1, pools: { other: { executors: 1 } }, watchdog },
    models: { m: { worker: { isolation }, batching }, echo: { pool: 'other' } },
  }
}

const stuckEnd = {
  code: 70,
  stderr: 'penstock: a worker was still in a run after 1000 ms: the process ends without it\n',
}

/** Where a gateway is to be found, in this process or another. */
type Place = Pick<TestGateway, 'url' | 'adminUrl' | 'metricsUrl'>
const at = (place: Place) => place as TestGateway

interface Served extends Place {
  readonly pid: number
  /** Settles when the process has ended; fails if it does not. */
  finish(): Promise<{ code: number | null; stderr: string }>
}

/** The command as a process that leads a group, as a terminal starts it; nothing of the group outlives the test. */
async function serve(t: TestContext, settings: object, files: Files = store): Promise<Served> {
  const quick = {
    auth: 'none',
    edge: { port: 0, drain: { idleMs: 0, timeoutMs: 1_000 } },
    metrics: { port: 0 },
    admin: { port: 0 },
    store: { path: '.' },
    log: { level: 'silent' },
    ...settings,
  }
  const folder = await folderWith({ 'penstock.yaml': stringify(quick), ...files })
  const args = [join(repository, 'src/main.ts'), 'serve', join(folder, 'penstock.yaml')]
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  t.after(() => end(-child.pid!))
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const hasEnded = () => Promise.resolve(child.exitCode !== null || child.signalCode !== null)
  const finish = async () => {
    await until('the process ends', hasEnded)
    return { code: child.exitCode, stderr }
  }
  const banner = / at (http:\S+), metrics at (http:\S+)\/metrics, status at (http:\S+)\/admin\/status\n/
  await until('it serves', async () => banner.test(stdout) || (await hasEnded()))
  const [, url, metricsUrl, adminUrl] = banner.exec(stdout) ?? assert.fail(stderr)
  return { pid: child.pid!, finish, url: url!, metricsUrl: metricsUrl!, adminUrl: adminUrl! }
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

const bodyOf = (x: number) => JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [x])] })

async function ask({ url }: Place, x: number, model: string = 'm'): Promise<{ status: number; json: any }> {
  const headers = { 'content-type': 'application/json' }
  const reply = await fetch(`${url}/v2/models/${model}/infer`, { method: 'POST', headers, body: bodyOf(x) })
  return { status: reply.status, json: await reply.json() }
}

/** A request whose client is gone once its run is under way. */
async function askAndLeave(t: TestContext, served: Served, x: number): Promise<void> {
  const wire = await Wire.open(t, served.url)
  wire.write(wireRequest('m', bodyOf(x)))
  await inRun(served)
  wire.hangUp()
}

function answered({ status, json }: Awaited<ReturnType<typeof ask>>, x: number): void {
  assert.deepEqual([status, json.outputs?.[0].data], [200, [x]], JSON.stringify(json))
}

function refused({ status, json }: Awaited<ReturnType<typeof ask>>, expected: number, code: string): void {
  assert.deepEqual([status, json.code], [expected, code])
}

async function workersOf(served: Place) {
  const { models } = await admin(at(served), '/admin/status')
  return models.find(({ name }: { name: string }) => name === 'm').versions[0].workers
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
}

/** What the kernel says of a process or thread; undefined when it has ended, be it that nobody has taken note. */
function stateOf(pid: number): { readonly computed: number } | undefined {
  if (!existsSync(`/proc/${pid}/stat`)) return undefined
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return fields[0] === 'Z' ? undefined : { computed: Number(fields[11]) }
}

/** Settles when the gateway or a worker of it has computed for a while, with nothing but a run to do. */
async function inRun({ pid }: Served): Promise<void> {
  const all = [pid, ...childrenOf(pid)]
  const before = all.map((each) => stateOf(each)!.computed)
  await until('it computes', async () => all.some((each, i) => stateOf(each)!.computed - before[i]! >= 10))
}

async function gone(pids: readonly number[]): Promise<void> {
  await until('the workers are gone', async () => pids.every((pid) => stateOf(pid) === undefined))
}

suite('a run in a process that never returns', () => {
  test('costs its request two workers, and no other request anything', async (t) => {
    const served = await startGateway(t, { store, settings: beside('process', watchful, fixed(2, 30_000)) })
    const [hung, shared] = [ask(served, forever), ask(served, 5)]
    answered(await ask(served, 1, 'echo'), 1)
    refused(await hung, 500, 'model_failed')
    answered(await shared, 5)
    const [a, b] = await Promise.all([ask(served, 6), ask(served, 7)])
    answered(a, 6)
    answered(b, 7)
    const { ready, deaths, hungThreads } = await workersOf(served)
    assert.deepEqual({ ready, deaths, hungThreads }, { ready: 1, deaths: 2, hungThreads: 0 })
    assert.equal(await outcomes(served, 'm', 'model_failed'), 1)
  })

  test('is ended when the command is told to stop: the exit code is 0, and nothing is left', async (t) => {
    const served = await serve(t, beside('process', patient))
    await askAndLeave(t, served, forever)
    const workers = childrenOf(served.pid)
    assert.equal(workers.length, 1)
    process.kill(served.pid, 'SIGTERM')
    assert.deepEqual(await served.finish(), { code: 0, stderr: '' })
    await gone(workers)
  })
})

suite('a run in a thread that never returns', () => {
  test('fails when the watchdog gives it up, is counted, and the version serves on', async (t) => {
    const served = await serve(t, beside('thread', watchful))
    refused(await ask(served, forever), 500, 'model_failed')
    answered(await ask(served, 3), 3)
    answered(await ask(served, 1, 'echo'), 1)
    const { ready, deaths, hungThreads } = await workersOf(served)
    assert.deepEqual({ ready, deaths, hungThreads }, { ready: 1, deaths: 1, hungThreads: 1 })
    const seen = await samples(at(served))
    assert.equal(seen.get('penstock_hung_threads{model="m",version="1"}'), 1)
    assert.equal(seen.get('penstock_worker_deaths_total{model="m",version="1"}'), 1)
    assert.equal(seen.get('penstock_extra_runs_total{model="m",version="1"}'), 0)
    process.kill(served.pid, 'SIGTERM')
    assert.deepEqual(await served.finish(), stuckEnd)
  })

  test('makes its version unready where too many hang, for those who wait too, and no other', async (t) => {
    const served = await serve(t, beside('thread', { ...watchful, hungThreads: 1 }))
    refused(await ask(served, forever), 500, 'model_failed')
    answered(await ask(served, 2), 2)
    const hung = ask(served, forever)
    await inRun(served)
    const waiting = ask(served, 3)
    refused(await hung, 500, 'model_failed')
    refused(await waiting, 503, 'not_ready')
    refused(await ask(served, 4), 503, 'not_ready')
    answered(await ask(served, 1, 'echo'), 1)
    const { ready, deaths, hungThreads } = await workersOf(served)
    assert.deepEqual({ ready, deaths, hungThreads }, { ready: 0, deaths: 2, hungThreads: 2 })
    const statusOf = async (path: string) => (await fetch(`${served.url}/v2/${path}`)).status
    assert.equal(await statusOf('models/m/ready'), 503)
    assert.equal(await statusOf('models/echo/ready'), 200)
    assert.equal(await statusOf('health/ready'), 200)
  })

  test('that is under way when the command is told to stop makes it end with exit code 70', async (t) => {
    const served = await serve(t, beside('thread', patient))
    await askAndLeave(t, served, forever)
    process.kill(served.pid, 'SIGTERM')
    assert.deepEqual(await served.finish(), stuckEnd)
  })
})

suite('worker processes', { concurrency: 2 }, () => {
  test('finish what they run when a Ctrl-C goes to everybody in the terminal', async (t) => {
    const settings = { ...beside('process', patient), edge: { port: 0, drain: { idleMs: 0 } } }
    // Another worker would not help it.
    const served = await serve(t, settings, once)
    const reply = ask(served, 500_000)
    await inRun(served)
    const workers = childrenOf(served.pid)
    process.kill(-served.pid, 'SIGINT')
    answered(await reply, 500_000)
    assert.deepEqual(await served.finish(), { code: 0, stderr: '' })
    await gone(workers)
  })

  for (const [what, x] of [
    ['idle', 1],
    ['in a run', 500_000],
    ['in a run that never returns', forever],
  ] as const) {
    test(`that are ${what} end by themselves when the gateway is killed`, async (t) => {
      const served = await serve(t, beside('process', patient))
      const asked = ask(served, x).catch(() => 'cut')
      if (x === 1) await asked
      else await inRun(served)
      const workers = childrenOf(served.pid)
      assert.equal(workers.length, 1)
      process.kill(served.pid, 'SIGKILL')
      await served.finish()
      await gone(workers)
    })
  }
})

suite('a model that never returns, not even when it is tried at load,', { concurrency: 2 }, () => {
  for (const isolation of ['thread', 'process']) {
    test(`does not keep the command from starting, or ending, for longer than loadMs: in a ${isolation}`, async (t) => {
      const settings = beside(isolation, { ...patient, loadMs: 1_000 })
      const served = await serve(t, settings, { ...store, 'm.onnx': stuck }).catch((problem: Error) => problem.message)
      if (typeof served === 'string') return assert.match(served, /m\.onnx: /)
      refused(await ask(served, 1), 503, 'not_ready')
      answered(await ask(served, 1, 'echo'), 1)
    })
  }
})
