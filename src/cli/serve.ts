/** `penstock serve`: runs the gateway until it is told to stop. */
import { existsSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { loadConfig, type Config, type ConfigFile } from '../config.ts'
import { systemClock } from '../core/clock.ts'
import type { Mistake } from '../core/document.ts'
import { Watched, type Made } from '../core/watched.ts'
import { createAdminServer } from '../edge/admin.ts'
import { DataEdge } from '../edge/edge.ts'
import { createMetricsServer } from '../edge/metrics.ts'
import { createGateway, type Failed } from '../create-gateway.ts'
import type { Gateway } from '../gateway.ts'
import type { LiveModel } from '../live/model.ts'
import { settledReader } from '../live/settled-file.ts'
import { configOrExit, endNow, fail, failWith } from './report.ts'

export async function serve(path: string): Promise<void> {
  const file = await configOrExit(path)
  const started = await start(file)
  if ('mistakes' in started) return fail(started.mistakes, started.isStuck)
  if ('problem' in started) return failWith(started.problem)
  const { running } = started
  const followed = await follow(path, running.gateway)
  const asked = stopSignal()
  const token = await running.gateway.trialToken()
  process.stdout.write(banner(running, curlCredentials(file.config, token)))
  const signal = await asked
  process.stdout.write(`\n${signal}: finishing what is in flight\n`)
  followed.close()
  const { areConnectionsClosed, areWorkersGone } = await running.stop()
  const { timeoutMs } = file.config.edge.drain
  if (!areConnectionsClosed)
    process.stderr.write(`penstock: connections were still open after ${timeoutMs} ms and were cut\n`)
  if (!areWorkersGone) endNow(`a worker was still in a run after ${timeoutMs} ms: the process ends without it`)
  if (!areConnectionsClosed) process.exit(1)
}

/** How often it is looked whether the configuration has changed. */
const followMs = 500

/** Takes up what is new in the configuration; what is wrong with it is told, and changes nothing. */
export async function follow(path: string, gateway: Gateway): Promise<{ close(): void }> {
  const tell = (mistakes: readonly Mistake[]) => {
    for (const { file, line, message } of mistakes) gateway.log.error({ file, line }, `nothing is changed: ${message}`)
  }
  const make = async (): Promise<Made<undefined>> => {
    const file = await loadConfig(path)
    if ('mistakes' in file) return file
    const mistakes = await gateway.reload(file)
    return mistakes.length > 0 ? { mistakes: [...mistakes] } : { value: undefined }
  }
  const watch = { file: path, everyMs: followMs, clock: systemClock, read: settledReader(systemClock), make }
  let close = () => {}
  let isClosed = false
  let told = ''
  // It was all right when the gateway was started, and may have become bad before it was looked at again.
  const open = async () => {
    const watched = await Watched.open({ ...watch, onProblem: (problem) => tell([problem]) })
    if (!('mistakes' in watched)) {
      close = () => watched.close()
      if (isClosed) close()
      return
    }
    if (isClosed) return
    const said = JSON.stringify(watched.mistakes)
    if (said !== told) tell(watched.mistakes)
    told = said
    close = systemClock.after(followMs, () => void open())
  }
  await open()
  return {
    close: () => {
      isClosed = true
      close()
    },
  }
}

/** A gateway with its listeners open. */
export interface Running {
  readonly gateway: Gateway
  /** Where clients, probes and administrators find it. */
  readonly url: string
  readonly metricsUrl: string
  readonly adminUrl: string
  /** Drains and closes everything. */
  stop(): Promise<Stopped>
}

export interface Stopped {
  /** Whether every connection ended by itself. */
  readonly areConnectionsClosed: boolean
  /** Whether no worker is in a run any more. If one is, only the end of the process ends it. */
  readonly areWorkersGone: boolean
}

export async function start(file: ConfigFile): Promise<{ running: Running } | Failed | { problem: string }> {
  const { config } = file
  const created = await createGateway(file)
  if ('mistakes' in created) return created
  const { gateway } = created
  const edge = await openEdge(config, gateway)
  if ('message' in edge) {
    await gateway.close()
    return { mistakes: [edge], isStuck: false }
  }
  let isDraining = false
  const metrics = createMetricsServer(gateway, () => isDraining)
  const admin = createAdminServer(gateway, config.admin)
  const stop = async () => {
    isDraining = true
    const startedAt = systemClock.now()
    const areConnectionsClosed = await edge.drain()
    metrics.close()
    admin.close()
    const leftMs = config.edge.drain.timeoutMs - (systemClock.now() - startedAt)
    return { areConnectionsClosed, areWorkersGone: await gateway.close(Math.max(leastLeaveMs, leftMs)) }
  }
  try {
    const url = await listen('edge', config, () => edge.listen())
    const metricsUrl = await listen('metrics', config, () => metrics.listen(config.metrics))
    const adminUrl = await listen('admin', config, () => admin.listen(config.admin))
    return { running: { gateway, url, metricsUrl, adminUrl, stop } }
  } catch (problem) {
    await stop()
    return { problem: (problem as Error).message }
  }
}

/** The listener for clients; or what is wrong with one of its files. */
export function openEdge({ edge }: Config, gateway: Gateway): Promise<DataEdge | Mistake> {
  return DataEdge.create(edge, {
    serving: gateway,
    clock: systemClock,
    onDefect: (error, requestId) => gateway.log.error({ requestId, err: error }, 'a defect: please report it'),
    onProblem: ({ file, message }) => gateway.log.error({ file }, message),
  })
}

/** Opens a listener; settles with where it is to be found. */
async function listen(
  name: 'edge' | 'metrics' | 'admin',
  config: Config,
  open: () => Promise<number>,
): Promise<string> {
  const { host, port } = config[name]
  const scheme = name === 'edge' && config.edge.tls ? 'https' : 'http'
  try {
    return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${await open()}`
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const noAddress = `this machine has no address ${host}: set \`${name}.host\``
    const why: Record<string, string> = {
      EADDRINUSE: `port ${port} is in use: stop the other program, or set \`${name}.port\` to another`,
      EACCES: `port ${port} needs privileges: set \`${name}.port\` to one above 1023`,
      EADDRNOTAVAIL: noAddress,
      EAFNOSUPPORT: noAddress,
    }
    throw new Error(why[code] ?? `cannot listen on ${host}:${port} (${code})`, { cause: error })
  }
}

/** However long the connections took, workers have so long to leave. */
const leastLeaveMs = 1_000

/** npm passes a Ctrl-C on that the terminal has sent to everybody already: so soon after the first it is the same one. */
const sameSignalMs = 500

/** Settles with the first signal to stop. A second one, later, finds nobody listening, and ends the process at once. */
function stopSignal(): Promise<string> {
  const signals = ['SIGTERM', 'SIGINT'] as const
  return new Promise((resolve) => {
    let isHeard = false
    const heard = (signal: string) => {
      if (isHeard) return
      isHeard = true
      const forget = () => {
        for (const each of signals) process.off(each, heard)
      }
      systemClock.after(sameSignalMs, forget)
      resolve(signal)
    }
    for (const each of signals) process.on(each, heard)
  })
}

function banner({ gateway, url, metricsUrl, adminUrl }: Running, credentials: string): string {
  const models = [...gateway.models.values()]
  const names = models.map(({ name, version, versions }) => {
    const others = [...versions.keys()].filter((each) => each !== version)
    return `    ${name} version ${version}${others.length > 0 ? ` (also ${others.join(', ')})` : ''}`
  })
  return `penstock serves
${names.join('\n')}
  at ${url}, metrics at ${metricsUrl}/metrics, status at ${adminUrl}/admin/status

Try it:
  ${tryIt(`curl -sS ${credentials}${url}`, models)}
`
}

/** What curl must be told: the authority that `penstock cert` puts beside a certificate, and whose certificate to show. */
function curlCredentials({ edge: { tls }, auth }: Config, token: string | undefined): string {
  const shown = auth === 'none' ? '' : proofOf(auth, token)
  if (!tls) return shown
  const authority = join(dirname(tls.certificates[0]!.cert), 'ca.pem')
  const trusted = existsSync(authority) ? `--cacert ${quoted(relative(process.cwd(), authority))} ` : ''
  const isAsked = tls.clientCa !== undefined && (tls.clientAuth === 'required' || shown === '')
  return `${trusted}${isAsked ? '--cert CLIENT.pem --key CLIENT-key.pem ' : ''}${shown}`
}

/** What says who is calling; in capitals what only the reader has. */
function proofOf({ jwt, apiKeys }: Exclude<Config['auth'], 'none'>, token: string | undefined): string {
  if (jwt) return `-H 'authorization: Bearer ${token ?? 'TOKEN'}' `
  return apiKeys ? `-H '${apiKeys.header}: KEY' ` : ''
}

/** A line that works when it is pasted. */
function tryIt(curl: string, models: readonly LiveModel[]): string {
  for (const { name, version, versions } of models) {
    const [sample] = versions.get(version)!.samples
    if (sample === undefined) continue
    const file = relative(process.cwd(), sample)
    return `${curl}/v2/models/${name}/infer -H 'content-type: application/json' -d ${quoted(`@${file}`)}`
  }
  return `${curl}/v2/models`
}

/** For a shell: as it is if nothing in it has a meaning there. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
