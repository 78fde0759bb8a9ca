/** The connection to Redis when things go wrong: it is never waited for, nothing piles up, and it comes back. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import type { Redis as Client } from 'ioredis'
import { systemClock } from '../src/core/clock.ts'
import { redisOptions } from '../src/redis/options.ts'
import { Redis, type Reply } from '../src/redis/redis.ts'
import { until } from './support/client.ts'
import { folderWith } from './support/gateway.ts'
import { connect } from './support/limits.ts'
import { RedisServer, withRedis } from './support/redis.ts'
import { authority, certificateFolder, serverCertificate } from './support/tls.ts'

const get = (client: Client) => client.get('key')
const set = (client: Client) => client.set('key', 'value')

function isUp(redis: Redis): Promise<void> {
  return until('it can be asked', () => Promise.resolve(redis.isUp))
}

async function problemOf(reply: Reply<unknown> | Promise<Reply<unknown>>): Promise<string> {
  const settled = await reply
  assert.ok('problem' in settled, 'it was answered')
  return settled.problem
}

/** A connection, and whether it could be asked from one change to the next. */
async function watched(t: TestContext, url: string) {
  const changes: boolean[] = []
  const options = redisOptions.parse({ url, budgetMs: 1_000 })
  const redis = await Redis.open(options, { clock: systemClock, onChange: (up) => changes.push(up) })
  assert.ok(redis instanceof Redis)
  t.after(() => redis.close())
  await isUp(redis)
  return { redis, changes }
}

/** Asks until it is not asked any more. */
async function open(redis: Redis): Promise<string[]> {
  const problems: string[] = []
  while (redis.isUp) problems.push(await problemOf(redis.call(set)))
  return problems
}

test('it is asked, and answers', withRedis, async (t) => {
  const redis = await connect(t, await RedisServer.start(t))
  assert.deepEqual(await redis.call(set), { value: 'OK' })
  assert.deepEqual(await redis.call(get), { value: 'value' })
  assert.equal(redis.errors, 0)
})

test('a Redis that hangs is given up after five questions, and comes back when it does', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server, { budgetMs: 20 })
  server.freeze()
  const problems = await open(redis)
  assert.deepEqual(
    problems,
    Array.from({ length: 5 }, () => 'no answer within 20 ms'),
  )
  // At once: before anything else can happen.
  const order: string[] = []
  setImmediate(() => order.push('turn'))
  await redis.call(get).then(() => order.push('answer'))
  assert.deepEqual(order, ['answer'])
  server.thaw()
  await isUp(redis)
  assert.deepEqual(await redis.call(set), { value: 'OK' })
})

test('questions to a Redis that hangs do not pile up', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server, { budgetMs: 500 })
  server.freeze()
  let sent = 0
  const asks = Array.from({ length: 30_000 }, () =>
    redis.call((client) => {
      sent++
      return client.get('key')
    }),
  )
  const problems = await Promise.all(asks.map(problemOf))
  assert.equal(sent, 10_000)
  assert.equal(problems.filter((each) => /too many/.test(each)).length, 20_000)
  server.thaw()
  await isUp(redis)
  assert.deepEqual(await redis.call(set), { value: 'OK' })
})

test('a Redis that is killed is missed at once, and found again when it is back', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { redis, changes } = await watched(t, server.url)
  for (let i = 0; i < 2; i++) {
    await server.kill()
    await until('it is missed', () => Promise.resolve(!redis.isUp))
    assert.notEqual(await problemOf(redis.call(get)), '')
    await server.start()
    await isUp(redis)
    assert.deepEqual(await redis.call(get), { value: null })
  }
  assert.deepEqual(changes, [true, false, true, false, true])
})

test('a Redis that is full is not asked for a while, and tried again', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const redis = await connect(t, server)
  await server.setFull(true)
  const problems = await open(redis)
  assert.equal(problems.length, 5)
  for (const problem of problems) assert.match(problem, /^OOM/)
  await server.setFull(false)
  await isUp(redis)
  assert.deepEqual(await redis.call(set), { value: 'OK' })
  assert.ok(redis.isUp)
})

test('a Redis that has become a replica is left, and asked again when it is a master', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const { redis, changes } = await watched(t, server.url)
  await server.setReplica(true)
  assert.match(await problemOf(redis.call(set)), /^READONLY/)
  await until('it has connected anew', () => Promise.resolve(changes.join() === 'true,false,true'))
  await server.setReplica(false)
  await until('it is answered', async () => 'value' in (await redis.call(set)))
})

test('an answer that makes no sense counts as a failure', withRedis, async (t) => {
  const redis = await connect(t, await RedisServer.start(t))
  const nonsense = () => Promise.reject(new TypeError('nonsense'))
  for (let i = 0; i < 5; i++) assert.equal(await problemOf(redis.call(nonsense)), 'nonsense')
  assert.equal(redis.isUp, false)
  assert.equal(redis.errors, 5)
})

test('an answer in between lets failures count from the beginning', withRedis, async (t) => {
  const redis = await connect(t, await RedisServer.start(t))
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 4; i++) await redis.call(() => Promise.reject(new TypeError('nonsense')))
    assert.deepEqual(await redis.call(set), { value: 'OK' })
  }
})

test('what speaks something else than Redis is never up, and does no harm', async (t) => {
  for (const said of ['HTTP/1.1 400 Bad Request\r\n\r\n', '-ERR no\r\n', '*1000000000\r\n', '']) {
    let connections = 0
    const url = await listening(t, (socket) => {
      connections++
      socket.end(said)
    })
    const redis = await Redis.open(redisOptions.parse({ url }), { clock: systemClock, onChange: () => {} })
    assert.ok(redis instanceof Redis)
    await until('it has tried several times', () => Promise.resolve(connections > 2))
    await problemOf(redis.call(get))
    assert.equal(redis.isUp, false)
    await redis.close()
  }
})

test('a name and a password are read from files, and again when it connects anew', withRedis, async (t) => {
  const server = await RedisServer.start(t)
  const files = { username: 'gateway\n', password: 'first\n' }
  const folder = await folderWith(files)
  const login = (password: string) =>
    server.command('ACL', 'SETUSER', 'gateway', 'on', 'resetpass', `>${password}`, '~*', '+@all')
  await login('first')
  await server.command('ACL', 'SETUSER', 'default', '-get', '-set')
  const options = { usernameFile: `${folder}/username`, passwordFile: `${folder}/password` }
  const redis = await connect(t, server, options)
  assert.deepEqual(await redis.call(set), { value: 'OK' })
  await login('second')
  await writeFile(options.passwordFile, 'second')
  await server.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await until('it is back', async () => 'value' in (await redis.call(set)))
})

test('a file that cannot be read is named', async () => {
  const options = redisOptions.parse({ url: '/nowhere.sock', passwordFile: '/nowhere/password' })
  const opened = await Redis.open(options, { clock: systemClock, onChange: () => {} })
  assert.deepEqual(opened, { problem: '/nowhere/password: cannot be read (ENOENT)' })
})

test('with `rediss` only a server with a certificate of the authority is asked', withRedis, async (t) => {
  const [by, other] = [authority(), authority('other')]
  const folder = await certificateFolder({ ca: by, other, server: serverCertificate(by) })
  const port = await freePort()
  const tls = ['--tls-port', String(port), '--tls-auth-clients', 'no', '--tls-cert-file', `${folder}/server.pem`]
  await RedisServer.start(
    t,
    ...tls,
    '--tls-key-file',
    `${folder}/server-key.pem`,
    '--tls-ca-cert-file',
    `${folder}/ca.pem`,
  )
  const url = `rediss://localhost:${port}`
  const redis = await connect(t, { url }, { ca: `${folder}/ca.pem` })
  assert.deepEqual(await redis.call(set), { value: 'OK' })
  const trusting = { url, ca: `${folder}/other.pem` }
  const stranger = await Redis.open(redisOptions.parse(trusting), { clock: systemClock, onChange: () => {} })
  assert.ok(stranger instanceof Redis)
  t.after(() => stranger.close())
  await until('it has tried', async () => /certificate/.test(await problemOf(stranger.call(get))))
})

test('addresses that hold a password, or mix TLS up, are told what to change', () => {
  const wrong = ['redis://user:secret@localhost', 'http://localhost', 'localhost:6379', 'redis://localhost?db=1']
  for (const url of wrong) {
    const { message } = redisOptions.safeParse({ url }).error!
    assert.match(message, /redis:\/\/HOST:PORT/)
    assert.doesNotMatch(message, /secret/)
  }
  for (const url of ['redis://localhost', 'rediss://10.0.0.1:6380/2', '/run/redis.sock', 'redis://[::1]:6379']) {
    assert.equal(redisOptions.safeParse({ url }).error, undefined, url)
  }
  assert.match(redisOptions.safeParse({ url: 'redis://a', ca: 'ca.pem' }).error!.message, /rediss:\/\//)
})

async function listening(t: TestContext, onSocket: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    onSocket(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  return `redis://127.0.0.1:${(server.address() as { port: number }).port}`
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
