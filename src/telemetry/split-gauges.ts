/** What can be read of splits at a scrape: who gets what, how experiments stand, what became of shadows and feedback. */
import { Counter, Gauge, type Registry } from 'prom-client'

export interface SplitState {
  readonly model: string
  readonly generation: number
  readonly arms: readonly { readonly arm: string; readonly version: string; readonly share: number }[]
  readonly experiment:
    | {
        readonly phase: string
        readonly evidence: readonly { readonly guard: string; readonly ratio: number }[]
        readonly agreement: number | undefined
      }
    | undefined
}

export interface SplitCounts {
  /** Requests by arm and how they came to it. */
  readonly assigned: Iterable<{
    readonly model: string
    readonly arm: string
    readonly decision: string
    readonly count: number
  }>
  /** Shadows by what became of them: compared, failed, or why they were dropped. */
  readonly shadows: Iterable<{
    readonly model: string
    readonly version: string
    readonly outcome: string
    readonly count: number
  }>
  readonly feedback: Iterable<readonly [outcome: string, count: number]>
}

export interface SplitReading {
  states(): Iterable<SplitState>
  counts(): SplitCounts
}

export function registerSplits(reading: SplitReading, registers: Registry[]): void {
  registerStates(() => reading.states(), registers)
  registerCounts(() => reading.counts(), registers)
}

function registerStates(read: () => Iterable<SplitState>, registers: Registry[]): void {
  const gauge = (name: string, help: string, labelNames: readonly string[], of: (state: SplitState) => Labelled[]) =>
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset()
        for (const state of read())
          for (const { labels, value } of of(state)) this.set({ model: state.model, ...labels }, value)
      },
    })
  gauge('penstock_split_generation', 'Goes up with each change of a split.', ['model'], ({ generation }) => [
    { labels: {}, value: generation },
  ])
  gauge('penstock_split_share', 'Part of the drawn units that an arm gets.', ['model', 'arm', 'version'], ({ arms }) =>
    arms.map(({ arm, version, share }) => ({ labels: { arm, version }, value: share })),
  )
  gauge(
    'penstock_experiment_phase',
    '1 for the phase that an experiment is in.',
    ['model', 'phase'],
    ({ experiment }) => (experiment ? [{ labels: { phase: experiment.phase }, value: 1 }] : []),
  )
  gauge(
    'penstock_experiment_evidence',
    'Evidence of each guard, as a part of what makes it sound: 1 is an alarm.',
    ['model', 'guard'],
    ({ experiment }) => (experiment?.evidence ?? []).map(({ guard, ratio }) => ({ labels: { guard }, value: ratio })),
  )
  gauge(
    'penstock_shadow_agreement',
    'Part of the pairs in which the shadow of the treatment agrees.',
    ['model'],
    (state) => (state.experiment?.agreement === undefined ? [] : [{ labels: {}, value: state.experiment.agreement }]),
  )
}

function registerCounts(read: () => SplitCounts, registers: Registry[]): void {
  const counter = (
    name: string,
    help: string,
    labelNames: readonly string[],
    of: (counts: SplitCounts) => Labelled[],
  ) =>
    new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers,
      collect() {
        this.reset()
        for (const { labels, value } of of(read())) this.inc(labels, value)
      },
    })
  counter(
    'penstock_assignments_total',
    'Requests by arm and by how they came to it: weight, rule, forced, kept or default.',
    ['model', 'arm', 'decision'],
    ({ assigned }) => [...assigned].map(({ count, ...labels }) => ({ labels, value: count })),
  )
  counter(
    'penstock_shadows_total',
    'Requests that a shadow was to run too: compared, failed, or dropped because it was busy, refused or short of memory.',
    ['model', 'version', 'outcome'],
    ({ shadows }) => [...shadows].map(({ count, ...labels }) => ({ labels, value: count })),
  )
  counter('penstock_feedback_total', 'Feedback on predictions by what became of it.', ['outcome'], ({ feedback }) =>
    [...feedback].map(([outcome, value]) => ({ labels: { outcome }, value })),
  )
}

interface Labelled {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}
