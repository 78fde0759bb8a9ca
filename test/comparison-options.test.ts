/** What may be asked of a comparison, and the numbers that 16 bits stand for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { comparisonOptions } from '../src/experiments/comparison-options.ts'
import { halfToNumber } from '../src/experiments/half.ts'

test('the options have their defaults, and turn away what makes no sense', () => {
  const outputs = { a: { kind: 'numeric' }, b: { kind: 'probabilities' }, c: { kind: 'ranking' }, d: { kind: 'exact' } }
  assert.deepEqual(comparisonOptions.parse({ outputs }), {
    outputs: {
      a: { kind: 'numeric', atol: 1e-6, rtol: 1e-3 },
      b: { kind: 'probabilities', maxDistance: 0.1 },
      c: { kind: 'ranking', k: 10, atLeast: 0.5 },
      d: { kind: 'exact' },
    },
    slices: [],
    targetAgreement: 0.99,
    minPairs: 1_000,
  })
  const wrong = [
    { outputs: { a: { kind: 'exact', atol: 1 } } },
    { outputs: { a: { kind: 'numeric', rtol: -1 } } },
    { outputs: { a: { kind: 'ranking', k: 0 } } },
    { slices: ['a', 'b', 'c', 'd', 'e'] },
    { slices: ['a', 'a'] },
    { targetAgreement: 1 },
    { minPairs: 0 },
  ]
  for (const each of wrong) assert.equal(comparisonOptions.safeParse(each).success, false, JSON.stringify(each))
})

test('halves are the numbers that the runtime takes them for', () => {
  const halves = new Float16Array(Uint16Array.from({ length: 65_536 }, (_, bits) => bits).buffer)
  for (let bits = 0; bits < 65_536; bits++) assert.ok(Object.is(halfToNumber(bits), halves[bits]), `${bits}`)
})
