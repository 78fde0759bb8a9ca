/**
 * Which execution provider runs a model: the first of those asked for that can. None stands in for another without being
 * asked: ONNX Runtime would quietly run on the CPU what a GPU's provider does not know.
 */
import { cpus } from 'node:os'
import type { Device } from '../channel.ts'
import type { Provider, SessionOptions } from '../options.ts'
import { nvidiaDevice, vulkanDevices } from './devices.ts'
import { InferenceSession, type OrtSession } from './ort.ts'

interface Opened {
  readonly session: OrtSession
  readonly device: Device
}

/** Throws an Error that says why none can be had. */
export async function openSession(file: string, options: SessionOptions): Promise<Opened> {
  const missed: { provider: string; why: string }[] = []
  let unexplained: unknown
  for (const provider of options.providers) {
    try {
      const { session, name } = await open(file, provider, options)
      return { session, device: { provider: name, device: await deviceOf(provider, options), missed } }
    } catch (error) {
      const said = error instanceof Error ? error.message : String(error)
      const why = explain(provider, said)
      if (why === undefined) unexplained = error
      missed.push({ provider, why: why ?? said })
    }
  }
  // Then it is the file, and every provider says the same.
  if (unexplained) throw unexplained
  throw new Error(missed.map(({ provider, why }) => `provider ${provider}: ${why}`).join('; '))
}

/** A graph that a provider knows only in part is shared with the CPU, if that is among those asked for too. */
async function open(file: string, provider: Provider, options: SessionOptions) {
  if (provider === 'cpu') return { session: await create(file, provider, options, false), name: provider }
  try {
    return { session: await create(file, provider, options, true), name: provider }
  } catch (error) {
    const isPartial = error instanceof Error && error.message.includes('fallback to CPU EP')
    if (!isPartial || !options.providers.includes('cpu')) throw error
    return { session: await create(file, provider, options, false), name: `${provider}+cpu` }
  }
}

function create(file: string, provider: Provider, options: SessionOptions, isStrict: boolean): Promise<OrtSession> {
  const { threads, spinning, deviceId } = options
  const allowSpinning = spinning ? '1' : '0'
  const isNvidia = provider === 'cuda' || provider === 'tensorrt'
  return InferenceSession.create(file, {
    executionProviders: [isNvidia ? { name: provider, deviceId } : provider],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableMemPattern: false,
    logSeverityLevel: 4,
    extra: {
      session: {
        intra_op: { allow_spinning: allowSpinning },
        inter_op: { allow_spinning: '0' },
        ...(isStrict && { disable_cpu_ep_fallback: '1' }),
      },
    },
  })
}

/** What is usually missing, and what to do about it; undefined if it is something else. */
function explain(provider: Provider, said: string): string | undefined {
  if (said.includes('Failed to get a WebGPU adapter'))
    return 'no GPU was found through Vulkan: it needs libvulkan.so.1 and the driver of a GPU, which `vulkaninfo` would list'
  if (said.includes('Failed to load shared library'))
    return `its libraries are not here: it needs ONNX Runtime's own (ONNXRUNTIME_NODE_INSTALL=true node node_modules/onnxruntime-node/script/install.js), CUDA 12, cuDNN${provider === 'tensorrt' ? ', TensorRT' : ''} and a driver`
  if (said.includes('fallback to CPU EP'))
    return `it cannot run every operator of this graph: add \`cpu\` to \`providers\` to have the CPU run the rest`
  return undefined
}

async function deviceOf(provider: Provider, { deviceId }: SessionOptions): Promise<string> {
  if (provider === 'cpu') return cpus()[0]?.model.trim() ?? ''
  if (provider === 'webgpu') return (await vulkanDevices()).join(' or ')
  return nvidiaDevice(deviceId)
}
