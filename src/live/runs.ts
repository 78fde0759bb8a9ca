/** Which runs are evidence of an experiment: those of the versions of its two arms. */
import type { Experiment } from '../experiments/experiment.ts'
import type { Intent } from './intent.ts'
import type { Served } from './served.ts'

/** From now on. Both arms may have one version, and then nothing can be told from its runs. */
export function listenToRuns(
  versions: Iterable<Served>,
  { split, trial }: Intent,
  experiment: Experiment | undefined,
): void {
  const all = new Map([...versions].map((served) => [served.version, served]))
  for (const served of all.values()) served.onRun = () => {}
  if (!split || !trial || !experiment) return
  const control = all.get(split.arms[trial.control]!.version)
  const treatment = all.get(split.arms[trial.treatment]!.version)
  if (!control || !treatment || control === treatment) return
  experiment.seed(control.firstRuns.map(({ key, rows, computeMs }) => ({ key, rows, ms: computeMs })))
  control.onRun = (key, rows, ms) => experiment.ran(false, key, rows, ms)
  treatment.onRun = (key, rows, ms) => experiment.ran(true, key, rows, ms)
}
