/** Whether memory stays where it is when a model is loaded and unloaded again and again. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Isolation } from '../../../src/runtime/options.ts'
import type { TitledTable } from '../bench.ts'
import { childrenOf, workersAre } from '../gauges.ts'
import { largeModel } from '../large-model.ts'
import { sendOnce } from '../load.ts'
import { residentBytesOf, type GatewayProcess } from '../processes.ts'
import { makeStore, served } from '../store.ts'
import { startGateway } from '../surge.ts'
import { large, largeRequest } from './loading.ts'

export interface CyclesFigures {
  readonly isolation: Isolation
  /** MB of the gateway and its children after so many cycles, while nothing is loaded. */
  readonly residentMb: readonly (readonly [cycles: number, mb: number])[]
  /** The growth from the first to the last that is too much, MB. */
  readonly mayGrowMb: number
  readonly grewMb: number
}

/** Of what it was, or so many MB if that is more. */
const mayGrow = { share: 0.1, mb: 20 }

export async function measureCycles(
  isolation: Isolation,
  marks: readonly number[],
  say: (line: string) => void,
): Promise<CyclesFigures> {
  await using store = await makeStore({ [large]: largeModel() })
  const models = served([large], { [large]: { worker: { isolation }, unloadAfterS: 0.001 } })
  await using gateway = await startGateway({ models, store: { path: store.path } })
  const residentMb: [number, number][] = []
  for (let cycle = 1; cycle <= marks.at(-1)!; cycle++) {
    await sendOnce(gateway, largeRequest)
    await workersAre(gateway, large, 0)
    if (marks.includes(cycle)) {
      const mb = await restingMb(gateway)
      residentMb.push([cycle, mb])
      say(`  ${isolation}: ${mb.toFixed(0)} MB after ${cycle} cycles`)
    }
  }
  const [first, last] = [residentMb[0]![1], residentMb.at(-1)![1]]
  return { isolation, residentMb, mayGrowMb: Math.max(mayGrow.mb, mayGrow.share * first), grewMb: last - first }
}

/** The least of a while: what has left may still be on its way. */
async function restingMb({ pid }: GatewayProcess): Promise<number> {
  let least = Infinity
  for (let i = 0; i < 10; i++) {
    const all = [pid, ...childrenOf(pid)]
    least = Math.min(least, all.reduce((sum, each) => sum + residentBytesOf(each), 0) / 1e6)
    await pause(100)
  }
  return least
}

export function cyclesTable(all: readonly CyclesFigures[]): TitledTable {
  const marks = all[0]!.residentMb.map(([cycles]) => `MB after ${cycles}`)
  const rows = all.map(({ isolation, residentMb, grewMb, mayGrowMb }) => [
    isolation,
    ...residentMb.map(([, mb]) => mb.toFixed(0)),
    grewMb.toFixed(0),
    mayGrowMb.toFixed(0),
  ])
  const head = ['large model in a', ...marks, 'grew by', 'may grow by']
  return { title: 'Resident memory of the gateway and its children after loads and unloads', table: { head, rows } }
}
