/** A GPU in software, SwiftShader, for tests of WebGPU; and one that fails when it is told to. `.ci/run` sees to both. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { folderWith, repository } from './gateway.ts'

/** Of Debian's Chromium; or what `.ci/run` took out of it. */
const folder = ['/usr/lib/chromium', join(repository, 'node_modules/.cache/swiftshader')].find((each) =>
  existsSync(join(each, 'vk_swiftshader_icd.json')),
)
const compiler = process.env['CC'] ?? 'cc'
const hasCompiler = spawnSync(compiler, ['--version']).status === 0

/** Why a test that needs the GPU is skipped, if it is. */
export const noGpu = folder === undefined && 'SwiftShader is not here: apt-get install chromium-common'
/** Why a test that needs the GPU to fail is skipped, if it is. */
export const noFaults = noGpu || (!hasCompiler && 'there is no C compiler: apt-get install gcc libc6-dev')

/** Workers that start from now on see no GPU. */
export function withoutGpu(t: TestContext): void {
  withDriver(t, '/nonexistent')
}

/** Workers that start from now on see the GPU. */
export function withGpu(t: TestContext): void {
  withDriver(t, join(folder!, 'vk_swiftshader_icd.json'))
}

export type Call = 'vkCreateInstance' | 'vkQueueSubmit' | 'vkWaitForFences'

export interface FaultyGpu {
  /** From now on the call fails, as that of a lost GPU does. */
  fail(call: Call): Promise<void>
  /** From now on the call does not come back until it is told otherwise. */
  hold(call: Call): Promise<void>
  heal(): Promise<void>
  /** The process that uses it. */
  worker(): number
}

/** Workers that start from now on see a GPU that fails when it is told to. */
export async function withFaultyGpu(t: TestContext): Promise<FaultyGpu> {
  const library = { file_format_version: '1.0.0', ICD: { library_path: './faults.so', api_version: '1.1.0' } }
  const own = await folderWith({ 'faults.json': JSON.stringify(library) })
  const source = join(repository, 'test/support/vulkan-faults.c')
  const { status, stderr } = spawnSync(compiler, ['-shared', '-fPIC', '-o', join(own, 'faults.so'), source, '-ldl'])
  if (status !== 0) throw new Error(`the faulty driver cannot be compiled: ${stderr.toString()}`)
  const file = join(own, 'fault')
  const fault = async (told: string) => {
    // In one step, so that it is never seen half written.
    await writeFile(`${file}.new`, told)
    await rename(`${file}.new`, file)
  }
  withDriver(t, join(own, 'faults.json'))
  setEnvironment(t, { FAULTS_DRIVER: join(folder!, 'libvk_swiftshader.so'), FAULTS_FILE: file })
  return {
    fail: (call) => fault(`fail ${call}`),
    hold: (call) => fault(`hold ${call}`),
    heal: () => rm(file, { force: true }),
    worker: () => processWith(`FAULTS_FILE=${file}`),
  }
}

/** A process that was started with a variable. */
function processWith(variable: string): number {
  const found = readdirSync('/proc').find((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`, 'utf8').split('\0').includes(variable)
    } catch {
      // It has just ended, or is another user's.
      return false
    }
  })
  if (found === undefined) throw new Error(`no process has ${variable}`)
  return Number(found)
}

/** The loader of newer versions prefers VK_DRIVER_FILES. */
function withDriver(t: TestContext, path: string): void {
  setEnvironment(t, { LD_LIBRARY_PATH: folder, VK_ICD_FILENAMES: path, VK_DRIVER_FILES: path })
}

function setEnvironment(t: TestContext, variables: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value] of Object.entries(variables)) {
    const before = process.env[name]
    t.after(() => setVariable(name, before))
    setVariable(name, value)
  }
}

function setVariable(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name]
  else process.env[name] = value
}
