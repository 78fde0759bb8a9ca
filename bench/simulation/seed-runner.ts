/** A process that runs everybody through everything for one seed and one setup. */
import { mostOnTime } from './clairvoyant.ts'
import { contenders } from './contenders.ts'
import { simulate } from './machine.ts'
import { goodputOf, scoreOf, type Score } from './score.ts'
import { setups } from './setups.ts'
import { traceOf, type Cell } from './traces.ts'
import { arrivalKinds, bound, loads, type Order, type Row } from './grid.ts'

process.on('message', (order) => {
  void obey(order as Order).then((rows) => process.send!(rows))
})

async function obey({ setup: name, seed, requests }: Order): Promise<readonly Row[]> {
  const setup = setups.find((each) => each.name === name)!
  const rows: Row[] = []
  for (const arrivals of arrivalKinds) {
    for (const load of loads) rows.push(...(await runCell({ setup, arrivals, load, seed }, requests)))
  }
  return rows
}

async function runCell(cell: Cell, requests: number): Promise<readonly Row[]> {
  const trace = traceOf(cell, requests)
  const most = goodputOf(mostOnTime(cell.setup, trace), cell, trace)
  const rows = [rowOf(cell, bound, { ...most, p50Ms: NaN, meanRows: NaN })]
  for (const contender of contenders) {
    const outcome = await simulate(contender, cell, trace)
    rows.push(rowOf(cell, contender.name, scoreOf(outcome, cell, trace)))
  }
  return rows
}

function rowOf({ setup, arrivals, load, seed }: Cell, contender: string, score: Score): Row {
  return { setup: setup.name, arrivals, load, seed, contender, score }
}
