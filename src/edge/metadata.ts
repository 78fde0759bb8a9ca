/** What can be asked about the server and its models, in the words of the Open Inference Protocol and of Triton. */
import packageFile from '../../package.json' with { type: 'json' }
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import { wireShape, type TensorSpec } from '../core/signature.ts'
import type { Histogram } from '../telemetry/histogram.ts'
import { openApi } from './openapi/document.ts'
import type { Address, ModelOperation, ServerOperation } from './routes.ts'
import type { ServedModel, ServedVersion, Serving } from './serving.ts'

export interface Said {
  readonly status: number
  readonly body: unknown
}

type ModelQuestion = { readonly kind: Exclude<ModelOperation, 'infer'>; readonly address: Address }
export type Question = { readonly kind: ServerOperation; readonly host: string } | ModelQuestion

const extensions = ['binary_tensor_data', 'parameters', 'model_configuration', 'statistics']

/** Answers everything that is not inference. */
export function inform(question: Question, serving: Serving, draining: boolean): Said | Refusal {
  const refused = draining ? refuse('draining', 'the gateway is shutting down') : serving.refused()
  if ('address' in question) return aboutModel(question, serving, refused)
  switch (question.kind) {
    case 'live':
      return ok({ live: true })
    case 'ready':
      return readiness({}, refused)
    case 'server':
      return ok({ name: packageFile.name, version: packageFile.version, extensions })
    case 'openapi':
      return ok(openApi(serving, question.host))
    case 'models':
      return ok({ models: [...serving.models.keys()] })
    case 'allStats':
      return ok({
        model_stats: [...serving.models.values()].flatMap((model) => statsOf(model, [...model.versions.values()])),
      })
  }
}

function ok(body: unknown): Said {
  return { status: 200, body }
}

/** 503 when not ready, which probes take as a failure and proxies as a reason to try elsewhere; Triton says 400. */
function readiness(about: { readonly name?: string }, refused: Refusal | undefined): Said | Refusal {
  return refused ?? ok({ ...about, ready: true })
}

function aboutModel({ kind, address }: ModelQuestion, serving: Serving, refused: Refusal | undefined): Said | Refusal {
  const route = serving.steps.router.route(address)
  if (isRefusal(route)) return route
  const target = serving.steps.router.choose(route, address)
  if (isRefusal(target)) return target
  const model = serving.models.get(target.model)!
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
        model_stats: statsOf(model, address.version === undefined ? [...model.versions.values()] : [version]),
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
