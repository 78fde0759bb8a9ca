/** Models with a temper, for tests that need one. */
import { onnx, type Constant, type Graph, type Node, type OnnxType, type Value } from './onnx.ts'

const value = (name: string, type: OnnxType, shape: Value['shape']): Value => ({ name, type, shape })

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

/**
 * Gives back its numbers after it has counted to the largest of them, one by one: thousands are at once, a million takes
 * about a second, and what `forever` asks for never comes back.
 */
export const looping = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['n', 1] }],
  constants: [{ name: 'none', type: 'INT64', shape: [], data: [0] }],
  nodes: [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['count'], attributes: { keepdims: 0 } },
    { op: 'Loop', inputs: ['count', '', 'none'], outputs: ['counted'], attributes: { body: countOne() } },
    { op: 'Sub', inputs: ['counted', 'count'], outputs: ['nothing'] },
    { op: 'Add', inputs: ['x', 'nothing'], outputs: ['y'] },
  ],
})

/** Iterations that no machine gets through. */
export const forever = 2 ** 50

function countOne() {
  return {
    inputs: [
      { name: 'i', type: 'INT64', shape: [] },
      { name: 'going', type: 'BOOL', shape: [] },
      { name: 'so_far', type: 'INT64', shape: [] },
    ],
    outputs: [
      { name: 'goes_on', type: 'BOOL', shape: [] },
      { name: 'more', type: 'INT64', shape: [] },
    ],
    constants: [{ name: 'one', type: 'INT64', shape: [], data: [1] }],
    nodes: [
      { op: 'Identity', inputs: ['going'], outputs: ['goes_on'] },
      { op: 'Add', inputs: ['so_far', 'one'], outputs: ['more'] },
    ],
  } satisfies Graph
}

/** As many zeros as its largest number says, and one more, go through memory; the numbers come back. */
export const hungry = onnx({
  inputs: [value('x', 'INT64', ['n', 1])],
  outputs: [value('y', 'INT64', ['n', 1])],
  constants: [{ name: 'one', type: 'INT64', shape: [1], data: [1] }],
  nodes: [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['most'], attributes: { axes: [0], keepdims: 0 } },
    { op: 'Add', inputs: ['most', 'one'], outputs: ['size'] },
    { op: 'ConstantOfShape', inputs: ['size'], outputs: ['zeros'] },
    { op: 'Exp', inputs: ['zeros'], outputs: ['ones'] },
    { op: 'ReduceMax', inputs: ['ones'], outputs: ['peak'] },
    { op: 'Cast', inputs: ['peak'], outputs: ['whole'], attributes: { to: 7 } },
    { op: 'Mul', inputs: ['x', 'whole'], outputs: ['y'] },
  ],
})

/** Gives two columns, it says; it gives as many as its largest number says. */
export const liar = onnx({
  inputs: [value('x', 'INT64', ['n', 1])],
  outputs: [value('y', 'INT64', ['n', 2])],
  constants: [{ name: 'one', type: 'INT64', shape: [1], data: [1] }],
  nodes: [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['width'], attributes: { axes: [0], keepdims: 0 } },
    { op: 'Concat', inputs: ['one', 'width'], outputs: ['shape'], attributes: { axis: 0 } },
    { op: 'Expand', inputs: ['x', 'shape'], outputs: ['y'] },
  ],
})

/** Two columns, it says, but it is there to read that they are three. */
export const contradictory = onnx({
  inputs: [value('x', 'INT64', ['n', 1])],
  outputs: [value('y', 'INT64', ['n', 2])],
  constants: [{ name: 'wide', type: 'INT64', shape: [2], data: [1, 3] }],
  nodes: [{ op: 'Expand', inputs: ['x', 'wide'], outputs: ['y'] }],
})

/** Gives back an input of each type, under its name. */
export function everyType(types: readonly OnnxType[]) {
  return onnx({
    inputs: types.map((type) => value(type, type, ['n', `${type}_wide`])),
    outputs: types.map((type) => value(`${type}_again`, type, ['n', `${type}_wide`])),
    nodes: types.map((type) => ({ op: 'Identity', inputs: [type], outputs: [`${type}_again`] })),
  })
}

/** Lets numbers through that are to be kept, and says where they were, in words too. */
export const sieve = onnx({
  inputs: [value('x', 'FP16', ['w']), value('keep', 'BOOL', ['w'])],
  outputs: [value('kept', 'FP16', ['k']), value('where', 'INT64', [1, 'k']), value('words', 'BYTES', [1, 'k'])],
  nodes: [
    { op: 'Compress', inputs: ['x', 'keep'], outputs: ['kept'], attributes: { axis: 0 } },
    { op: 'NonZero', inputs: ['keep'], outputs: ['where'] },
    { op: 'Cast', inputs: ['where'], outputs: ['words'], attributes: { to: 8 } },
  ],
})

/** Gives nothing back, ever, whatever it is given. */
export const stuck = onnx({
  inputs: [value('x', 'INT64', ['n', 1])],
  outputs: [value('y', 'INT64', ['n', 1])],
  constants: [{ name: 'count', type: 'INT64', shape: [], data: [forever] }],
  nodes: [
    { op: 'ReduceMax', inputs: ['x'], outputs: ['first'], attributes: { keepdims: 0 } },
    { op: 'Loop', inputs: ['count', '', 'first'], outputs: ['counted'], attributes: { body: countOne() } },
    { op: 'Add', inputs: ['x', 'counted'], outputs: ['y'] },
  ],
})

/** Gives back its numbers, but for ever counts before it does. */
export const endless = onnx({
  inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
  outputs: [{ name: 'y', type: 'INT64', shape: ['n', 1] }],
  constants: [
    { name: 'none', type: 'INT64', shape: [], data: [0] },
    { name: 'count', type: 'INT64', shape: [], data: [forever] },
  ],
  nodes: [
    { op: 'Loop', inputs: ['count', '', 'none'], outputs: ['counted'], attributes: { body: countOne() } },
    { op: 'Sub', inputs: ['counted', 'counted'], outputs: ['nothing'] },
    { op: 'Add', inputs: ['x', 'nothing'], outputs: ['y'] },
  ],
})

const one: Constant = { name: 'one', type: 'INT64', shape: [1], data: [1] }

/** Each row's tokens where the mask is 1, as numbers and as words, and what they come to. */
export const attention = onnx({
  inputs: [
    { name: 'tokens', type: 'INT64', shape: ['batch', 'length'] },
    { name: 'mask', type: 'INT64', shape: ['batch', 'length'] },
  ],
  outputs: [
    { name: 'sum', type: 'INT64', shape: ['batch'] },
    { name: 'kept', type: 'INT64', shape: ['batch', 'length'] },
    { name: 'words', type: 'BYTES', shape: ['batch', 'length'] },
  ],
  constants: [one],
  nodes: [
    { op: 'Mul', inputs: ['tokens', 'mask'], outputs: ['kept'] },
    { op: 'ReduceSum', inputs: ['kept', 'one'], outputs: ['sum'], attributes: { keepdims: 0 } },
    { op: 'Cast', inputs: ['kept'], outputs: ['words'], attributes: { to: 8 } },
  ],
})

/** Tables whose rows are masked: as they are, what each column comes to, the same in words, and what all comes to. */
export const tables = onnx({
  inputs: [
    { name: 'x', type: 'INT32', shape: ['n', 'h', 'w'] },
    { name: 'mask', type: 'INT32', shape: ['n', 'h'] },
  ],
  outputs: [
    { name: 'kept', type: 'INT32', shape: ['n', 'h', 'w'] },
    { name: 'columns', type: 'INT32', shape: ['n', 'w'] },
    { name: 'words', type: 'BYTES', shape: ['n', 'w'] },
    { name: 'all', type: 'INT32', shape: ['n'] },
  ],
  constants: [one, { name: 'two', type: 'INT64', shape: [1], data: [2] }],
  nodes: [
    { op: 'Unsqueeze', inputs: ['mask', 'two'], outputs: ['deep'] },
    { op: 'Mul', inputs: ['x', 'deep'], outputs: ['kept'] },
    { op: 'ReduceSum', inputs: ['kept', 'one'], outputs: ['columns'], attributes: { keepdims: 0 } },
    { op: 'Cast', inputs: ['columns'], outputs: ['words'], attributes: { to: 8 } },
    { op: 'ReduceSum', inputs: ['columns', 'one'], outputs: ['all'], attributes: { keepdims: 0 } },
  ],
})
