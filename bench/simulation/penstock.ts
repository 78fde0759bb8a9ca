/** Penstock's own scheduler: the lanes, the arbiter and the policy that are shipped, on the simulation's clock. */
import { Accounts } from '../../src/batching/accounts.ts'
import { Arbiter, type Executor } from '../../src/batching/arbiter.ts'
import type { Claim } from '../../src/batching/job.ts'
import { Lane } from '../../src/batching/lane.ts'
import { policies } from '../../src/batching/policies.ts'
import type { Clock } from '../../src/core/clock.ts'
import { isRefusal } from '../../src/core/refusal.ts'
import type { Ran, Work } from '../../src/core/run.ts'
import { noPadding } from '../../src/core/padding.ts'
import type { Program } from '../../src/core/signature.ts'
import type { Contender, Facts, Machine, Scheduler, SimulatedExecutor } from './contender.ts'

export const penstock: Contender = {
  name: 'Penstock',
  needsTurns: true,
  create: (machine, facts) => start(machine, facts),
}

function start(machine: Machine, { lanes, maxRows, executors }: Facts): Scheduler {
  const clock: Clock = {
    now: () => machine.now(),
    epoch: () => machine.now(),
    idle: () => 0,
    after: (ms, callback) => machine.after(ms, callback),
    soon: (callback) => void machine.after(0, callback),
  }
  const accounts = new Accounts({})
  const workers = machine.executors.slice(0, executors).map((executor) => executorOn(executor, () => arbiter.poke()))
  const arbiter = new Arbiter(workers, clock)
  const own = Array.from({ length: lanes }, (_, lane) => {
    return new Lane({
      program: { ...anyProgram, id: lane, runRows: maxRows },
      policy: policies.create({ kind: 'adaptive', maxRows }),
      maxQueueRows: 4096,
      clock,
      accounts,
      planner: arbiter,
      host: { refused: () => undefined, use: () => undefined, readyAt: (now) => now },
      onRun: () => undefined,
      onExtraRun: () => undefined,
      onFailure: () => undefined,
    })
  })
  return {
    arrive(request) {
      const { deadline } = request
      const lane = own[request.lane]!
      const claim = { requestId: '', caller: '', priority: 'standard', deadline, gone: false, onGone } as const
      if (lane.reserve(claim)) return machine.refused(request)
      void ask(lane, claim, (isAnswered) => (isAnswered ? machine.answered(request) : machine.refused(request)))
    },
  }
}

async function ask(lane: Lane, claim: Claim, settle: (isAnswered: boolean) => void): Promise<void> {
  settle(!isRefusal(await lane.run(oneRow, claim)))
}

const anyProgram = { inputs: [], outputs: [], batched: true, repeatable: true, padding: noPadding }
const oneRow: Work = { rows: 1, key: '', inputs: [] }
const onGone = (): void => undefined

/** One batch at a time, as the simulated executors have it; a shipped one stages the next behind it. */
function executorOn(executor: SimulatedExecutor, onFree: () => void): Executor {
  return {
    takes: () => true,
    get free() {
      return !executor.busy
    },
    get idle() {
      return !executor.busy
    },
    run({ id }: Program, works: readonly Work[]): Promise<Ran> {
      return new Promise((resolve) => {
        executor.run(id, works.length, (computeMs) => {
          resolve({ kind: 'done', outputs: works.map(() => []), computeMs })
          onFree()
        })
      })
    },
  }
}
