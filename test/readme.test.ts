/** The README's commands, run as they stand but for the ports, which a test must not share with whatever runs here. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { ownStore, repository, startGateway } from './support/gateway.ts'

const readme = await readFile(join(repository, 'README.md'), 'utf8')
const commands = [...readme.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block]) => block!.trim().split('\n'))
/** Run by the tests themselves, or by whoever runs them. */
const elsewhere = new Set(['npm start', 'npm test', 'npm run check'])

async function shell(command: string): Promise<string> {
  const path = `${join(repository, 'node_modules/.bin')}:${process.env['PATH']}`
  const env = { ...process.env, PATH: path }
  const { stdout } = await promisify(execFile)('sh', ['-c', command], { cwd: repository, env })
  return stdout
}

test('every command of the README that talks to a gateway works as it is written', async (t) => {
  const settings = { store: { path: ownStore } }
  const { url, metricsUrl, adminUrl } = await startGateway(t, { settings })
  const curls = commands.filter((command) => command.startsWith('curl '))
  assert.ok(curls.length >= 4, 'the README shows how to send requests')
  for (const command of curls) {
    const here = command
      .replace('http://127.0.0.1:8080', url)
      .replace('http://127.0.0.1:9090', metricsUrl)
      .replace('http://127.0.0.1:9091', adminUrl)
    assert.notEqual(here, command, `${command} talks to the ports that npm start uses`)
    const said = await shell(`${here} --fail`)
    if (!command.includes('/metrics')) assert.doesNotThrow(() => JSON.parse(said), command)
  }
})

test('the digit that the README asks about is a seven', async (t) => {
  const { url } = await startGateway(t)
  const command = commands.find((each) => each.includes('digits/infer'))!
  const { outputs } = JSON.parse(await shell(command.replace('http://127.0.0.1:8080', url)))
  const scores = outputs[0].data as number[]
  assert.equal(scores.indexOf(Math.max(...scores)), 7)
})

test('every penstock command of the README ends well', async (t) => {
  const { url } = await startGateway(t)
  const own = commands.filter((command) => command.startsWith('npx penstock '))
  assert.ok(own.length >= 3, 'the README shows the commands')
  for (const command of own) {
    const asked = command.includes(' infer ') ? `${command} --url ${url}` : command
    const direct = asked.replace('npx penstock', `node ${join(repository, 'src/main.ts')}`)
    assert.notEqual(await shell(direct), '', command)
  }
})

test('the README shows no command that no test runs', () => {
  const known = (command: string) => /^(curl|npx penstock) /.test(command) || elsewhere.has(command)
  assert.deepEqual(
    commands.filter((command) => !known(command)),
    [],
  )
})
