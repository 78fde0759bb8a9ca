/** `penstock check`: everything that `serve` does short of listening, what would be served, and what is weak about it. */
import type { Config } from '../config.ts'
import { showSpec } from '../core/signature.ts'
import { createGateway, type Gateway } from '../gateway.ts'
import { weaknesses } from '../weaknesses.ts'
import { explain, readCaller, type Questions } from './explain.ts'
import { configOrExit, fail, failWith } from './report.ts'
import { openEdge } from './serve.ts'

export interface CheckOptions extends Questions {
  readonly as?: string
  readonly strict: boolean
}

export async function check(path: string, options: CheckOptions): Promise<void> {
  const { as, operation, model, modelVersion } = options
  if (as === undefined && (operation ?? model ?? modelVersion) !== undefined)
    failWith('--operation, --model and --model-version go with --as: whom is it about?')
  const file = await configOrExit(path)
  const created = await createGateway(file)
  if ('mistakes' in created) return fail(created.mistakes, created.isStuck)
  const { gateway } = created
  if (as !== undefined) explain(gateway, readCaller(as, gateway), options)
  else {
    showModels(gateway)
    const opened = await openEdge(file.config, gateway)
    if ('message' in opened) return fail([opened])
    opened.close()
  }
  await gateway.close()
  if (as === undefined) conclude(path, file.config, { ...options, models: [...gateway.models.keys()] })
}

interface Named {
  readonly models: readonly string[]
}

function showModels(gateway: Gateway): void {
  for (const { name, version, contract, versions } of gateway.models.values()) {
    process.stdout.write(`${name}\n`)
    for (const spec of contract.inputs) process.stdout.write(`  takes ${showSpec(spec)}\n`)
    for (const spec of contract.outputs) process.stdout.write(`  gives ${showSpec(spec)}\n`)
    for (const served of versions.values()) {
      const batching = served.batched ? `batches up to ${served.maxRows} rows` : 'runs requests one at a time'
      const standard = served.version === version ? ', answers requests that name no version' : ''
      const { provider, device } = served.runsOn()
      const where = `${provider}${device && ` (${device})`} in a ${served.deployment.options.worker.isolation}`
      process.stdout.write(`  version ${served.version}: ${batching} (${served.why}), on ${where}${standard}\n`)
    }
  }
}

function conclude(path: string, config: Config, { strict, models }: Pick<CheckOptions, 'strict'> & Named): void {
  const weak = weaknesses(config, models)
  for (const weakness of weak) process.stdout.write(`\nweak: ${weakness}\n`)
  if (strict && weak.length > 0) failWith(`weak settings: ${weak.length}, and --strict allows none`)
  const { edge, metrics, admin } = config
  const at = ({ host, port }: { readonly host: string; readonly port: number }) => `${host}:${port}`
  process.stdout.write(`\nOK: ${path} would listen on ${at(edge)}, metrics on ${at(metrics)}, admin on ${at(admin)}\n`)
}
