/** An answer that is declared in the configuration, and is always the same. */
import type { NumericArray } from '../core/datatype.ts'
import { dataOf } from '../core/elements.ts'
import { hasRowAxis, varies, type Signature, type TensorSpec } from '../core/signature.ts'
import { concatStrings, elementCount, isStrings, type Tensor, type TensorData } from '../core/tensor.ts'
import { covers, type Elements, type Fallback, type Substitute } from './fallback.ts'

/** Always the same answer; or what is wrong with it, given the contract. */
export function constantFallback(contract: Signature, outputs: Readonly<Record<string, Elements>>): Fallback | string {
  const stranger = Object.keys(outputs).find((name) => contract.outputs.every((spec) => spec.name !== name))
  if (stranger !== undefined) return `the model has no output "${stranger}"`
  const byRow = hasRowAxis(contract)
  const rows: Tensor[] = []
  for (const spec of contract.outputs) {
    const row = constantRow(spec, outputs[spec.name], byRow)
    if (typeof row === 'string') return `output "${spec.name}": ${row}`
    rows.push(row)
  }
  return {
    keepMs: 0,
    answer(request, _claim, because) {
      const repeated = () => rows.map((row) => (byRow ? repeat(row, request.rows) : row))
      const substitute: Substitute | undefined = covers(because)
        ? { kind: 'constant', version: undefined, outputs: repeated() }
        : undefined
      return Promise.resolve(substitute)
    },
  }
}

/** One row of an output, or what is wrong with it. */
function constantRow(spec: TensorSpec, elements: Elements | undefined, byRow: boolean): Tensor | string {
  const { name, datatype, shape } = spec
  const dims = byRow ? shape.slice(1) : shape
  if (!elements) return 'it has no elements here'
  if (datatype === 'FP16') return 'FP16 cannot be written here'
  if (dims.some(varies)) return 'its size varies, so no constant can stand for it'
  const own = dims as readonly number[]
  if (elements.length !== elementCount(own))
    return `it has ${elements.length} elements here and ${elementCount(own)} in the model`
  const data = dataOf(datatype, elements)
  return typeof data === 'string' ? data : { name, datatype, shape: byRow ? [1, ...own] : own, data }
}

function repeat({ name, datatype, shape, data }: Tensor, rows: number): Tensor {
  return { name, datatype, shape: [rows, ...shape.slice(1)], data: repeatData(data, rows) }
}

function repeatData(data: TensorData, times: number): TensorData {
  if (isStrings(data)) return concatStrings(Array.from({ length: times }, () => data))
  const repeated = new (data.constructor as new (length: number) => NumericArray)(data.length * times)
  for (let i = 0; i < times; i++) repeated.set(data as never, i * data.length)
  return repeated
}
