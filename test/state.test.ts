/** State in files: what was written is there after a crash, and nobody undoes what he has not seen. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open as openFile, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { FileStates } from '../src/state/file-states.ts'
import { stateOptions } from '../src/state/options.ts'
import type { Kept, States } from '../src/state/states.ts'
import { until } from './support/client.ts'
import { drawFrom } from './support/draw.ts'
import { StillClock } from './support/limits.ts'

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-state-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function statesIn(t: TestContext) {
  const folder = join(await folderFor(t), 'there')
  await mkdir(folder)
  const clock = new StillClock()
  const open = () => {
    const states = new FileStates({ folder, clock })
    t.after(() => states.close())
    return states
  }
  return { folder, clock, open, states: open(), file: join(folder, 'digits.json') }
}

function problemOf(outcome: unknown): string {
  assert.ok(outcome !== null && typeof outcome === 'object' && 'problem' in outcome, JSON.stringify(outcome))
  return String(outcome.problem)
}

/** What is announced, from now on. */
function watched(states: States, name = 'digits') {
  const announced: Kept[] = []
  const stop = states.watch(name, (kept) => announced.push(kept))
  return { announced, stop }
}

/** Lets it look once, and waits until it has and will look again. */
async function look(clock: StillClock): Promise<void> {
  const { timers } = clock
  clock.pass(2_000)
  await until('it has looked', () => Promise.resolve(clock.timers === timers))
}

test('by default state is in files', () => {
  assert.deepEqual(stateOptions.parse({}), { path: 'state', store: 'file' })
  assert.equal(stateOptions.safeParse({ store: 'memory' }).success, false)
})

test('what was written is read again by the next process, with another revision after each write', async (t) => {
  const { open, states, file } = await statesIn(t)
  assert.equal(await states.read('digits'), undefined)
  assert.deepEqual(await states.write('digits', { weight: 5 }, 0), { revision: 1 })
  assert.deepEqual(await states.write('digits', { weight: null }, 1), { revision: 2 })
  assert.deepEqual(await open().read('digits'), { revision: 2, value: { weight: null } })
  assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), { revision: 2, value: { weight: null } })
  assert.equal(await states.read('other'), undefined)
})

test('who has not seen the last revision writes nothing', async (t) => {
  const { open, states } = await statesIn(t)
  for (const revision of [1, -1, NaN]) assert.equal(await states.write('digits', 'a', revision), 'stale')
  assert.deepEqual(await states.write('digits', 'a', 0), { revision: 1 })
  assert.deepEqual(await open().write('digits', 'b', 1), { revision: 2 })
  for (const revision of [0, 1, 3]) assert.equal(await states.write('digits', 'c', revision), 'stale')
  assert.deepEqual(await states.read('digits'), { revision: 2, value: 'b' })
})

test('of many who write at once to one name, one does, and the others are stale', async (t) => {
  const { states } = await statesIn(t)
  const outcomes = await Promise.all(Array.from({ length: 20 }, (_, i) => states.write('digits', i, 0)))
  assert.deepEqual(outcomes[0], { revision: 1 })
  assert.equal(outcomes.filter((outcome) => outcome === 'stale').length, 19)
  assert.deepEqual(await states.read('digits'), { revision: 1, value: 0 })
})

test('a hand that leaves the revision as it was is not undone either', async (t) => {
  const { states, file } = await statesIn(t)
  await states.write('digits', 'a', 0)
  await writeFile(file, '{"revision":1,"value":"by hand"}')
  assert.equal(await states.write('digits', 'b', 1), 'stale')
  assert.deepEqual(await states.read('digits'), { revision: 1, value: 'by hand' })
  assert.deepEqual(await states.write('digits', 'b', 1), { revision: 2 })
})

test('the folder is made when it is first needed, for nobody else to read', async (t) => {
  const top = await folderFor(t)
  const folder = join(top, 'new', 'state')
  const states = new FileStates({ folder, clock: new StillClock() })
  assert.equal(await states.read('digits'), undefined)
  assert.equal(existsSync(folder), false)
  assert.deepEqual(await states.write('digits', 1, 0), { revision: 1 })
  assert.equal((await stat(folder)).mode & 0o777, 0o700)
  assert.equal((await stat(join(folder, 'digits.json'))).mode & 0o777, 0o600)
})

test('a damaged file is a problem that names it and says what to do, and is never written over', async (t) => {
  const { states, file } = await statesIn(t)
  const damages = ['', '{', 'null', '[]', '7', '{"value":1}', '{"revision":0,"value":1}', '{"revision":"1","value":1}']
  damages.push('{"revision":1}', '{"revision":1.5,"value":1}', `{"revision":1,"value":"${'x'.repeat(5e6)}"}`)
  for (const damaged of damages) {
    await writeFile(file, damaged)
    const problem = problemOf(await states.read('digits'))
    assert.ok(problem.startsWith(`${file}: `) && problem.includes('remove it'), problem)
    assert.equal(problemOf(await states.write('digits', 2, 0)), problem)
    assert.equal(await readFile(file, 'utf8'), damaged)
  }
  await rm(file)
  assert.deepEqual(await states.write('digits', 2, 0), { revision: 1 })
})

test('a folder that cannot be written or read is a problem that says why', async (t) => {
  const folder = await folderFor(t)
  await writeFile(join(folder, 'file'), '')
  const states = new FileStates({ folder: join(folder, 'file', 'state'), clock: new StillClock() })
  assert.match(problemOf(await states.read('digits')), /digits\.json: cannot be read \(ENOTDIR\)/)
  const closed = new FileStates({ folder: '/proc/state', clock: new StillClock() })
  assert.match(problemOf(await closed.write('digits', 1, 0)), /^\/proc\/state\/digits\.json: cannot be written \(E/)
})

test('a write that fails leaves what was there, and nothing beside it', async (t) => {
  const { states, folder, file } = await statesIn(t)
  await states.write('digits', 'a', 0)
  const handle = await openFile(file)
  await handle.close()
  const full = t.mock.method(Object.getPrototypeOf(handle), 'sync', () =>
    Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' })),
  )
  assert.match(problemOf(await states.write('digits', 'b', 1)), /cannot be written \(ENOSPC\)/)
  full.mock.restore()
  assert.deepEqual(await readdir(folder), ['digits.json'])
  assert.deepEqual(await states.write('digits', 'c', 1), { revision: 2 })
})

test('names that are no plain names, and values that are no JSON or too long, are problems', async (t) => {
  const { states, folder } = await statesIn(t)
  for (const name of ['', '.', '..', '../up', 'a/b', '.hidden', 'a\0', 'a b', 'é', 'x'.repeat(129)]) {
    assert.match(problemOf(await states.read(name)), /is no name/)
    assert.match(problemOf(await states.write(name, 1, 0)), /is no name/)
    states.watch(name, () => {})()
  }
  const circle: unknown[] = []
  circle.push(circle)
  for (const value of [undefined, () => 1, 1n, circle]) {
    assert.match(problemOf(await states.write('digits', value, 0)), /is no JSON/)
  }
  assert.match(problemOf(await states.write('digits', 'x'.repeat(1 << 20), 0)), /over 1048576 characters/)
  assert.deepEqual(await readdir(folder), [])
  assert.deepEqual(await states.write('A.b_c-1', 1, 0), { revision: 1 })
})

test('what others change is announced once, and what was written here is not', async (t) => {
  const { clock, open, states, file } = await statesIn(t)
  await states.write('digits', 'a', 0)
  const { announced, stop } = watched(states)
  const other = watched(states)
  await look(clock)
  await states.write('digits', 'b', 1)
  await look(clock)
  assert.deepEqual(announced, [])
  await open().write('digits', 'c', 2)
  await look(clock)
  await look(clock)
  assert.deepEqual(announced.splice(0), [{ revision: 3, value: 'c' }])
  await writeFile(file, '{"revision":3,"value":"by hand"}')
  await look(clock)
  assert.deepEqual(announced.splice(0), [{ revision: 3, value: 'by hand' }])
  assert.deepEqual(await states.write('digits', 'd', 3), { revision: 4 })
  await writeFile(file, 'half')
  await look(clock)
  assert.deepEqual(announced, [])
  await rm(file)
  await look(clock)
  assert.deepEqual(announced, [{ revision: 0, value: undefined }])
  assert.equal(other.announced.length, 3)
  stop()
  await open().write('digits', 'e', 0)
  await look(clock)
  assert.equal(announced.length, 1)
  assert.equal(other.announced.length, 4)
})

test('who watches without having read is told of what is there', async (t) => {
  const { clock, open, states } = await statesIn(t)
  await open().write('digits', 'a', 0)
  const { announced } = watched(states)
  await look(clock)
  assert.deepEqual(announced, [{ revision: 1, value: 'a' }])
})

test('what changes between reading and watching is announced', async (t) => {
  const { clock, open, states } = await statesIn(t)
  await open().write('digits', 'a', 0)
  await states.read('digits')
  await open().write('digits', 'b', 1)
  const { announced } = watched(states)
  await look(clock)
  assert.deepEqual(announced, [{ revision: 2, value: 'b' }])
})

test('nothing is looked at any more when nobody watches, or it is closed', async (t) => {
  const { clock, states } = await statesIn(t)
  const { stop } = watched(states)
  assert.equal(clock.timers, 1)
  stop()
  assert.equal(clock.timers, 0)
  const { announced } = watched(states)
  watched(states, 'other')
  clock.pass(2_000)
  states.close()
  await states.write('digits', 'a', 0)
  assert.equal(clock.timers, 0)
  assert.deepEqual(announced, [])
})

test('a file is on the disk before it takes its name, and its name before the write settles', async (t) => {
  if (!existsSync('/proc/self/fd')) return t.skip('needs /proc')
  const folder = join(await folderFor(t), 'new')
  const handle = await openFile('.')
  await handle.close()
  const synced: string[] = []
  t.mock.method(Object.getPrototypeOf(handle), 'sync', function note(this: { fd: number }) {
    const path = readlinkSync(`/proc/self/fd/${this.fd}`).replace(folder, 'FOLDER')
    synced.push(`${path.replace(/\.[0-9a-f-]{36}/, 'UUID')} ${readdirSync(folder).includes('digits.json')}`)
    return Promise.resolve()
  })
  await new FileStates({ folder, clock: new StillClock() }).write('digits', 1, 0)
  assert.deepEqual(synced, [`${join(folder, '..')} false`, 'FOLDER/UUID.tmp false', 'FOLDER true'])
})

test('what a crash has left is removed by the next who writes, and what another writes now is not', async (t) => {
  const id = '00000000-0000-4000-8000-00000000000'
  const { states, folder } = await statesIn(t)
  const before = Date.now() / 1_000 - 120
  for (const name of [`.${id}1.tmp`, '.hidden', 'x.tmp', `.${id}2.tmp`]) {
    await writeFile(join(folder, name), '')
    if (name !== `.${id}2.tmp`) await utimes(join(folder, name), before, before)
  }
  await states.write('digits', 1, 0)
  assert.deepEqual((await readdir(folder)).toSorted(), [`.${id}2.tmp`, '.hidden', 'digits.json', 'x.tmp'])
})

const source = join(import.meta.dirname, '../src')

const writer = `
import { systemClock } from '${source}/core/clock.ts'
import { FileStates } from '${source}/state/file-states.ts'
const states = new FileStates({ folder: process.argv[1], clock: systemClock })
let { revision } = (await states.read('digits')) ?? { revision: 0 }
for (;;) {
  const length = (revision * 7919) % 200_000
  ;({ revision } = await states.write('digits', { length, filler: 'x'.repeat(length) }, revision))
  process.stdout.write(revision + '\\n')
}`

test('a process that is killed while it writes leaves the old or the new, whole', async (t) => {
  const { folder, open } = await statesIn(t)
  const draw = drawFrom(5)
  for (let kill = 0; kill < 10; kill++) {
    const args = ['--input-type=module', '-e', writer, folder]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    t.after(() => child.kill('SIGKILL'))
    let said = ''
    const least = 1 + draw(20)
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (said.split('\n').length > least) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const kept = (await open().read('digits')) as Kept
    const { length, filler } = kept.value as { length: number; filler: string }
    assert.equal(filler.length, length)
    assert.ok(kept.revision >= Number(said.trim().split('\n').at(-1)), `${kept.revision}`)
  }
})
