/** What can be asked about the server and its models, in the words of the Open Inference Protocol and of Triton. */
import packageFile from '../../package.json' with { type: 'json' }
import type { Caller } from '../core/caller.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { wireShape, type TensorSpec } from '../core/signature.ts'
import type { Histogram } from '../telemetry/histogram.ts'
import { openApi } from './openapi/document.ts'
import type { Address, ModelOperation, OpenOperation, ServerOperation } from './routes.ts'
import type { ServedModel, ServedVersion, Serving } from './serving.ts'

export interface Said {
  readonly status: number
  readonly body: unknown
}

type ModelQuestion = { readonly kind: Exclude<ModelOperation, 'infer'>; readonly address: Address }
export type Question =
  | { readonly kind: Exclude<ServerOperation, OpenOperation | 'feedback'>; readonly host: string }
  | ModelQuestion

const extensions = ['binary_tensor_data', 'parameters', 'model_configuration', 'statistics']

/** What a caller gets to see. */
export class View {
  readonly serving: Serving
  readonly #caller: Caller

  constructor(serving: Serving, caller: Caller) {
    this.serving = serving
    this.#caller = caller
  }

  get models(): ServedModel[] {
    return [...this.serving.models.keys()].flatMap((name) => this.model(name) ?? [])
  }

  /** With the versions that it sees; undefined if there are none. */
  model(name: string): ServedModel | undefined {
    const { models, steps } = this.serving
    const model = models.get(name)!
    const seen = [...model.versions].filter(([version]) => steps.access.sees(this.#caller, name, version))
    return seen.length > 0 ? { ...model, versions: new Map(seen) } : undefined
  }

  /** Versions of a model whose statistics it may have. */
  counted({ name, versions }: ServedModel): ServedVersion[] {
    const { access } = this.serving.steps
    return [...versions.values()].filter(({ version }) => access.sees(this.#caller, name, version, 'stats'))
  }
}

/** What everybody may know. */
export function health(kind: 'live' | 'ready', serving: Serving, draining: boolean): Said | Refusal {
  return kind === 'live' ? ok({ live: true }) : readiness({}, unready(serving, draining))
}

/** Answers everything else but inference. Whether the caller may ask for it has been looked at. */
export function inform(question: Question, view: View, draining: boolean): Said | Refusal {
  if ('address' in question) return aboutModel(question, view, unready(view.serving, draining))
  switch (question.kind) {
    case 'server':
      return ok({ name: packageFile.name, version: packageFile.version, extensions })
    case 'openapi':
      return ok(openApi(view, question.host))
    case 'models':
      return ok({ models: view.models.map(({ name }) => name) })
    case 'allStats':
      return ok({ model_stats: view.models.flatMap((model) => statsOf(model, view.counted(model))) })
  }
}

function unready(serving: Serving, draining: boolean): Refusal | undefined {
  return draining ? refuse('draining', 'the gateway is shutting down') : serving.refused()
}

function ok(body: unknown): Said {
  return { status: 200, body }
}

/** 503 when not ready, which probes take as a failure and proxies as a reason to try elsewhere; Triton says 400. */
function readiness(about: { readonly name?: string }, refused: Refusal | undefined): Said | Refusal {
  return refused ?? ok({ ...about, ready: true })
}

function aboutModel({ kind, address }: ModelQuestion, view: View, refused: Refusal | undefined): Said | Refusal {
  const { router } = view.serving.steps
  const route = router.route(address)
  if (isRefusal(route)) return route
  const target = router.standard(route)
  if (isRefusal(target)) return target
  const model = view.model(target.model)!
  const version = model.versions.get(target.version)!
  switch (kind) {
    case 'model':
      return ok(metadataOf(model, version, address.version !== undefined))
    case 'modelReady':
      return readiness({ name: model.name }, refused ?? version.refused())
    case 'config':
      return ok(configOf(model, version))
    default:
      return ok({
        model_stats: statsOf(model, address.version === undefined ? view.counted(model) : [version]),
      })
  }
}

/** The parameters are of the version that would answer. */
function metadataOf({ name, contract, versions }: ServedModel, version: ServedVersion, isNamed: boolean) {
  const { provider, device, runMs } = version.runsOn()
  return {
    name,
    versions: isNamed ? [version.version] : [...versions.keys()],
    platform: 'onnx_onnxv1',
    inputs: contract.inputs.map(tensorMetadata),
    outputs: contract.outputs.map(tensorMetadata),
    parameters: {
      version: version.version,
      provider,
      device,
      ...(runMs && { run_base_ms: runMs.baseMs, run_row_ms: runMs.rowMs }),
    },
  }
}

function tensorMetadata({ name, datatype, shape }: TensorSpec) {
  return { name, datatype, shape: wireShape(shape) }
}

/** Triton's ModelConfig, as far as it applies. With a batch size, `dims` leave the row axis out. */
function configOf({ name, contract }: ServedModel, { version, batched, maxRows }: ServedVersion) {
  const tensor = ({ name: tensorName, datatype, shape }: TensorSpec) => {
    const dims = wireShape(shape)
    const type = `TYPE_${datatype === 'BYTES' ? 'STRING' : datatype}`
    return { name: tensorName, data_type: type, dims: batched ? dims.slice(1) : dims }
  }
  return {
    name,
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    version_policy: { specific: { versions: [version] } },
    max_batch_size: batched ? maxRows : 0,
    input: contract.inputs.map(tensor),
    output: contract.outputs.map(tensor),
    ...(batched && { dynamic_batching: {} }),
  }
}

const nanoseconds = 1e6

/** Triton's statistics: `inference_count` counts rows, `execution_count` runs. */
function statsOf({ name }: ServedModel, versions: readonly ServedVersion[]) {
  return versions.map(({ version, counts }) => {
    const { outcomes, phases, failedMs } = counts.requests
    const success = outcomes.get('ok') ?? 0
    const fail = [...outcomes.values()].reduce((sum, count) => sum + count, 0) - success
    const sorted = [...counts.batches].toSorted(([a], [b]) => a - b)
    return {
      name,
      version,
      last_inference: counts.lastInferenceEpochMs,
      inference_count: counts.rows,
      execution_count: sorted.reduce((sum, [, { runs }]) => sum + runs, 0),
      inference_stats: {
        success: { count: success, ns: Math.round(Math.max(0, phases.total.sum - failedMs) * nanoseconds) },
        fail: { count: fail, ns: Math.round(failedMs * nanoseconds) },
        queue: duration(phases.queue),
        compute_infer: duration(phases.compute),
      },
      batch_stats: sorted.map(([rows, { runs, computeMs }]) => {
        return { batch_size: rows, compute_infer: { count: runs, ns: Math.round(computeMs * nanoseconds) } }
      }),
    }
  })
}

function duration({ count, sum }: Histogram) {
  return { count, ns: Math.round(sum * nanoseconds) }
}
