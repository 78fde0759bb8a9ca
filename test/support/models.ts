/** Models with a temper, for tests that need one. */
import { onnx, type Constant, type Node } from './onnx.ts'

/**
 * Gives back its one number after `steps` matrix products of zeros, each some milliseconds of work that no optimiser can
 * take out, because the number takes part in the first.
 */
export function slow(steps: number, size: number = 640): Buffer {
  const shape: Constant = { name: 'shape', type: 'INT64', shape: [2], data: [size, size] }
  const products = Array.from({ length: steps }, (_, i): Node => {
    return { op: 'MatMul', inputs: [`m${i}`, 'zeros'], outputs: [`m${i + 1}`] }
  })
  return onnx({
    inputs: [{ name: 'x', type: 'FP32', shape: [1, 1] }],
    outputs: [{ name: 'y', type: 'FP32', shape: [1, 1] }],
    constants: [shape],
    nodes: [
      { op: 'ConstantOfShape', inputs: ['shape'], outputs: ['zeros'] },
      { op: 'Add', inputs: ['zeros', 'x'], outputs: ['m0'] },
      ...products,
      { op: 'ReduceMax', inputs: [`m${steps}`], outputs: ['nothing'] },
      { op: 'Add', inputs: ['nothing', 'x'], outputs: ['y'] },
    ],
  })
}
