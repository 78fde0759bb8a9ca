/** The README's commands, run as they stand but for the ports, which a test must not share with whatever runs here. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { parse } from 'yaml'
import { folderWith, ownStore, repository, startGateway, type TestGateway } from './support/gateway.ts'

const readme = await readFile(join(repository, 'README.md'), 'utf8')
const commands = [...readme.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block]) => block!.trim().split('\n'))
/** Run by the tests themselves, or by whoever runs them. */
const elsewhere = new Set(['npm start', 'npm test', 'npm run check'])

/** What `npm start` says of who may call and of the models, on free ports. */
const { auth, limits } = parse(await readFile(join(repository, 'config/penstock.yaml'), 'utf8'))
const getToken = commands.find((command) => command.startsWith('export '))!

/** Runs a command after that which gets a token, against a gateway of the test's own. */
async function shell(command: string, { url, metricsUrl, adminUrl }: TestGateway): Promise<string> {
  const path = `${join(repository, 'node_modules/.bin')}:${process.env['PATH']}`
  const env = { ...process.env, PATH: path }
  const here = command
    .replace('http://127.0.0.1:8080', url)
    .replace('http://127.0.0.1:9090', metricsUrl)
    .replace('http://127.0.0.1:9091', adminUrl)
  const token = getToken.replace('penstock token', `penstock token --admin ${adminUrl}`)
  const all = `${token} && ${here}`.replaceAll('npx penstock', `node ${join(repository, 'src/main.ts')}`)
  const { stdout } = await promisify(execFile)('sh', ['-c', all], { cwd: repository, env })
  return stdout
}

async function started(t: TestContext): Promise<TestGateway> {
  const admin = { port: 0, auditFile: join(await folderWith(), 'audit.jsonl') }
  return startGateway(t, { settings: { auth, limits, admin, store: { path: ownStore } } })
}

test('every command of the README that talks to a gateway works as it is written', async (t) => {
  const gateway = await started(t)
  const curls = commands.filter((command) => command.startsWith('curl '))
  assert.ok(curls.length >= 4, 'the README shows how to send requests')
  for (const command of curls) {
    assert.match(command, /http:\/\/127\.0\.0\.1:(8080|9090|9091)\//, 'it talks to the ports that npm start uses')
    const said = await shell(`${command} --fail`, gateway)
    if (!command.includes('/metrics')) assert.doesNotThrow(() => JSON.parse(said), command)
  }
})

test('the digit that the README asks about is a seven', async (t) => {
  const command = commands.find((each) => each.includes('digits/infer'))!
  const { outputs } = JSON.parse(await shell(command, await started(t)))
  const scores = outputs[0].data as number[]
  assert.equal(scores.indexOf(Math.max(...scores)), 7)
})

test('every penstock command of the README ends well', async (t) => {
  const gateway = await started(t)
  const own = commands.filter((command) => command.startsWith('npx penstock '))
  assert.ok(own.length >= 3, 'the README shows the commands')
  for (const command of own) {
    const asked = command.includes(' infer ') ? `${command} --url ${gateway.url}` : command
    assert.notEqual(await shell(asked, gateway), '', command)
  }
})

test('the README shows no command that no test runs', () => {
  const known = (command: string) =>
    /^(curl|npx penstock) /.test(command) || command === getToken || elsewhere.has(command)
  assert.deepEqual(
    commands.filter((command) => !known(command)),
    [],
  )
})
