/** The fleet: every model of the store with its versions loaded into the workers, each fitted to its model's contract. */
import type { Clock } from '../core/clock.ts'
import type { Mistake } from '../core/document.ts'
import type { Run } from '../core/run.ts'
import { hasRowAxis, type Graph, type Program, type Signature } from '../core/signature.ts'
import { conform, mapGraph, signatureOf } from './contract.ts'
import { tryGolden } from './golden.ts'
import { paddingOf, probePadding } from './padding.ts'
import { probeRows, type Independence } from './probe.ts'
import type { Bundle } from './store.ts'
import { warmUp, type WarmUpOptions } from './warm-up.ts'

export interface Version {
  readonly bundle: Bundle
  readonly program: Program
  /** Why its rows may or may not share a run with others'. */
  readonly rows: Independence
  /** What its first runs took. */
  readonly firstRuns: readonly { readonly key: string; readonly rows: number; readonly computeMs: number }[]
}

export interface Model {
  readonly name: string
  readonly contract: Signature
  /** From the oldest to the newest. */
  readonly versions: ReadonlyMap<string, Version>
}

/** A version that whoever runs models knows by a number. */
export interface Deployed {
  readonly id: number
  readonly run: Run
  /** Loads it; returns the graph, or what is wrong with it. */
  deploy(): Promise<Graph | string>
  /** Takes requests, once every worker has warmed up; `warmUp` says whether it could run anything. Returns why it does not. */
  open(warmUp: (run: Run) => Promise<boolean>): Promise<string | undefined>
  /** Lets it go for good, once its runs are over; whoever runs models forgets it. */
  retire(): Promise<void>
}

/** What the fleet needs of whoever runs models. */
export interface Runner {
  deploy(bundle: Bundle): Promise<Deployed | string>
  /** Most rows of a model in a run. */
  maxRows(model: string): number
  readonly warmUpMs: number
  readonly clock: Clock
}

/** Loads bundles, sorted by model and from the oldest version to the newest. */
export async function loadFleet(
  bundles: readonly Bundle[],
  runner: Runner,
): Promise<{ models: Map<string, Model>; mistakes: Mistake[] }> {
  const models = new Map<string, Model>()
  const mistakes: Mistake[] = []
  for (const [name, own] of Map.groupBy(bundles, ({ model }) => model)) {
    let contract: Signature | undefined
    const versions = new Map<string, Version>()
    for (const bundle of own) {
      const version = await loadVersion(bundle, contract, runner)
      if (isBad(version)) {
        mistakes.push(...version)
        continue
      }
      contract ??= signatureOf(version.program)
      versions.set(bundle.version, version)
    }
    if (contract) models.set(name, { name, contract, versions })
  }
  return { models, mistakes }
}

/** Loads a version, tries it and lets it take requests. Returns why not; then nothing is left of it. */
export async function loadVersion(
  bundle: Bundle,
  contract: Signature | undefined,
  runner: Runner,
): Promise<Version | readonly Mistake[]> {
  const mistake = (message: string) => [{ file: bundle.file, message }]
  const deployed = await runner.deploy(bundle)
  if (typeof deployed === 'string') return mistake(deployed)
  const graph = await deployed.deploy()
  const version =
    typeof graph === 'string' ? explainLoad(graph) : await tryVersion({ bundle, graph, contract, deployed }, runner)
  if (typeof version !== 'string' && !isBad(version)) return version
  await deployed.retire()
  return typeof version === 'string' ? mistake(version) : version
}

/** Whether it could not be loaded. */
export function isBad(loaded: Version | readonly Mistake[]): loaded is readonly Mistake[] {
  return Array.isArray(loaded)
}

interface Candidate {
  readonly bundle: Bundle
  readonly graph: Graph
  readonly contract: Signature | undefined
  readonly deployed: Deployed
}

async function tryVersion(
  { bundle, graph, contract, deployed }: Candidate,
  runner: Runner,
): Promise<Version | string | readonly Mistake[]> {
  const { manifest, model, version } = bundle
  const mapped = mapGraph(graph, manifest)
  if (typeof mapped === 'string') return mapped
  const ports = contract ? conform(mapped, contract) : mapped
  if (typeof ports === 'string') return `version ${version} does not serve the contract of "${model}": ${ports}`
  const padding = paddingOf(ports.inputs, manifest)
  if (typeof padding === 'string') return padding
  const { run } = deployed
  const probed: Program = {
    ...ports,
    id: deployed.id,
    batched: true,
    runRows: Infinity,
    repeatable: !manifest.sideEffects,
    padding,
  }
  const rows = await independenceOf(manifest, probed, run)
  const program = { ...probed, batched: rows.independent, runRows: runner.maxRows(model) }
  const badPadding = program.repeatable ? await probePadding(program, manifest, run) : undefined
  if (badPadding !== undefined) return badPadding
  const unlike = await tryGolden({ bundle, contract: contract ?? signatureOf(ports), program }, run)
  if (unlike.length > 0) return unlike
  const firstRuns = await open(deployed, program, runner)
  return typeof firstRuns === 'string' ? firstRuns : { bundle, program, rows, firstRuns }
}

/** Lets it warm up, now and whenever it is loaded again; returns what the runs took this time. */
async function open(
  deployed: Deployed,
  program: Program,
  { clock, warmUpMs }: Runner,
): Promise<Version['firstRuns'] | string> {
  const firstRuns: Version['firstRuns'][number][] = []
  let learn: WarmUpOptions['learn'] = (key, rows, computeMs) => void firstRuns.push({ key, rows, computeMs })
  const budgetMs = program.repeatable ? warmUpMs : 0
  const problem = await deployed.open((run) => warmUp({ program, budgetMs, clock, learn }, run))
  learn = undefined
  return problem ?? firstRuns
}

async function independenceOf({ batching }: Bundle['manifest'], program: Program, run: Run): Promise<Independence> {
  if (!hasRowAxis(signatureOf(program))) return { independent: false, why: 'the graph has no row axis' }
  const { rows } = batching
  if (rows !== 'probe') return { independent: rows === 'independent', why: `the manifest says ${rows}` }
  if (!program.repeatable) return { independent: false, why: 'not tried: the model has side effects' }
  return probeRows(program, run)
}

/** ONNX Runtime's own words, with what to do about the common cases. */
function explainLoad(problem: string): string {
  if (problem.startsWith('provider ') || problem.startsWith('the worker died')) return problem
  const said = problem
    .replace(/^.*?failed:\s*/s, '')
    .replace(/(^|\s)\/onnxruntime_src\/.*?\) (\[ONNXRuntimeError\] : \d+ : \w+ : )?/s, '$1')
    .replace(/\b\w+\.cc:\d+ \w+ /, '')
    .trim()
  if (/[Ee]xternal (data|initializer)/.test(said))
    return `its weights are in a file of their own, and that cannot be used: ${said}`
  if (/Unsupported data type: 16\b/.test(problem)) {
    return 'an input or output is BF16, which ONNX Runtime for Node cannot pass: export it as FP16 or FP32'
  }
  if (/Unsupported data type|cannot be carried/.test(problem))
    return `an input or output has a type that cannot be served: ${said}`
  if (/protobuf|does not have a graph/i.test(problem)) return 'not an ONNX model, or a damaged one: export it again'
  if (/not a registered function\/op|Could not find an implementation|No Op registered/i.test(problem)) {
    return `uses an operator that ONNX Runtime does not have: export it with standard operators (${said})`
  }
  if (said.includes('is not a tensor')) return `${said}: export it with tensors only`
  return `ONNX Runtime cannot load it: ${said}`
}
