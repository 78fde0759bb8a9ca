/**
 * A model has one contract: the inputs and outputs that clients see, the same for all its versions. The oldest version
 * sets it. A younger one whose graph has other names or narrower datatypes maps to it in its manifest, or is refused.
 */
import { widens } from '../core/datatype.ts'
import { showShape, varies } from '../core/signature.ts'
import type { Graph, GraphPort, Port, Signature, TensorSpec } from '../core/signature.ts'
import { maxRank } from '../core/tensor.ts'
import type { Manifest } from './manifest.ts'

export interface Ports {
  readonly inputs: readonly Port[]
  readonly outputs: readonly Port[]
}

export function signatureOf({ inputs, outputs }: Ports): Signature {
  return { inputs: inputs.map(({ spec }) => spec), outputs: outputs.map(({ spec }) => spec) }
}

/** Applies a manifest's mapping to a graph. Returns the ports, or what does not fit. */
export function mapGraph(graph: Graph, manifest: Manifest): Ports | string {
  const inputs = mapPorts('input', graph.inputs, manifest.inputs)
  if (typeof inputs === 'string') return inputs
  const outputs = mapPorts('output', graph.outputs, manifest.outputs)
  if (typeof outputs === 'string') return outputs
  if (outputs.length === 0) return 'the graph has no output that is a tensor'
  return { inputs, outputs }
}

function mapPorts(role: 'input' | 'output', graph: readonly GraphPort[], mapping: Manifest['inputs']): Port[] | string {
  const names = graph.map(({ name }) => `"${name}"`).join(', ')
  const contractName = new Map(Object.entries(mapping).map(([name, { graph: own = name }]) => [own, name]))
  for (const [own, name] of contractName) {
    if (!graph.some((port) => port.name === own)) {
      return `the manifest maps ${role} "${name}" to "${own}", but the graph's ${role}s are ${names}`
    }
  }
  if (contractName.size < Object.keys(mapping).length)
    return `the manifest maps two ${role}s to the same one of the graph`
  const ports: Port[] = []
  for (const port of graph) {
    const name = contractName.get(port.name) ?? port.name
    if (ports.some(({ spec }) => spec.name === name)) return `the manifest gives two ${role}s the name "${name}"`
    const datatype = mapping[name]?.datatype ?? port.datatype
    const [from, to] = role === 'input' ? [datatype, port.datatype] : [port.datatype, datatype]
    if (!widens(from, to)) return `${role} "${name}": ${from} cannot become ${to} without loss`
    if (port.shape.length > maxRank)
      return `${role} "${name}" has ${port.shape.length} dimensions; ${maxRank} is the most`
    ports.push({ spec: { name, datatype, shape: port.shape }, graph: port })
  }
  return ports
}

/** Puts a version's ports into the contract's order. Returns them, or why the version does not serve the contract. */
export function conform(ports: Ports, contract: Signature): Ports | string {
  const surplus = ports.inputs.find(({ spec }) => !contract.inputs.some(({ name }) => name === spec.name))
  if (surplus) return `it needs an input "${surplus.spec.name}" that the contract lacks; ${hint('inputs')}`
  const inputs = conformPorts('input', ports.inputs, contract.inputs)
  if (typeof inputs === 'string') return inputs
  const outputs = conformPorts('output', ports.outputs, contract.outputs)
  if (typeof outputs === 'string') return outputs
  return { inputs, outputs }
}

function conformPorts(role: 'input' | 'output', ports: readonly Port[], specs: readonly TensorSpec[]): Port[] | string {
  const ordered: Port[] = []
  for (const spec of specs) {
    const port = ports.find((each) => each.spec.name === spec.name)
    if (!port) {
      const names = ports.map((each) => `"${each.spec.name}"`).join(', ')
      return `the contract's ${role} "${spec.name}" is missing among ${names}; ${hint(`${role}s`)}`
    }
    const { datatype, shape } = port.spec
    if (datatype !== spec.datatype) {
      return `${role} "${spec.name}" is ${datatype}, but the contract says ${spec.datatype}; ${hint(`${role}s`)}`
    }
    if (!serves(role, shape, spec.shape)) {
      return `${role} "${spec.name}" has shape ${showShape(shape)}, but the contract says ${showShape(spec.shape)}`
    }
    ordered.push(port)
  }
  return ordered
}

function hint(role: string): string {
  return `map it under \`${role}\` in the manifest`
}

/** An input may accept more than the contract asks for; an output may not promise less. */
function serves(role: 'input' | 'output', shape: TensorSpec['shape'], contract: TensorSpec['shape']): boolean {
  if (shape.length !== contract.length) return false
  return contract.every((dim, axis) => {
    const own = shape[axis]
    if (varies(dim)) return varies(own)
    return own === dim || (role === 'input' && varies(own))
  })
}
