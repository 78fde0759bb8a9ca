/** A runtime on its own, with what the fleet sees of it, for tests of versions that need no gateway. */
import type { TestContext } from 'node:test'
import { systemClock, type Clock } from '../../src/core/clock.ts'
import type { Work } from '../../src/core/run.ts'
import type { Runner, Version } from '../../src/models/fleet.ts'
import { defaultPool, runtimeOptions } from '../../src/runtime/options.ts'
import { Runtime } from '../../src/runtime/runtime.ts'
import { onnx } from './onnx.ts'

/** Adds so much to its numbers. */
export function plus(addend: number, output: string = 'y'): Buffer {
  return onnx({
    inputs: [{ name: 'x', type: 'INT64', shape: ['n', 1] }],
    outputs: [{ name: output, type: 'INT64', shape: ['n', 1] }],
    constants: [{ name: 'addend', type: 'INT64', shape: [1], data: [addend] }],
    nodes: [{ op: 'Add', inputs: ['x', 'addend'], outputs: [output] }],
  })
}

/** A request of one number. */
export function workOf(x: number): Work {
  return {
    inputs: [{ name: 'x', datatype: 'INT64', shape: [1, 1], data: BigInt64Array.of(BigInt(x)) }],
    rows: 1,
    key: '',
  }
}

/** Of the runtime, and a clock for it. */
export interface Options {
  readonly clock?: Clock
  readonly [option: string]: unknown
}

/** A runtime, and what the fleet sees of it. */
export function startRuntime(t: TestContext, { clock = systemClock, ...more }: Options = {}) {
  const settings = runtimeOptions.parse({ executors: 1, warmUpMs: 0, ...more })
  const { worker, warmUpMs } = settings
  const ignore = () => {}
  const runtime = new Runtime(settings, clock, { onFree: ignore, onReady: ignore, onDeath: ignore, onProblem: ignore })
  t.after(() => runtime.close(5_000))
  const deploys: string[] = []
  const runner: Runner = {
    deploy: ({ model, version, file, bytes, verify, manifest }) => {
      deploys.push(`${model} ${version}`)
      const own = { model, version, file, verify, fileBytes: bytes, isRepeatable: !manifest.sideEffects }
      return runtime.deploy({ ...own, pool: defaultPool, worker, unloadAfterS: undefined })
    },
    maxRows: () => 8,
    warmUpMs,
    clock,
  }
  return { runtime, runner, deploys }
}

/** A version's answer through an executor, as requests get it; undefined if nothing runs it. */
export async function ask(runtime: Runtime, version: Version | undefined, x: number): Promise<number | undefined> {
  if (!version) return undefined
  const ran = await runtime.pools.get(defaultPool)![0]!.run(version.program, [workOf(x)])
  return ran.kind === 'done' ? Number((ran.outputs[0]![0]!.data as BigInt64Array)[0]) : undefined
}
