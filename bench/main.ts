/** `npm run bench -- NAME`: runs one bench; without a name, says which there are. `--quick` is for trying, not for the record. */
import { parseArgs } from 'node:util'
import { assignment } from './assignment.ts'
import { auth } from './auth.ts'
import { batching } from './batching.ts'
import { connections } from './connections.ts'
import { decode } from './decode.ts'
import { fairness } from './fairness.ts'
import { guarded } from './guarded.ts'
import { hostile } from './hostile.ts'
import { isolation } from './isolation.ts'
import { latency } from './latency.ts'
import { limits } from './limits.ts'
import { offline } from './offline.ts'
import { overhead } from './overhead.ts'
import { overload } from './overload.ts'
import { profile } from './profile.ts'
import { restart } from './restart.ts'
import { rollout } from './rollout.ts'
import { slices } from './slices.ts'
import { splits } from './splits.ts'
import type { Bench } from './support/bench.ts'
import { commitNow, record } from './support/results.ts'
import { workers } from './workers.ts'

const benches: readonly Bench[] = [
  overhead,
  profile,
  offline,
  decode,
  connections,
  restart,
  hostile,
  slices,
  latency,
  overload,
  fairness,
  batching,
  isolation,
  workers,
  auth,
  limits,
  guarded,
  assignment,
  rollout,
  splits,
]

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const [asked] = positionals
const chosen = benches.find(({ name }) => name === asked)
if (chosen) process.exitCode = await run(chosen, values.quick)
else {
  if (asked !== undefined) process.stderr.write(`there is no bench "${asked}"\n\n`)
  process.stdout.write(`npm run bench -- NAME [--quick]\n\n${benches.map(describe).join('\n')}\n`)
  process.exitCode = asked === undefined ? 0 : 1
}

async function run(bench: Bench, quick: boolean): Promise<number> {
  const { name, question } = bench
  say(`${name}: ${question}`)
  const commit = commitNow()
  const report = await bench.measure({ quick, say })
  // What a quick run says is too rough to be kept.
  if (!quick) await record({ name, commit, question, report })
  const { figures, targets, pass } = report
  say(JSON.stringify({ bench: name, figures, targets, pass }))
  return pass ? 0 : 1
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function describe({ name, question }: Bench): string {
  return `  ${name.padEnd(12)}${question}`
}
