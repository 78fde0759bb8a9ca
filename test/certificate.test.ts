import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Certificate } from '../src/experiments/certificate.ts'
import { seeded } from './support/draw.ts'

interface Rollout {
  readonly ratio: number
  readonly share: number
  /** True ratio of the rates. */
  readonly risk: number
  readonly failures: number
}

/** How many failures it takes; Infinity if more than there are. */
function failuresToCertify(draw: () => number, { ratio, share, risk, failures }: Rollout): number {
  const certificate = new Certificate({ ratio, alpha: 0.05 })
  const theta = (share * risk) / (share * risk + 1 - share)
  for (let n = 1; n <= failures; n++) {
    certificate.fail(draw() < theta, share)
    if (certificate.reached) return n
  }
  return Infinity
}

function times(count: number, draw: () => number, rollout: Rollout): number[] {
  return Array.from({ length: count }, () => failuresToCertify(draw, rollout)).toSorted((a, b) => a - b)
}

test('a treatment that is well is certified as soon as the reference says', () => {
  const draw = seeded(1)
  // One failure a second, so these are seconds.
  const median = (ratio: number, share: number) => times(1001, draw, { ratio, share, risk: 1, failures: 6000 })[500]!
  for (const [ratio, share, expected] of [
    [2, 0.05, 162],
    [3, 0.05, 76],
    [1.5, 0.1, 326],
    [2, 0.5, 58],
  ] as const) {
    const seen = median(ratio, share)
    assert.ok(Math.abs(seen / expected - 1) < 0.2, `${ratio} ${share}: ${seen}, not ${expected}`)
  }
})

test('what is just as bad as the ratio is certified no more often than alpha', () => {
  const draw = seeded(2)
  const certified = times(400, draw, { ratio: 2, share: 0.25, risk: 2, failures: 1500 }).filter(Number.isFinite)
  assert.ok(certified.length > 2 && certified.length <= 28, `${certified.length}`)
  assert.equal(times(100, draw, { ratio: 2, share: 0.25, risk: 3, failures: 1000 })[0], Infinity)
})

test('a certificate lasts, and goes on from JSON', () => {
  let certificate = new Certificate({ ratio: 2, alpha: 0.05 })
  for (let n = 0; !certificate.reached; n++) {
    certificate = new Certificate({ ratio: 2, alpha: 0.05 }, JSON.parse(JSON.stringify(certificate.saved())))
    certificate.fail(false, 0.5)
    assert.ok(n < 20)
  }
  for (let n = 0; n < 100; n++) certificate.fail(true, 0.5)
  assert.equal(certificate.reached, true)
  assert.equal(new Certificate({ ratio: 2, alpha: 0.05 }, certificate.saved()).reached, true)
})

test('an arm that got nothing certifies nothing', () => {
  const certificate = new Certificate({ ratio: 2, alpha: 0.05 })
  for (let n = 0; n < 1000; n++) certificate.fail(false, n % 2)
  assert.equal(certificate.reached, false)
})
