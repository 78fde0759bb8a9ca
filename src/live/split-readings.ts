/** What is read of splits at a scrape, from what is in service. */
import type { LiveModel } from './model.ts'
import type { LiveModels } from './models.ts'
import type { SplitCounts, SplitReading, SplitState } from '../telemetry/split-gauges.ts'

export class SplitReadings implements SplitReading {
  /** Undefined until there is one. */
  service: LiveModels | undefined

  states(): SplitState[] {
    return [...(this.service?.models.values() ?? [])].filter(({ live }) => live !== undefined).map(stateOf)
  }

  counts(): SplitCounts {
    const { assigned, mirror, predictions } = this.service ?? {}
    return {
      assigned: [...(assigned ?? [])].map(([key, count]) => {
        const [model = '', arm = '', decision = ''] = key.split(' ')
        return { model, arm, decision, count }
      }),
      shadows: [...(mirror?.counts ?? [])].flatMap(([key, counts]) => {
        const [model = '', version = ''] = key.split(' ')
        return [...counts].map(([outcome, count]) => ({ model, version, outcome, count }))
      }),
      feedback: predictions?.feedback.counts ?? [],
    }
  }
}

function stateOf({ name, current, live, intent, experiment }: LiveModel): SplitState {
  const arms = [...live!.shares].map(([arm, share]) => ({ arm, version: intent.split!.arms[arm]!.version, share }))
  return { model: name, generation: current.generation, arms, experiment: experiment && readingOf(experiment) }
}

function readingOf({ state, levels, agreement }: NonNullable<LiveModel['experiment']>): SplitState['experiment'] {
  return { phase: state.phase, evidence: levels, agreement: agreement.mean }
}
