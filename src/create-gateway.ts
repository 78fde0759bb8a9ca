/**
 * The composition root: a configuration becomes a gateway here, by plain constructor calls. Concepts do not import each
 * other; what one needs of another is passed from this file and the rooms beside it.
 */
import type { Config, ConfigFile } from './config.ts'
import type { Caller, Operation } from './core/caller.ts'
import { systemClock, type Clock } from './core/clock.ts'
import type { Mistake } from './core/document.ts'
import { Gateway, leaveMs } from './gateway.ts'
import { HttpRoutes } from './live/http-routes.ts'
import { intentOf } from './live/intent.ts'
import type { LiveTools } from './live/tools.ts'
import { badFallbacks, badIntents, strangers } from './misfits.ts'
import { loadFleet, type Model, type Runner } from './models/fleet.ts'
import { scanStore } from './models/store.ts'
import type { Redis } from './redis/redis.ts'
import { defaultPool, shadowPool } from './runtime/options.ts'
import { openSecurity, type SecurityTools } from './security.ts'
import { wire, type Wiring } from './live/served.ts'
import { LiveModels } from './live/models.ts'
import { storedOf } from './live/routes.ts'
import { SplitReadings } from './live/split-readings.ts'
import { FileStates } from './state/file-states.ts'
import { RedisStates } from './state/redis-states.ts'
import type { States } from './state/states.ts'
import { Tally } from './state/tally.ts'
import { Audit } from './telemetry/audit.ts'
import { createLog } from './telemetry/log.ts'

export interface Failed {
  readonly mistakes: Mistake[]
  /** A thread does not come back from a run that was tried: nothing but the end of the process ends it. */
  readonly isStuck: boolean
}

/** Loads everything; returns the gateway, or every reason why there is none. */
export async function createGateway(
  file: ConfigFile,
  clock: Clock = systemClock,
): Promise<{ gateway: Gateway } | Failed> {
  const { config } = file
  const log = createLog(config.log)
  const onProblem = ({ file: at, message }: Mistake) => log.error({ file: at }, message)
  const { bundles, mistakes } = await scanStore(config.store.path)
  if (mistakes.length > 0) return { mistakes, isStuck: false }
  const lost = strangers(file, bundles)
  if (lost.length > 0) return { mistakes: lost, isStuck: false }
  const httpRoutes = await HttpRoutes.open(config, { clock, onProblem })
  if ('mistakes' in httpRoutes) return { mistakes: httpRoutes.mistakes, isStuck: false }
  const bad = badIntents(file, bundles, (model) => httpRoutes.of(model))
  if (bad.length > 0) {
    httpRoutes.close()
    return { mistakes: bad, isStuck: false }
  }
  const readings = new SplitReadings()
  const wiring = wire(config, readings, { clock, log })
  const security = await openSecurity(config, securityTools(wiring, onProblem))
  const closeAll = async () => {
    httpRoutes.close()
    if (!('mistakes' in security)) await security.close()
    return wiring.runtime.close(leaveMs)
  }
  if ('mistakes' in security) return { mistakes: security.mistakes, isStuck: !(await closeAll()) }
  const runner = runnerOf(config, wiring)
  // A defect must not leave workers behind that keep the process up.
  const fleet = await loadFleet(bundles, runner).catch(async (defect: unknown) => {
    await closeAll()
    throw defect
  })
  const usualOf = ({ name, versions }: Model) => usualVersion(file, name, versions, httpRoutes)
  fleet.mistakes.push(...badFallbacks(file, fleet.models, usualOf))
  if (fleet.mistakes.length > 0) return { mistakes: fleet.mistakes, isStuck: !(await closeAll()) }
  const states = statesOf(config, clock, security.redis)
  const audit = new Audit(config.admin.auditFile, clock)
  const live = liveToolsOf(wiring, states, { redis: security.redis, audit })
  const shadowRunner = runnerOf(config, wiring, shadowPool)
  const tools = { wiring, security, states, live, runner, shadowRunner, httpRoutes }
  const service = await LiveModels.open(file, fleet.models, tools)
  if ('mistakes' in service) return { mistakes: service.mistakes, isStuck: !(await closeAll()) }
  readings.service = service
  return { gateway: new Gateway(file, { ...wiring, audit, security, states, service }) }
}

function securityTools({ clock, log, instruments }: Wiring, onProblem: (problem: Mistake) => void): SecurityTools {
  const { auth: authCounts, limits: limitCounts } = instruments
  const onReached = (what: string) => log.info({ file: what }, 'it can be asked again')
  const onDenied = ({ name }: Caller, operation: Operation, model: string) => {
    authCounts.denied(operation)
    log.debug({ caller: name, operation, model }, 'the caller may not do this')
  }
  return { clock, authCounts, limitCounts, onProblem, onReached, onDenied }
}

/** `onlyPool`: whatever the configuration says of each model's. */
function runnerOf(config: Config, { clock, runtime }: Wiring, onlyPool?: string): Runner {
  return {
    deploy: ({ model, version, file, bytes, verify, manifest }) => {
      const { pool = defaultPool, worker = config.runtime.worker, unloadAfterS } = config.models[model] ?? {}
      const isRepeatable = !manifest.sideEffects
      const placement = { pool: onlyPool ?? pool, worker, unloadAfterS }
      return runtime.deploy({ model, version, file, fileBytes: bytes, verify, isRepeatable, ...placement })
    },
    maxRows: (model) => (config.models[model]?.batching ?? config.batching).policy.maxRows,
    warmUpMs: config.runtime.warmUpMs,
    clock,
  }
}

function usualVersion(
  { config }: ConfigFile,
  name: string,
  versions: Model['versions'],
  httpRoutes: HttpRoutes,
): string {
  const intent = intentOf(config.models[name], httpRoutes.of(name), storedOf(new Map(), [...versions.values()]))
  return 'misfits' in intent ? '' : intent.version
}

function statesOf({ state }: Config, clock: Clock, redis: Redis | undefined): States {
  return state.store === 'redis' && redis
    ? new RedisStates({ link: redis, clock })
    : new FileStates({ folder: state.path, clock })
}

interface Shared {
  readonly redis: Redis | undefined
  readonly audit: Audit
}

/** Evidence that nobody adds to for so long is of an experiment that is over. */
const countsTtlS = 30 * 86_400

function liveToolsOf({ clock, log }: Wiring, states: States, { redis, audit }: Shared): LiveTools {
  return {
    clock,
    states,
    countsOf: (name) =>
      states instanceof RedisStates ? new Tally({ link: redis, name, clock, ttlS: countsTtlS }) : undefined,
    onChange: ({ name, current, live }, what, why) => {
      const about = { model: name, generation: current.generation, ...(why && { why }) }
      if (live) log.warn(about, `the split has changed: ${what}`)
      else log.info(about, what)
    },
    onMoved: ({ name, experiment }, before, after) => {
      const evidence = experiment?.figures
      void audit.record({
        who: { name: 'the experiment' },
        what: `split.${name}`,
        before,
        after: { ...after, evidence },
      })
    },
    onAlert: ({ name }, { guard, words }) => log.warn({ model: name, guard }, words),
    onProblem: ({ name }, problem) => log.error({ model: name }, problem),
  }
}
