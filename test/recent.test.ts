/** The last values of a stream, and their quantiles. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Recent } from '../src/experiments/recent.ts'
import { drawFrom } from './support/draw.ts'

test('of a stream the last values are kept, and beyond a quantile the next one is as often as it should be', () => {
  const draw = drawFrom(1)
  const recent = new Recent(50)
  const values: number[] = []
  assert.ok(Number.isNaN(recent.quantile(0.5)))
  for (let i = 0; i < 200; i++) {
    const value = draw(30)
    recent.add(value)
    values.push(value)
    const last = values.slice(-50)
    assert.deepEqual(recent.saved(), last)
    assert.equal(recent.count, last.length)
    const sorted = last.toSorted((one, other) => one - other)
    assert.deepEqual([recent.quantile(0), recent.quantile(1)], [sorted[0], sorted.at(-1)])
  }
  assert.deepEqual(new Recent(50, recent.saved()).saved(), recent.saved())
  const hundred = new Recent(
    99,
    Array.from({ length: 99 }, (_, i) => (37 * (i + 1)) % 100),
  )
  assert.deepEqual([hundred.quantile(0.5), hundred.quantile(0.9), hundred.quantile(0.99)], [50, 90, 99])
  assert.ok(Math.abs(hundred.quantile(0.905) - 90.5) < 1e-9)
  hundred.clear()
  hundred.add(3)
  assert.deepEqual([hundred.count, hundred.quantile(0.9)], [1, 3])
})
