/** The fuzzer, for as long as a test may take; and the bodies with which it once found something. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Datatype } from '../src/core/datatype.ts'
import { bodyOf, contractOf, decodeOptions } from './support/decoding.ts'
import { check, fuzz, show } from './support/fuzz.ts'

test('thousands of requests, whole and broken, come to what they should, in one piece and in many', () => {
  const { cases, taken, findings } = fuzz(20_261_125, (count) => count === 8_000)
  assert.equal(findings.map(show).join('\n'), '')
  assert.ok(taken > cases / 6, `${taken} of ${cases} are valid`)
})

interface Found {
  readonly datatype: Datatype
  readonly body: Buffer | string
  readonly cuts: readonly number[]
}

const zeros = '0'.repeat(2_049)
const found: readonly Found[] = [
  // What is longer than a number may be, and none: it was called too long only where it was cut.
  { datatype: 'FP16', body: `{"its":[{"":-${zeros}`, cuts: [2_061] },
  { datatype: 'FP32', body: `{"a":${'x'.repeat(3_000)}}`, cuts: [2_500] },
  { datatype: 'UINT8', body: bodyOf('UINT8', [2], `[17,-${zeros} ,1]`), cuts: [2_120] },
  { datatype: 'FP32', body: bodyOf('FP32', [1], `[47.9${'0'.repeat(1_199)}.0e+0${'3'.repeat(835)} }`), cuts: [2_109] },
  { datatype: 'INT16', body: bodyOf('INT16', [2], `[1.5x${'1'.repeat(2_050)},`), cuts: [2_113] },
  { datatype: 'FP32', body: bodyOf('FP32', [1], `["${'x'.repeat(3_000)}"]`), cuts: [2_500] },
  { datatype: 'BOOL', body: bodyOf('BOOL', [1], `[true${'['.repeat(3_000)}]`), cuts: [2_500] },
  { datatype: 'BYTES', body: bodyOf('BYTES', [1], `[${'a'.repeat(3_000)}]`), cuts: [2_500] },
]

test('bodies that once came to something else than they should do so no more', () => {
  for (const { datatype, body, cuts } of found) {
    const bytes = Buffer.from(body)
    const one = { body: bytes, contract: contractOf(datatype), cuts, options: decodeOptions, isChunked: false }
    assert.equal(check({ ...one, jsonBytes: undefined }), undefined, bytes.toString('latin1', 0, 100))
    assert.equal(check({ ...one, jsonBytes: bytes.length }), undefined, bytes.toString('latin1', 0, 100))
  }
})
