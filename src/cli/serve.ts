/** `penstock serve`: runs the gateway until it is told to stop. */
import { relative } from 'node:path'
import type { Config, ConfigFile } from '../config.ts'
import { systemClock } from '../core/clock.ts'
import type { Mistake } from '../core/document.ts'
import { AdminEdge } from '../edge/admin.ts'
import { HttpEdge } from '../edge/http.ts'
import { createGateway, type Gateway, type ServedModel } from '../gateway.ts'
import { configOrExit, fail, failWith } from './report.ts'

export async function serve(path: string): Promise<void> {
  const file = await configOrExit(path)
  const started = await start(file)
  if ('mistakes' in started) return fail(started.mistakes)
  if ('problem' in started) return failWith(started.problem)
  const { running } = started
  const asked = stopSignal()
  process.stdout.write(banner(running))
  const signal = await asked
  process.stdout.write(`\n${signal}: finishing what is in flight\n`)
  if (!(await running.stop()))
    failWith(`connections were still open after ${file.config.edge.drain.timeoutMs} ms and were cut`)
}

/** A gateway with its edges open. */
export interface Running {
  readonly gateway: Gateway
  /** Where clients and administrators find it. */
  readonly url: string
  readonly adminUrl: string
  /** Drains and closes everything; settles with whether every connection ended by itself. */
  stop(): Promise<boolean>
}

export async function start(
  file: ConfigFile,
): Promise<{ running: Running } | { mistakes: readonly Mistake[] } | { problem: string }> {
  const { config } = file
  const created = await createGateway(file)
  if ('mistakes' in created) return created
  const { gateway } = created
  const onDefect = (error: unknown, requestId: string) =>
    gateway.log.error({ requestId, err: error }, 'a defect: please report it')
  const edge = new HttpEdge(config.edge, { serving: gateway, clock: systemClock, onDefect })
  const admin = new AdminEdge(config.admin, gateway)
  const stop = async () => {
    const clean = await edge.drain()
    admin.close()
    await gateway.close()
    return clean
  }
  try {
    const url = urlOf(config.edge.host, await listen(edge, 'edge', config))
    const adminUrl = urlOf(config.admin.host, await listen(admin, 'admin', config))
    return { running: { gateway, url, adminUrl, stop } }
  } catch (problem) {
    await stop()
    return { problem: (problem as Error).message }
  }
}

async function listen(edge: { listen(): Promise<number> }, name: 'edge' | 'admin', config: Config): Promise<number> {
  const { host, port } = config[name]
  try {
    return await edge.listen()
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const why: Record<string, string> = {
      EADDRINUSE: `port ${port} is in use: stop the other program, or set \`${name}.port\` to another`,
      EACCES: `port ${port} needs privileges: set \`${name}.port\` to one above 1023`,
      EADDRNOTAVAIL: `this machine has no address ${host}: set \`${name}.host\``,
    }
    throw new Error(why[code] ?? `cannot listen on ${host}:${port} (${code})`, { cause: error })
  }
}

function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** Settles with the first signal to stop. A second one finds nobody listening, and ends the process at once. */
function stopSignal(): Promise<string> {
  const signals = ['SIGTERM', 'SIGINT'] as const
  return new Promise((resolve) => {
    const heard = (signal: string) => {
      for (const each of signals) process.off(each, heard)
      resolve(signal)
    }
    for (const each of signals) process.on(each, heard)
  })
}

function banner({ gateway, url, adminUrl }: Running): string {
  const models = [...gateway.models.values()]
  const names = models.map(({ name, version, versions }) => {
    const others = [...versions.keys()].filter((each) => each !== version)
    return `    ${name} version ${version}${others.length > 0 ? ` (also ${others.join(', ')})` : ''}`
  })
  return `penstock serves
${names.join('\n')}
  at ${url}, metrics and status at ${adminUrl}

Try it:
  ${tryIt(url, models)}
`
}

/** A line that works when it is pasted. */
function tryIt(at: string, models: readonly ServedModel[]): string {
  for (const { name, version, versions } of models) {
    const [sample] = versions.get(version)!.samples
    if (sample === undefined) continue
    const file = relative(process.cwd(), sample)
    return `curl -s ${at}/v2/models/${name}/infer -H 'content-type: application/json' -d ${quoted(`@${file}`)}`
  }
  return `curl -s ${at}/v2/models`
}

/** For a shell: as it is if nothing in it has a meaning there. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
