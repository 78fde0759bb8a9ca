/** `penstock check`: everything that `serve` does short of listening, what would be served, and what is weak about it. */
import { operations, type Caller, type Operation } from '../core/caller.ts'
import type { Config } from '../config.ts'
import { showSpec } from '../core/signature.ts'
import { createGateway, type Gateway } from '../gateway.ts'
import { weaknesses } from '../weaknesses.ts'
import { configOrExit, fail, failWith } from './report.ts'
import { openEdge } from './serve.ts'

export interface CheckOptions {
  readonly as?: string
  readonly operation?: string
  readonly model?: string
  readonly modelVersion?: string
  readonly strict: boolean
}

export async function check(path: string, options: CheckOptions): Promise<void> {
  const file = await configOrExit(path)
  const caller = options.as === undefined ? undefined : readCaller(options.as)
  const created = await createGateway(file)
  if ('mistakes' in created) return fail(created.mistakes, created.isStuck)
  const { gateway } = created
  if (caller) explain(gateway, caller, options)
  else {
    showModels(gateway)
    const opened = await openEdge(file.config, gateway)
    if ('message' in opened) return fail([opened])
    opened.close()
  }
  await gateway.close()
  if (!caller) conclude(path, file.config, options)
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

function conclude(path: string, config: Config, { strict }: CheckOptions): void {
  const weak = weaknesses(config)
  for (const weakness of weak) process.stdout.write(`\nweak: ${weakness}\n`)
  if (strict && weak.length > 0) failWith(`${weak.length} weak settings, and --strict allows none`)
  const { edge, metrics, admin } = config
  const at = ({ host, port }: { readonly host: string; readonly port: number }) => `${host}:${port}`
  process.stdout.write(`\nOK: ${path} would listen on ${at(edge)}, metrics on ${at(metrics)}, admin on ${at(admin)}\n`)
}

/** Says what a caller may do, and which rule has it so: for one model and operation, or for all. */
function explain(gateway: Gateway, caller: Caller, { operation, model, modelVersion }: CheckOptions): void {
  if (operation !== undefined && !operations.includes(operation as Operation))
    failWith(`--operation ${operation}: expected one of ${operations.join(', ')}`)
  const named = operations.filter((each) => operation === undefined || each === operation)
  const models = [...gateway.models.values()].filter(({ name }) => model === undefined || name === model)
  if (models.length === 0)
    failWith(`--model ${model}: no such model; there are ${[...gateway.models.keys()].join(', ')}`)
  for (const each of named) {
    if (each.startsWith('admin.')) process.stdout.write(`${each}: ${gateway.explain(caller, each, '', '')}\n`)
    else
      for (const { name, versions } of models)
        for (const version of versions.keys())
          if (modelVersion === undefined || version === modelVersion)
            process.stdout.write(`${each} ${name} ${version}: ${gateway.explain(caller, each, name, version)}\n`)
  }
}

const keys = ['name', 'method', 'tenant', 'subject', 'scopes', 'spiffe', 'profile'] as const

/** A caller as it is written in a command: `subject=alice,tenant=acme,scopes=models admin`. */
function readCaller(text: string): Caller {
  if (text === 'anyone') return callerOf(new Map([['method', 'none']]))
  const given = new Map(
    text.split(',').map((pair) => {
      const at = pair.indexOf('=')
      return [pair.slice(0, at).trim(), pair.slice(at + 1)] as const
    }),
  )
  const strange = [...given.keys()].find((key) => !keys.includes(key as (typeof keys)[number]))
  if (strange !== undefined)
    failWith(`--as ${text}: expected ${keys.join(', ')}, such as "subject=alice,tenant=acme,scopes=models admin"`)
  return callerOf(given)
}

function callerOf(given: ReadonlyMap<string, string>): Caller {
  const method = (given.get('method') ?? 'jwt') as Caller['method']
  const subject = given.get('subject') ?? ''
  return {
    name: given.get('name') ?? subject,
    method,
    tenant: given.get('tenant') ?? '',
    subject,
    scopes: given.get('scopes')?.split(' ') ?? [],
    spiffe: given.get('spiffe'),
    profile: given.get('profile'),
  }
}
