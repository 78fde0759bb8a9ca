/** What GPUs are called. ONNX Runtime does not say, so the drivers are asked; where they do not answer there is no name. */
import type { dlopen } from 'node:ffi'
import { readdirSync, readFileSync } from 'node:fs'

/** As the kernel's driver lists them. */
export function nvidiaDevice(id: number): string {
  const folder = '/proc/driver/nvidia/gpus'
  try {
    const gpu = readdirSync(folder).toSorted()[id]!
    return /^Model:\s*(.+)$/m.exec(readFileSync(`${folder}/${gpu}/information`, 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}

/** The C functions that are called, as node:ffi describes them. */
const vulkan = {
  vkCreateInstance: { return: 'i32', arguments: ['pointer', 'pointer', 'pointer'] },
  vkEnumeratePhysicalDevices: { return: 'i32', arguments: ['pointer', 'pointer', 'pointer'] },
  vkGetPhysicalDeviceProperties: { return: 'void', arguments: ['pointer', 'pointer'] },
  vkDestroyInstance: { return: 'void', arguments: ['pointer', 'pointer'] },
} as const

/** Every device that Vulkan has a driver for. The WebGPU provider takes one of them and does not say which. */
export async function vulkanDevices(): Promise<readonly string[]> {
  try {
    const { dlopen } = await import('node:ffi')
    return namesOf(dlopen('libvulkan.so.1', vulkan).functions)
  } catch {
    return []
  }
}

function namesOf(calls: ReturnType<typeof dlopen<typeof vulkan>>['functions']): string[] {
  const createInfo = Buffer.alloc(64)
  createInfo.writeInt32LE(1, 0) // VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO
  const created = Buffer.alloc(8)
  if (calls.vkCreateInstance(createInfo, 0n, created) !== 0) return []
  const instance = created.readBigUInt64LE(0)
  const count = Buffer.alloc(4)
  calls.vkEnumeratePhysicalDevices(instance, count, 0n)
  const devices = Buffer.alloc(8 * Math.max(1, count.readUInt32LE(0)))
  calls.vkEnumeratePhysicalDevices(instance, count, devices)
  const names = Array.from({ length: count.readUInt32LE(0) }, (_, i) => {
    // VkPhysicalDeviceProperties: five words, then the name, which ends with a zero byte.
    const properties = Buffer.alloc(4_096)
    calls.vkGetPhysicalDeviceProperties(devices.readBigUInt64LE(8 * i), properties)
    return properties.toString('utf8', 20, properties.indexOf(0, 20))
  })
  calls.vkDestroyInstance(instance, 0n)
  return names
}
