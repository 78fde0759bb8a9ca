/** The fleet: every model of the store with its versions loaded into the workers, each fitted to its model's contract. */
import type { Mistake } from '../core/document.ts'
import type { Ran, Work } from '../core/run.ts'
import { hasRowAxis, type Graph, type Program, type Signature } from '../core/signature.ts'
import { conform, mapGraph, signatureOf, type Ports } from './contract.ts'
import { probeRows, type Independence } from './probe.ts'
import type { Bundle } from './store.ts'

export interface Version {
  readonly bundle: Bundle
  readonly program: Program
  /** Why its rows may or may not share a run with others'. */
  readonly rows: Independence
}

export interface Model {
  readonly name: string
  readonly contract: Signature
  /** From the oldest to the newest. */
  readonly versions: ReadonlyMap<string, Version>
}

/** What the fleet needs of whoever runs models. */
export interface Runner {
  load(file: string): Promise<{ session: number; graph: Graph } | string>
  run(program: Program, works: readonly Work[]): Promise<Ran>
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
      if (typeof version === 'string') {
        mistakes.push({ file: bundle.file, message: version })
        continue
      }
      contract ??= signatureOf(version.program)
      versions.set(bundle.version, version)
    }
    if (contract) models.set(name, { name, contract, versions })
  }
  return { models, mistakes }
}

async function loadVersion(bundle: Bundle, contract: Signature | undefined, runner: Runner): Promise<Version | string> {
  const loaded = await runner.load(bundle.file)
  if (typeof loaded === 'string') return explainLoad(loaded)
  const mapped = mapGraph(loaded.graph, bundle.manifest)
  if (typeof mapped === 'string') return mapped
  const ports = contract ? conform(mapped, contract) : mapped
  if (typeof ports === 'string')
    return `version ${bundle.version} does not serve the contract of "${bundle.model}": ${ports}`
  const program = {
    session: loaded.session,
    inputs: ports.inputs,
    outputs: ports.outputs,
    batched: true,
    runRows: Infinity,
  }
  const rows = await independenceOf(bundle, ports, program, runner)
  return { bundle, program: { ...program, batched: rows.independent }, rows }
}

async function independenceOf(
  { manifest }: Bundle,
  ports: Ports,
  program: Program,
  runner: Runner,
): Promise<Independence> {
  if (!hasRowAxis(signatureOf(ports))) return { independent: false, why: 'the graph has no row axis' }
  const { rows } = manifest.batching
  if (rows !== 'probe') return { independent: rows === 'independent', why: `the manifest says ${rows}` }
  return probeRows(program, (each, works) => runner.run(each, works))
}

/** ONNX Runtime's own words, with what to do about the common cases. */
function explainLoad(problem: string): string {
  const said = problem
    .replace(/^.*?failed:\s*/s, '')
    .replace(/^\/onnxruntime_src\/.*?\) /s, '')
    .trim()
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
