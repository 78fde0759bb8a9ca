/** ONNX Runtime's own module, as workers use it. */

// Its binding does not know Float16Array and fails on FP16 where the global exists. It looks when it is first imported, so
// the global has to be gone before that, in this thread only.
Reflect.deleteProperty(globalThis, 'Float16Array')
const ort = await import('onnxruntime-node')
// What it would write to stderr about a library that is not there comes as an error too.
ort.env.logLevel = 'fatal'

export const { InferenceSession, Tensor: OrtTensor } = ort
export type OrtSession = Awaited<ReturnType<typeof InferenceSession.create>>
export type OrtTensor = InstanceType<typeof OrtTensor>
