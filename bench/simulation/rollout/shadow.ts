/** A shadow of every request, which fails more often than what it shadows. */
import { exponential, type Draw } from '../draws.ts'
import { outcomeAt, type Outcome } from './outcome.ts'
import { Trial } from './trial.ts'

const requestsPerS = 100
const longestS = 7_200

export function detectByShadow(control: number, treatment: number, draw: Draw): Outcome {
  const trial = new Trial({})
  const gap = exponential(draw)
  for (let s = 0; s < longestS && !trial.isRolledBack; s += gap() / requestsPerS) {
    trial.until(1_000 * s)
    const isBad = draw() < treatment
    if (isBad !== draw() < control) trial.shadowDiffered(isBad)
  }
  return outcomeAt(trial.rolledBackMs)
}
