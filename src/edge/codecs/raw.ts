/**
 * The raw form: `Inference-Header-Content-Length: 0` and a body that is nothing but one tensor's bytes. The model has one
 * input; the request is one row; at most one other dimension may vary, and the size of the body tells it. A string is the
 * body itself.
 */
import { GrowingBytes } from '../../core/arena.ts'
import type { InferRequest } from '../../core/call.ts'
import { numerics } from '../../core/datatype.ts'
import { isRefusal, type Refusal } from '../../core/refusal.ts'
import { varies, type Signature, type TensorSpec } from '../../core/signature.ts'
import { elementCount, joinStrings, viewOf, type TensorData } from '../../core/tensor.ts'
import { areBits, neitherBit, stringProblem } from './binary.ts'
import { badInput, invalid, noMemory } from './complaints.ts'
import { sliceBytes, type BodyPlan, type Decoder } from './decoder.ts'
import { fit, fittingShape, prepare, type Prepared } from './fit.ts'

export class RawDecoder implements Decoder {
  readonly #known: Prepared
  readonly #plan: BodyPlan
  readonly #body: GrowingBytes

  constructor(plan: BodyPlan, contract: Signature) {
    this.#known = prepare(contract)
    this.#plan = plan
    this.#body = new GrowingBytes(plan.lease)
  }

  write(chunk: Uint8Array): Refusal | undefined {
    const { inputs } = this.#known.contract
    if (inputs.length !== 1) {
      return invalid('a body without JSON works for models with one input only: describe the inputs in JSON')
    }
    if (inputs[0]!.datatype === 'BOOL' && !areBits(chunk)) return badInput(inputs[0]!.name, neitherBit)
    return this.#body.append(chunk) ? undefined : noMemory()
  }

  end(): InferRequest | Refusal | undefined {
    const empty = this.write(new Uint8Array(0))
    if (empty) return empty
    if (!this.#body.settle(sliceBytes)) return undefined
    const { contract, rowAxis } = this.#known
    const spec = contract.inputs[0]!
    const { bytes } = this.#body
    const inferred = inferShape(spec, bytes.length, rowAxis)
    if (typeof inferred === 'string') return badInput(spec.name, inferred)
    const { name, datatype } = spec
    const shape = fittingShape(this.#known, spec, { datatype, shape: inferred }, this.#plan.options.tensors)
    if (isRefusal(shape)) return shape
    const data = readWhole(spec, bytes, shape)
    if (typeof data === 'string') return badInput(name, data)
    const wanted = contract.outputs.map((output) => ({ name: output.name, binary: true }))
    return fit(this.#known, [{ name, datatype, shape, data }], {
      id: undefined,
      wanted,
      timeoutMs: undefined,
      priority: undefined,
    })
  }
}

function inferShape({ datatype, shape }: TensorSpec, bytes: number, rowAxis: boolean): number[] | string {
  const open = shape.map((dim, axis) => (rowAxis && axis === 0 ? 1 : dim))
  const free = open.filter(varies).length
  if (free > 1) return `${free} of its dimensions vary, so a body without JSON cannot tell its shape`
  const fixed = elementCount(open.filter((dim) => typeof dim === 'number'))
  const elements = datatype === 'BYTES' ? 1 : bytes / numerics[datatype].bytes
  const size = elements / fixed
  if (free === 1 && (!Number.isInteger(size) || size < 1)) return `${bytes} bytes do not fill its shape`
  return open.map((dim) => (typeof dim === 'number' ? dim : size))
}

/** A string is the body itself, without a length before it. */
function readWhole({ datatype }: TensorSpec, bytes: Uint8Array, shape: readonly number[]): TensorData | string {
  if (datatype === 'BYTES') {
    const problem = elementCount(shape) === 1 ? stringProblem(bytes) : 'is one string but its shape needs more'
    return problem ? `the body ${problem}` : joinStrings([bytes])
  }
  const needed = elementCount(shape) * numerics[datatype].bytes
  if (bytes.length === needed) return viewOf(datatype, bytes)
  return `its binary data holds ${bytes.length} bytes but its shape needs ${needed}`
}
