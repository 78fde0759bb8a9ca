/** Penstock as a process: how it starts, what it says, and how it stops without losing a request. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import { http1Fronts } from '../src/edge/http1/options.ts'
import { until } from './support/client.ts'
import { folderWith, ownStore, repository, startGateway, tensor } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { penstock, type Spawned } from './support/process.ts'
import { Wire, wireRequest } from './support/socket.ts'

interface Served extends Spawned {
  readonly url: string
  readonly metricsUrl: string
  readonly adminUrl: string
  /** Settles once so many rows wait for a run. */
  queued(rows: number): Promise<void>
}

/** A process that serves the model `echo` on free ports, up and running. */
async function serve(t: TestContext, settings: object = {}): Promise<Served> {
  const quick = {
    auth: 'none',
    edge: { port: 0 },
    metrics: { port: 0 },
    admin: { port: 0 },
    store: { path: '.' },
    ...settings,
  }
  const files = { 'penstock.yaml': stringify(quick), 'echo.onnx': identity('FP32', ['n', 1]) }
  const spawned = penstock(t, ['serve', join(await folderWith(files), 'penstock.yaml')])
  const [, url, metricsUrl, adminUrl] = await spawned.said(
    / at (http:\S+), metrics at (http:\S+)\/metrics, status at (http:\S+)\/admin\/status\n/,
  )
  const rowsNow = async () => {
    const { models } = (await (await fetch(`${adminUrl}/admin/status`)).json()) as any
    return models[0].versions[0].queuedRows as number
  }
  const queued = (rows: number) => until(`${rows} rows wait`, async () => (await rowsNow()) === rows)
  return { ...spawned, url: url!, metricsUrl: metricsUrl!, adminUrl: adminUrl!, queued }
}

/** A request of one row. */
const request = wireRequest('echo', JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [7])] }))

/** A run waits for two such requests, or for this time. */
function inPairs(windowMs: number) {
  return { batching: { policy: { kind: 'fixed', maxRows: 2, windowMs } } }
}

function drain(idleMs: number, { http1 = 'lean', timeoutMs = 20_000 }: { http1?: string; timeoutMs?: number } = {}) {
  return { edge: { port: 0, http1, drain: { idleMs, timeoutMs } } }
}

async function answered(wire: Wire): Promise<string | undefined> {
  const { status, headers, json } = await wire.reply()
  assert.equal(status, 200)
  assert.deepEqual(json.outputs[0].data, [7])
  return headers.get('connection')
}

/** A gateway that has served a connection, and has heard its first Ctrl-C. */
async function interrupted(t: TestContext, settings: object): Promise<Served> {
  const served = await serve(t, settings)
  const wire = await Wire.open(t, served.url)
  wire.write(request)
  await answered(wire)
  served.child.kill('SIGINT')
  await served.said(/SIGINT/)
  return served
}

/** A port that something listens on, until the test is over or `free` is called. */
async function takenPort(t: TestContext) {
  const server = createServer().listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const free = async () => void (await once(server.close(), 'close'))
  return { port: (server.address() as AddressInfo).port, free }
}

/** Runs a line as a person would paste it. */
async function paste(line: string, cwd: string): Promise<any> {
  return JSON.parse((await promisify(execFile)('sh', ['-c', line], { cwd })).stdout)
}

test('the banner says what is served where, and its curl line works when pasted', async (t) => {
  const served = await serve(t, { store: { path: ownStore }, models: { 'breast-cancer': { version: '1' } } })
  const [banner, line] = await served.said(/^penstock serves\n[\s\S]*Try it:\n {2}(curl .*)\n/)
  assert.match(banner, /^ {4}breast-cancer version 1 \(also 2\)$/m)
  assert.match(banner, /^ {4}digits version 2 \(also 1\)$/m)
  const answer = await paste(line!, repository)
  assert.equal(answer.model_name, 'breast-cancer')
  assert.equal(answer.outputs.length, 2)
  assert.match(
    await (await fetch(`${served.metricsUrl}/metrics`)).text(),
    /^penstock_requests_total\{.*code="ok".*\} 1$/m,
  )
})

test('the curl line works for a sample in a folder with a space in its name too', async (t) => {
  const folder = await folderWith({
    'penstock.yaml':
      'auth: none\nedge: { port: 0 }\nmetrics: { port: 0 }\nadmin: { port: 0 }\nstore: { path: my store }\n',
    'my store/echo/1/model.onnx': identity('FP32', ['n', 1]),
    'my store/echo/1/samples/one.json': JSON.stringify({ inputs: [tensor('x', 'FP32', [1, 1], [7])] }),
  })
  const [, line] = await penstock(t, ['serve', 'penstock.yaml'], folder).said(/Try it:\n {2}(curl .*)\n/)
  assert.deepEqual((await paste(line!, folder)).outputs[0].data, [7])
})

test('without samples the banner offers a line that lists the models', async (t) => {
  const [, line] = await (await serve(t)).said(/Try it:\n {2}(curl .*)\n/)
  assert.deepEqual(await paste(line!, repository), { models: ['echo'] })
})

for (const name of ['edge', 'admin'] as const) {
  test(`a port that is in use for the ${name} ends the start with one line that says which key to set`, async (t) => {
    const { port } = await takenPort(t)
    const settings = {
      auth: 'none',
      edge: { port: 0 },
      metrics: { port: 0 },
      admin: { port: 0 },
      store: { path: ownStore },
      [name]: { port },
    }
    const folder = await folderWith({ 'penstock.yaml': stringify(settings) })
    const { code, stdout, stderr } = await penstock(t, ['serve', 'penstock.yaml'], folder).finished
    const why = `penstock: port ${port} is in use: stop the other program, or set \`${name}.port\` to another\n`
    assert.deepEqual({ code, stdout, stderr }, { code: 1, stdout: '', stderr: why })
  })
}

/** One test for each front of HTTP/1.1. */
function onBothFronts(what: string, run: (t: TestContext, http1: (typeof http1Fronts)[number]) => Promise<void>): void {
  for (const front of http1Fronts) test(`${what}, on the ${front} front`, (t) => run(t, front))
}

suite('stopping', { concurrency: 3 }, () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    onBothFronts(
      `${signal} lets what is in flight finish, closes idle connections, and exits with 0`,
      async (t, http1) => {
        const served = await serve(t, { ...inPairs(1_000), ...drain(0, { http1 }) })
        const idle = await Wire.open(t, served.url)
        const busy = await Wire.open(t, served.url)
        const fresh = await Wire.open(t, served.url)
        idle.write(request)
        busy.write(request)
        await Promise.all([answered(idle), answered(busy)])
        busy.write(request)
        await served.queued(1)
        served.child.kill(signal)
        await idle.gone
        await fresh.gone
        assert.equal(await answered(busy), 'close', 'the client must know that nothing may follow')
        await busy.gone
        const { code, stdout, stderr } = await served.finished
        assert.deepEqual([code, stderr], [0, ''])
        assert.match(stdout, new RegExp(`\\n${signal}: finishing what is in flight\\n$`))
      },
    )
  }

  onBothFronts(
    'while it drains, readiness is false and idle connections are still answered, each for the last time',
    async (t, http1) => {
      const served = await serve(t, { ...inPairs(20_000), ...drain(2_000, { http1 }) })
      const kept = await Wire.open(t, served.url)
      const ready = 'GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n'
      kept.write(ready)
      assert.equal((await kept.reply()).status, 200)
      const slow = await Wire.open(t, served.url)
      slow.write(request)
      await served.queued(1)
      served.child.kill('SIGTERM')
      await served.said(/SIGTERM/)
      const fresh = await Wire.open(t, served.url)
      fresh.write(ready)
      const { status, headers, json } = await fresh.reply()
      assert.deepEqual([status, headers.get('connection'), json.code], [503, 'close', 'draining'])
      await fresh.gone
      kept.write(request)
      const [last] = await Promise.all([answered(kept), answered(slow)])
      assert.equal(last, 'close')
      await Promise.all([kept.gone, slow.gone])
      assert.equal((await served.finished).code, 0)
    },
  )

  onBothFronts('clients that send without a pause get every answer until they are told to go', async (t, http1) => {
    const served = await serve(t, drain(2_000, { http1 }))
    const first = Promise.withResolvers<void>()
    const clients = Array.from({ length: 16 }, async () => {
      const wire = await Wire.open(t, served.url)
      for (let count = 1; ; count++) {
        wire.write(request)
        if ((await answered(wire)) === 'close') return count
        if (count === 20) first.resolve()
      }
    })
    await first.promise
    served.child.kill('SIGTERM')
    const counts = await Promise.all(clients)
    const { code } = await served.finished
    assert.equal(code, 0)
    assert.ok(counts.every((count) => count > 0))
  })

  onBothFronts(
    'a request that never ends is cut off after drain.timeoutMs, and the exit code is 1',
    async (t, http1) => {
      const served = await serve(t, drain(0, { http1, timeoutMs: 200 }))
      const endless = await Wire.open(t, served.url)
      endless.write(request.slice(0, -10))
      const silent = await Wire.open(t, served.url)
      silent.write('GET /v2 HT')
      // An answered request behind them shows that both have been read.
      const last = await Wire.open(t, served.url)
      last.write(request)
      await answered(last)
      served.child.kill('SIGTERM')
      const { code, stderr } = await served.finished
      assert.deepEqual([code, stderr], [1, 'penstock: connections were still open after 200 ms and were cut\n'])
      await endless.gone
    },
  )

  test('a signal that comes right behind the banner is heeded', async (t) => {
    const served = await serve(t, drain(0))
    served.child.kill('SIGTERM')
    const { code, signal } = await served.finished
    assert.deepEqual([code, signal], [0, null])
  })

  test('a second Ctrl-C does not wait', async (t) => {
    const served = await interrupted(t, drain(60_000, { timeoutMs: 60_000 }))
    // Sooner it would be taken for the same one, which npm passes on once more.
    await sleep(1_500)
    served.child.kill('SIGINT')
    const { code, signal } = await served.finished
    assert.ok(signal === 'SIGINT' || code !== 0, `it ended with ${code ?? signal}`)
  })

  test('a Ctrl-C that npm passes on once more is the same one', async (t) => {
    const served = await interrupted(t, drain(200))
    served.child.kill('SIGINT')
    assert.equal((await served.finished).code, 0)
  })
})

test('help lists the commands and their arguments', async (t) => {
  const [all, one] = await Promise.all([penstock(t, ['--help']).finished, penstock(t, ['serve', '--help']).finished])
  assert.deepEqual([all.code, all.stderr, one.code, one.stderr], [0, '', 0, ''])
  for (const command of ['serve', 'check', 'models', 'infer'])
    assert.match(all.stdout, new RegExp(`^ {2}${command} `, 'm'))
  assert.match(one.stdout, /^Usage: penstock serve .*\[config\]$/m)
  assert.match(one.stdout, /default: "config\/penstock\.yaml"/)
})

test('what is not a command is refused with a hint at the help', async (t) => {
  const wrong = [['surve'], ['serve', '--fast'], ['serve', 'a.yaml', 'b.yaml'], ['infer', 'digits']]
  for (const { code, stdout, stderr } of await Promise.all(wrong.map((args) => penstock(t, args).finished))) {
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /^error: .*'?(surve|--fast|serve|--input <file>)'?.*\n/)
    assert.match(stderr, /penstock --help/)
    assert.doesNotMatch(stderr, /^ {4}at /m)
  }
})

const sample = 'config/models/digits/1/samples/seven.json'

test('`penstock infer` prints the answer as JSON, of the version that is asked for', async (t) => {
  const { url } = await startGateway(t)
  for (const [args, version] of [
    [[], '2'],
    [['-m', '1'], '1'],
  ] as const) {
    const { code, stdout, stderr } = await penstock(t, ['infer', 'digits', '-i', sample, '-u', `${url}/`, ...args])
      .finished
    assert.deepEqual([code, stderr], [0, ''])
    const { model_name, model_version, outputs } = JSON.parse(stdout)
    assert.deepEqual([model_name, model_version], ['digits', version])
    assert.equal(outputs[0].data.indexOf(Math.max(...outputs[0].data)), 7)
  }
})

test('`penstock infer` says in one line why there is no answer', async (t) => {
  const { url } = await startGateway(t)
  const { port, free } = await takenPort(t)
  await free()
  const nobody = `http://127.0.0.1:${port}`
  const cases: [args: string[], line: RegExp][] = [
    [
      ['digits', '-i', sample, '-u', nobody],
      new RegExp(`^penstock: no answer from ${nobody} \\(ECONNREFUSED\\): is a gateway`),
    ],
    [['digits', '-i', 'nowhere.json', '-u', url], /^penstock: nowhere\.json: no such file$/],
    [['digits', '-i', 'config', '-u', url], /^penstock: config: cannot be read \(EISDIR\)$/],
    [['faces', '-i', sample, '-u', url], /^penstock: 404: no such model; /],
    [['digits', '-m', '7', '-i', sample, '-u', url], /^penstock: 404: no such version/],
    [['spam', '-i', sample, '-u', url], /^penstock: 400: .*"image".*"input_ids"/],
    [['digits', '-i', 'package.json', '-u', url], /^penstock: 400: "inputs" must be/],
  ]
  const ended = await Promise.all(cases.map(([args]) => penstock(t, ['infer', ...args]).finished))
  for (const [i, { code, stdout, stderr }] of ended.entries()) {
    assert.deepEqual([code, stdout], [1, ''])
    const [said = '', ...more] = stderr.split('\n')
    assert.match(said, cases[i]![1])
    assert.deepEqual(more, [''])
  }
})
