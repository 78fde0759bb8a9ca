/** What was counted of the metrics that tests declare. */
import assert from 'node:assert/strict'
import type { Metrics } from '../../src/experiments/feedback/metrics.ts'

export function epochsOf(metrics: Metrics) {
  const summary = metrics.summary().metrics.get('click')!
  assert.ok(summary.kind === 'event')
  return summary.epochs
}

export function momentsOf(metrics: Metrics, name: string) {
  const summary = metrics.summary().metrics.get(name)!
  assert.ok(summary.kind === 'value')
  return summary
}
