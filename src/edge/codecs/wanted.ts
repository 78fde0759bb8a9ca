/** Which outputs a request wants, and in what form. What cannot be written as asked is refused before it is computed. */
import type { WantedOutput } from '../../core/call.ts'
import type { Signature, TensorSpec } from '../../core/signature.ts'
import type { Prepared } from './fit.ts'
import { isObject, type Json } from './scanner.ts'

export function readWanted(request: Json, { contract, allAsJson }: Prepared): readonly WantedOutput[] | string {
  const byDefault = (request['parameters'] as Json | undefined)?.['binary_data_output'] ?? false
  if (typeof byDefault !== 'boolean') return 'parameter "binary_data_output" must be true or false'
  const list = request['outputs']
  if (list !== undefined && !Array.isArray(list)) return '"outputs" must be a list'
  if (!list || list.length === 0) {
    const all = byDefault ? allAsJson.map(({ name }) => ({ name, binary: true })) : allAsJson
    return wantedProblem(all, contract) ?? all
  }
  const wanted: WantedOutput[] = []
  for (const output of list as unknown[]) {
    const one = readOne(output, contract, byDefault)
    if (typeof one === 'string') return one
    if (wanted.some(({ name }) => name === one.name)) return `output "${one.name}" is asked for twice`
    wanted.push(one)
  }
  return wantedProblem(wanted, contract) ?? wanted
}

function readOne(output: unknown, { outputs }: Signature, byDefault: boolean): WantedOutput | string {
  if (!isObject(output)) return 'each of "outputs" must be an object'
  const spec = outputs.find(({ name }) => name === output['name'])
  if (!spec) return `the model has no output ${quoted(output['name'])}; it gives ${namesOf(outputs)}`
  const parameters = output['parameters'] ?? {}
  if (!isObject(parameters)) return `output "${spec.name}": its parameters must be an object`
  if (parameters['classification']) return `output "${spec.name}": classification is not supported; sort the scores`
  if (parameters['shared_memory_region'] !== undefined) return `output "${spec.name}": shared memory is not supported`
  const { binary_data: own } = parameters
  if (own !== undefined && typeof own !== 'boolean') return `output "${spec.name}": "binary_data" must be true or false`
  return { name: spec.name, binary: own ?? byDefault }
}

function wantedProblem(wanted: readonly WantedOutput[], { outputs }: Signature): string | undefined {
  const problem = wanted.find(
    ({ name, binary }) => !binary && outputs.some((spec) => spec.name === name && spec.datatype === 'FP16'),
  )
  return problem && `output "${problem.name}" is FP16, which has no form in JSON: ask for it with "binary_data": true`
}

export function namesOf(specs: readonly TensorSpec[]): string {
  return specs.map(({ name }) => `"${name}"`).join(', ')
}

export function quoted(name: unknown): string {
  return typeof name === 'string' ? JSON.stringify(name.slice(0, 64)) : 'without a name'
}
