/** What a gateway says of itself in /metrics, and the processes that it has started. */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { GatewayProcess } from './processes.ts'

/** The value of a series of version 1 of a model; NaN if there is none. */
export async function gauge({ metricsPort }: GatewayProcess, name: string, model: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`)
  const series = `${name}{model="${model}",version="1"} `
  const line = (await response.text()).split('\n').find((each) => each.startsWith(series))
  return Number(line?.slice(series.length) ?? NaN)
}

/** Settles when the model has so many workers. */
export async function workersAre(gateway: GatewayProcess, model: string, count: number): Promise<void> {
  const giveUpAt = performance.now() + 30_000
  while ((await gauge(gateway, 'penstock_workers', model)) !== count) {
    if (performance.now() > giveUpAt) throw new Error(`"${model}" does not come to ${count} workers`)
    await pause(20)
  }
}

/** Processes that a process has started and that are still there. */
export function childrenOf(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`)
  const lists = tasks.map((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8'))
  return lists.flatMap((list) => list.split(' ').filter(Boolean)).map(Number)
}
