/**
 * The raw form: `Inference-Header-Content-Length: 0` and a body that is nothing but one tensor's bytes. The model has one
 * input; the request is one row; at most one other dimension may vary, and the size of the body tells it. A string is the
 * body itself.
 */
import type { InferRequest } from '../../core/call.ts'
import { numerics } from '../../core/datatype.ts'
import { refuse, type Refusal } from '../../core/refusal.ts'
import { hasRowAxis, varies, type Signature, type TensorSpec } from '../../core/signature.ts'
import { elementCount, joinStrings, type Strings } from '../../core/tensor.ts'
import { readBinary, stringProblem } from './binary.ts'
import { fitRequest } from './request.ts'

export function decodeRaw(body: Uint8Array, contract: Signature): InferRequest | Refusal {
  const [spec] = contract.inputs
  if (!spec || contract.inputs.length > 1) {
    return refuse('invalid', 'a body without JSON works for models with one input only: describe the inputs in JSON')
  }
  const shape = inferShape(spec, body.byteLength, hasRowAxis(contract))
  if (typeof shape === 'string') return refuse('invalid', `input "${spec.name}": ${shape}`)
  const data = spec.datatype === 'BYTES' ? oneString(body) : readBinary(spec.datatype, body, shape)
  if (typeof data === 'string') return refuse('invalid', `input "${spec.name}": ${data}`)
  const wanted = contract.outputs.map(({ name }) => ({ name, binary: true }))
  return fitRequest(contract, [{ name: spec.name, datatype: spec.datatype, shape, data }], wanted)
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

/** The body is the element itself, without a length before it. */
function oneString(body: Uint8Array): Strings | string {
  const problem = stringProblem(body)
  return problem ? `the body ${problem}` : joinStrings([body])
}
