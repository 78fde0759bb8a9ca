/** A real Redis for tests: on a socket or a port of its own, with nothing kept on disk, gone with the test. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Redis as Client } from 'ioredis'

const isMissing = spawnSync('redis-server', ['--version']).error !== undefined
if (isMissing && process.env['CI'] === 'true') throw new Error('redis-server is missing: apt-get install redis-server')

/** For `test`: what needs Redis is skipped where there is none, but not in CI. */
export const withRedis = { skip: isMissing && 'no redis-server: apt-get install redis-server' }

/** Ends what was started for it: a test, or whoever else. */
interface Owner {
  after(end: () => Promise<void>): unknown
}

export class RedisServer {
  /** The path of its socket. */
  readonly url: string
  readonly #flags: readonly string[]
  #child: ChildProcess | undefined
  #ended: Promise<unknown> = Promise.resolve()

  private constructor(url: string, flags: readonly string[]) {
    this.url = url
    this.#flags = ['--unixsocket', url, '--save', '', '--appendonly', 'no', ...flags]
  }

  /** Flags are those of `redis-server`; `--port 0`, so no port, is the default. */
  static async start(t: Owner, ...flags: readonly string[]): Promise<RedisServer> {
    const folder = await mkdtemp(join(tmpdir(), 'penstock-redis-'))
    const port = flags.some((flag) => flag.endsWith('port')) ? [] : ['--port', '0']
    const server = new RedisServer(join(folder, 'redis.sock'), ['--dir', folder, ...port, ...flags])
    t.after(async () => {
      await server.kill()
      await rm(folder, { recursive: true, force: true })
    })
    await server.start()
    return server
  }

  /** Starts it again, empty. */
  async start(): Promise<void> {
    const child = spawn('redis-server', this.#flags, { stdio: 'ignore' })
    this.#child = child
    this.#ended = new Promise((resolve) => child.once('exit', resolve))
    const giveUpAt = performance.now() + 10_000
    while ((await this.command('PING').catch(() => '')) !== 'PONG') {
      if (performance.now() > giveUpAt || child.exitCode !== null) throw new Error('redis-server does not start')
      await pause(5)
    }
  }

  /** With all it knows. */
  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#ended
  }

  /** It keeps its connections and says nothing until it is thawed. */
  freeze(): void {
    this.#child!.kill('SIGSTOP')
  }

  thaw(): void {
    this.#child!.kill('SIGCONT')
  }

  /** So that it takes nothing more to keep, or again does. */
  async setFull(isFull: boolean): Promise<void> {
    await this.command('CONFIG', 'SET', 'maxmemory', isFull ? '1' : '0')
  }

  /** As after a failover, when another one has become the master. */
  async setReplica(isReplica: boolean): Promise<void> {
    await this.command('REPLICAOF', ...(isReplica ? ['127.0.0.1', '1'] : ['NO', 'ONE']))
  }

  async command(name: string, ...args: readonly string[]): Promise<unknown> {
    const client = new Client(this.url, { lazyConnect: true, retryStrategy: null, enableReadyCheck: false })
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.call(name, ...args)
    } finally {
      client.disconnect()
    }
  }
}
