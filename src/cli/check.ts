/** `penstock check`: everything that `serve` does short of listening, what would be served, and what is weak about it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Config, ConfigFile } from '../config.ts'
import { showSpec } from '../core/signature.ts'
import { createGateway } from '../create-gateway.ts'
import type { Gateway } from '../gateway.ts'
import { defaultArm, type Trial } from '../live/intent.ts'
import type { LiveModel } from '../live/model.ts'
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
  const created = await createGateway(forgetful(file))
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

/** A look must not change what a gateway that runs remembers of its splits, nor go by it. */
function forgetful(file: ConfigFile): ConfigFile {
  const path = mkdtempSync(join(tmpdir(), 'penstock-check-'))
  process.once('exit', () => rmSync(path, { recursive: true, force: true }))
  return { ...file, config: { ...file.config, state: { store: 'file', path } } }
}

function showModels(gateway: Gateway): void {
  for (const model of gateway.models.values()) {
    const { name, contract, versions } = model
    process.stdout.write(`${name}\n`)
    for (const spec of contract.inputs) process.stdout.write(`  takes ${showSpec(spec)}\n`)
    for (const spec of contract.outputs) process.stdout.write(`  gives ${showSpec(spec)}\n`)
    for (const served of versions.values()) {
      const batching = served.batched ? `batches up to ${served.maxRows} rows` : 'runs requests one at a time'
      const { provider, device } = served.runsOn()
      const where = `${provider}${device && ` (${device})`} in a ${served.deployment.options.worker.isolation}`
      process.stdout.write(
        `  version ${served.version}: ${batching} (${served.why}), on ${where}${partOf(model, served.version)}\n`,
      )
    }
    for (const line of splitLines(model)) process.stdout.write(`  ${line}\n`)
  }
}

/** What requests that name no version have a version for. */
function partOf({ intent }: LiveModel, version: string): string {
  if (!intent.split) return version === intent.version ? ', answers requests that name no version' : ''
  const arms = Object.entries(intent.split.arms).filter(([, arm]) => arm.version === version)
  return arms.length === 0 ? '' : `, for ${arms.map(([arm]) => arm).join(' and ')}`
}

function splitLines({ intent: { aliases, split, trial } }: LiveModel): string[] {
  const names = Object.entries(aliases).map(([alias, version]) => `alias ${alias}: version ${version}`)
  if (!split) return names
  const arms = Object.entries(split.arms)
  const sum = arms.reduce((total, [, { weight }]) => total + weight, 0)
  const shares = arms.map(([arm, { weight }]) => `${arm} ${percent(weight / sum)}`)
  const rules =
    split.rules.length === 0 ? '' : `, after ${split.rules.length === 1 ? 'a rule' : `${split.rules.length} rules`}`
  const { unit } = split
  const unitName = 'name' in unit ? `${unit.by} ${unit.name}` : unit.by
  return [
    ...names,
    `split by ${unitName}: ${shares.join(', ')}${rules}; default ${defaultArm(split)}`,
    ...split.shadows.map(({ version, share }) => `shadow: version ${version} on ${percent(share)} of the requests`),
    ...(trial ? [trialLine(trial)] : []),
  ]
}

function trialLine({ options, control, treatment }: Trial): string {
  const steps = options.kind === 'canary' ? options.steps.map(({ share }) => percent(share)) : []
  const way = steps.length === 0 ? '' : `, by itself through ${steps.join(', ')} of both`
  const first = options.kind === 'canary' && options.afterShadow ? ', once its shadow agrees' : ''
  return `experiment: ${options.kind === 'canary' ? 'canary' : 'A/B test'} of ${treatment} against ${control}${way}${first}`
}

function percent(part: number): string {
  return `${Number((100 * part).toPrecision(3))} %`
}

function conclude(path: string, config: Config, { strict, models }: Pick<CheckOptions, 'strict'> & Named): void {
  const weak = weaknesses(config, models)
  for (const weakness of weak) process.stdout.write(`\nweak: ${weakness}\n`)
  if (strict && weak.length > 0) failWith(`weak settings: ${weak.length}, and --strict allows none`)
  const { edge, metrics, admin } = config
  const at = ({ host, port }: { readonly host: string; readonly port: number }) => `${host}:${port}`
  process.stdout.write(`\nOK: ${path} would listen on ${at(edge)}, metrics on ${at(metrics)}, admin on ${at(admin)}\n`)
}
