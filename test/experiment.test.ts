/** An experiment as a whole, with a clock in the hand: what it goes by, what it says, and how it goes on elsewhere. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Experiment, type ExperimentTools, type SavedExperiment } from '../src/experiments/experiment.ts'
import { experimentOptions } from '../src/experiments/options.ts'
import type { Alarm, RolloutState } from '../src/experiments/rollout.ts'
import { readExperiment } from '../src/experiments/saved-experiment.ts'
import { StillClock } from './support/limits.ts'

const again = <T>(saved: T): T => JSON.parse(JSON.stringify(saved)) as T

function stateOf(phase: RolloutState['phase'], more: Partial<RolloutState> = {}): RolloutState {
  return { phase, step: 0, share: 0.1, sinceMs: 0, why: '', round: 0, ...more }
}

/** An experiment, the hand on its clock, and what it has said. */
function trial(more: object = {}, saved?: SavedExperiment, tools: Partial<ExperimentTools> = {}) {
  const clock = new StillClock()
  const said: string[] = []
  const setup = {
    options: experimentOptions.parse({ kind: 'canary', ...more }),
    control: 'a',
    treatment: 'b',
    share: 0.05,
    since: 3,
  }
  const experiment = new Experiment(
    setup,
    {
      clock,
      counts: undefined,
      onState: ({ phase, share }) => said.push(`${phase} ${share}`),
      onAlert: ({ guard }: Alarm) => said.push(`alert ${guard}`),
      onProgress: () => said.push('progress'),
      ...tools,
    },
    saved,
  )
  const units = (count: number, isTreatment: boolean, hasFailed = false, unit?: string) => {
    const { share } = experiment.state
    for (let i = 0; i < count; i++) experiment.settled({ isTreatment, share, hasFailed, unit })
  }
  return { clock, said, experiment, units }
}
const steps = [
  { share: 0.1, holdS: 2, minRequests: 5, below: 'off' },
  { share: 0.5, holdS: 0, minRequests: 5, below: 'off' },
]

suite('an experiment', () => {
  test('takes one step after the other with its clock, and is promoted behind the last', () => {
    const { clock, said, units, experiment } = trial({ steps })
    units(5, true)
    clock.pass(1_999)
    assert.deepEqual(said, [])
    clock.pass(1)
    assert.deepEqual(said, ['ramping 0.5'])
    clock.pass(5_000)
    assert.deepEqual(experiment.report().waitsFor, ['5 units more'], 'those of the step before do not count')
    units(5, true)
    clock.pass(1_000)
    assert.deepEqual([said, experiment.report().waitsFor], [['ramping 0.5', 'promoted 1'], []])
    clock.pass(20_000)
    assert.deepEqual(said.slice(2), ['progress', 'progress'])
  })

  test('rolls back at the very failure that proves it, and says so once', () => {
    const { said, units, experiment, clock } = trial({ steps })
    units(20, false)
    units(4, true, true)
    assert.deepEqual(said, [])
    units(3, true, true)
    assert.deepEqual([said, experiment.state.phase], [['rolled-back 0'], 'rolled-back'])
    clock.pass(9_000)
    units(9, true)
    assert.equal(said.length, 1)
  })

  test('counts what comes of one caller once', () => {
    const { said, units, experiment } = trial({ steps })
    units(1_000, true, true, 'one who is in a bad way')
    assert.deepEqual(experiment.report().evidence.failed, { control: 0, treatment: 1 })
    for (let i = 0; i < 6; i++) units(1, true, true, `caller ${i}`)
    assert.deepEqual(said, ['rolled-back 0'])
  })

  test('tells once of a guard that only alerts', () => {
    const { said, units, clock, experiment } = trial({ steps: steps.slice(0, 1), failures: { action: 'alert' } })
    units(9, true, true)
    assert.deepEqual([said, experiment.report().sounding.length], [['alert failures'], 1])
    clock.pass(1_500)
    units(1, true, true)
    assert.deepEqual([said, experiment.state.phase], [['alert failures'], 'ramping'])
  })

  test('is frozen by arms that do not get what they should', () => {
    const { said, units, clock } = trial({ steps })
    units(200, false)
    units(200, true)
    clock.pass(1_000)
    assert.deepEqual(said, ['frozen 0.1'])
  })

  test('behind a shadow is over when that fails where the control does not', () => {
    const { said, experiment } = trial({ steps, afterShadow: true })
    assert.equal(experiment.state.phase, 'shadow')
    for (let i = 0; i < 40 && said.length === 0; i++) experiment.shadowDiffered(true)
    assert.deepEqual(said, ['rolled-back 0'])
    assert.match(experiment.state.why, /^its shadow failed \d+ times where the control answered/)
  })

  test('goes on after a restart where it was, with its evidence, its callers and the units of its step', () => {
    const before = trial({ steps })
    before.units(4, true, true)
    before.units(1, true, true, 'a caller')
    before.units(30, false)
    before.clock.pass(1_000)
    before.experiment.adopt(stateOf('ramping', { step: 1, share: 0.5, sinceMs: 1_000, why: 'by hand' }))
    before.units(2, true)
    const saved = readExperiment(again(before.experiment.saved()))!
    const after = trial({ steps }, saved)
    assert.deepEqual(after.experiment.state, before.experiment.state)
    const [old, fresh] = [before, after].map(({ experiment }) => experiment.report())
    assert.deepEqual([fresh!.evidence, fresh!.waitsFor], [old!.evidence, ['3 units more']])
    after.units(1, true, true, 'a caller')
    assert.deepEqual([after.said, after.experiment.report().evidence.units], [[], old!.evidence.units])
  })

  test('says what would become of it, and stays as it is until it is led there', () => {
    const { experiment, said } = trial({ steps })
    const before = experiment.state
    assert.equal((experiment.act('promote') as RolloutState).phase, 'promoted')
    assert.equal((experiment.hold(0.3) as RolloutState).share, 0.3)
    assert.equal(typeof experiment.act('resume'), 'string')
    assert.equal(experiment.state, before)
    experiment.adopt(stateOf('paused', { share: 0.3 }))
    assert.deepEqual([experiment.state.phase, said], ['paused', []])
  })

  test('that is steady has the share that is wanted, also where it is paused or released later', () => {
    const { experiment } = trial()
    assert.deepEqual([experiment.state.phase, experiment.state.share], ['steady', 0.05])
    experiment.want(0.2)
    assert.equal((experiment.act('pause') as RolloutState).share, 0.2)
    experiment.adopt(stateOf('rolled-back', { share: 0 }))
    experiment.want(0.3)
    assert.deepEqual([experiment.state.share, (experiment.act('release') as RolloutState).share], [0, 0.3])
  })

  test('knows how many come in a second of late, also where it goes on with old ones', () => {
    const { experiment, units, clock } = trial()
    units(100, false)
    assert.equal(experiment.unitsPerS, undefined)
    clock.pass(10_000)
    assert.equal(experiment.unitsPerS, 10)
    const after = trial({}, again(experiment.saved()))
    after.units(20, true)
    after.clock.pass(10_000)
    assert.equal(after.experiment.unitsPerS, 2)
    after.clock.pass(10_000)
    assert.equal(after.experiment.unitsPerS, 0)
  })

  test('leaves nothing behind', () => {
    const { experiment, clock } = trial()
    clock.pass(3_000)
    assert.equal(clock.timers, 1)
    experiment.close()
    assert.equal(clock.timers, 0)
  })
})

suite('among replicas an experiment', () => {
  function replica(more: object = {}, saved?: SavedExperiment) {
    const added = new Map<string, number>()
    let tell: (deltas: ReadonlyMap<string, number>) => void = () => {}
    const counts = {
      add: (field: string, by: number) => void added.set(field, (added.get(field) ?? 0) + by),
      onDelta: (callback: typeof tell) => void (tell = callback),
      close: () => void added.set('closed', 1),
    }
    const made = trial(more, saved, { counts })
    return { ...made, added, tell: (deltas: Record<string, number>) => tell(new Map(Object.entries(deltas))) }
  }

  test('adds what it sees to the counts of all, and decides by those alone', () => {
    const { units, added, said, tell, experiment } = replica({ steps })
    units(9, true, true)
    units(2, false)
    assert.deepEqual(
      [said, [...added]],
      [
        [],
        [
          ['tnf 0.1', 9],
          ['cn 0.1', 2],
        ],
      ],
    )
    tell({ 'tnf 0.1': 9, 'cn 0.1': 2, odd: 7, 'tnf ': 1, 'xn 0.1': 1 })
    assert.deepEqual(said, ['rolled-back 0'])
    assert.deepEqual(experiment.report().evidence.units, { control: 2, treatment: 9 })
    experiment.close()
    assert.equal(added.get('closed'), 1)
  })

  test('that joins late proves nothing by the order in which it is told, and suspects nothing', () => {
    const { experiment, tell, said, clock } = replica({ steps: [{ share: 0.05 }, { share: 0.2 }] })
    const successes = { 'tn 0.05': 500, 'tn 0.2': 5_000, 'cn 0.05': 9_500, 'cn 0.2': 20_000 }
    tell({ ...successes, 'cnf 0.2': 60, 'tnf 0.2': 30 })
    const { evidence } = experiment.report()
    assert.deepEqual([evidence.isRare, evidence.proved, said], [false, [], []])
    clock.pass(1_000)
    assert.deepEqual(said, [])
  })

  test('takes its evidence from the counts, and not from what was saved', () => {
    const saved = trial({ steps })
    saved.units(4, true, true)
    const { experiment } = replica({ steps }, again(saved.experiment.saved()))
    assert.deepEqual(experiment.report().evidence.units, { control: 0, treatment: 0 })
  })
})
