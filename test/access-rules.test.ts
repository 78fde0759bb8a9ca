/** Whom a rule is about, decided in its own words; `access.test.ts` shows at the socket what becomes of it. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import * as z from 'zod'
import { Access } from '../src/auth/access.ts'
import { ruleOptions } from '../src/auth/access-options.ts'
import type { Caller } from '../src/core/caller.ts'
import { noSuchModel, noSuchVersion } from '../src/routing/router.ts'

const person: Caller = {
  name: 'https://a.b/alice',
  method: 'jwt',
  tenant: 'acme',
  subject: 'alice',
  scopes: ['read', 'models'],
  claims: {},
  spiffe: undefined,
  profile: undefined,
}
const workload: Caller = {
  ...person,
  method: 'mesh',
  spiffe: 'spiffe://a.b/ns/x/sa/c',
  peer: 'spiffe://a.b/ns/in/sa/gate',
}
const nobody: Caller = { ...person, method: 'none', tenant: '', subject: '', scopes: [] }

const fitting: [who: unknown, caller: Caller, fits: boolean][] = [
  ['anyone', nobody, true],
  ['identified', nobody, false],
  ['identified', person, true],
  [{ callers: ['**'] }, nobody, false],
  [{ callers: ['https://a.b/*'] }, person, true],
  [{ callers: ['https://a.b/'] }, person, false],
  [{ callers: ['https://*/alice'] }, person, true],
  [{ callers: ['https:*alice'] }, person, false],
  [{ callers: ['https://*/ali', '*.b/alice', 'https://*/alic.'] }, person, false],
  [{ callers: ['https:**alice'] }, person, true],
  [{ callers: ['https://a?b/alice', 'https://a_b/alice'] }, person, false],
  [{ callers: ['alice', 'https://a.b/alice'] }, person, true],
  [{ tenants: ['acm'] }, person, false],
  [{ tenants: ['*cme'], subjects: ['*'] }, person, true],
  [{ tenants: ['acme'], subjects: ['bob'] }, person, false],
  [{ scopes: ['models', 'write'] }, person, true],
  [{ scopes: ['model', 'write'] }, person, false],
  [{ scopes: ['**'] }, { ...person, scopes: [] }, false],
  [{ spiffe: ['**'] }, person, false],
  [{ spiffe: ['spiffe://a.b/ns/*/sa/c'] }, workload, true],
  [{ spiffe: ['spiffe://a.b/*/sa/c'] }, workload, false],
  [{ spiffe: ['spiffe://a.b/**'], peers: ['spiffe://a.b/ns/in/**'] }, workload, true],
  [{ spiffe: ['spiffe://a.b/**'], peers: ['spiffe://a.b/ns/out/**'] }, workload, false],
  [{ peers: ['**'] }, person, false],
  [{ methods: ['mtls', 'mesh'] }, workload, true],
  [{ methods: ['mtls', 'mesh'] }, person, false],
  [{ methods: ['mesh'], tenants: ['globex'] }, workload, false],
]

suite('a rule', () => {
  for (const [who, caller, fits] of fitting)
    test(`about ${JSON.stringify(who)} ${fits ? 'fits' : 'does not fit'} ${caller.method} ${caller.name}`, () => {
      const read = z.array(ruleOptions).parse([{ who, operations: ['infer'] }])
      const absence = { model: noSuchModel, version: noSuchVersion }
      const tools = { hides: true, absence, onDenied: () => undefined }
      assert.equal(new Access(read, tools).decide(caller, 'infer', 'm', '1').isAllowed, fits)
    })

  test('holds patterns of at most four stars, and is about somebody', () => {
    for (const who of [{}, { callers: [] }, { callers: ['a*b*c*d*e*'] }, { callers: [''] }, { names: ['a'] }, 'all'])
      assert.equal(ruleOptions.safeParse({ who, operations: ['infer'] }).success, false, JSON.stringify(who))
    const four = { callers: ['a*b**c*d*e'] }
    assert.ok(ruleOptions.safeParse({ who: four, operations: ['infer'] }).success)
    assert.equal(ruleOptions.safeParse({ who: four, operations: [] }).success, false)
  })
})
