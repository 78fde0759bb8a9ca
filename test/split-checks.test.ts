/** What `penstock check` shows of splits and calls weak about them, and what a change of the configuration comes to. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import { stringify } from 'yaml'
import { intentOf, withIntents, type Intent } from '../src/live/intent.ts'
import { weaknesses } from '../src/weaknesses.ts'
import { configWith, folderWith } from './support/gateway.ts'
import { penstock } from './support/process.ts'
import { versionsOf } from './support/splits.ts'

const files = Object.fromEntries(Object.entries(versionsOf('digits')).map(([name, bytes]) => [`s/${name}`, bytes]))

/** What is said of the model, after all that is the same with and without a split; and the folder. */
async function checked(t: TestContext, digits: object) {
  const plan = stringify({ auth: 'none', store: { path: 's' }, models: { digits } })
  const folder = await folderWith({ ...files, 'penstock.yaml': plan })
  const { code, stdout, stderr } = await penstock(t, ['check', 'penstock.yaml'], folder).finished
  assert.deepEqual([code, stderr], [0, ''])
  const lines = stdout.split('\n')
  const versions = lines
    .filter((line) => line.startsWith('  version '))
    .map((line) => line.replace(/batch.* thread/, '...'))
  const last = lines.findLastIndex((line) => line.startsWith('  version '))
  return { folder, versions, more: lines.slice(last + 1, lines.indexOf('')) }
}

test('aliases, the split, its shadows and the experiment are shown, and what is remembered is left alone', async (t) => {
  const arms = {
    stable: { version: '1', weight: 9 },
    canary: { version: 'next', weight: 1 },
    spare: { version: '3', weight: 0 },
  }
  const { folder, versions, more } = await checked(t, {
    aliases: { next: '2' },
    split: {
      arms,
      unit: { by: 'header', name: 'x-user' },
      rules: [{ match: { headers: { 'x-beta': 'yes' } }, arm: 'canary' }],
      shadows: [{ version: 'next', share: 0.25 }],
    },
    experiment: { kind: 'canary', treatment: 'canary', afterShadow: true, steps: [{ share: 0.2 }, { share: 0.5 }] },
  })
  assert.deepEqual(versions, [
    '  version 1: ..., for stable',
    '  version 2: ..., for canary',
    '  version 3: ..., for spare',
  ])
  assert.deepEqual(more, [
    '  alias next: version 2',
    '  split by header x-user: stable 90 %, canary 10 %, spare 0 %, after a rule; default stable',
    '  shadow: version 2 on 25 % of the requests',
    '  experiment: canary of canary against stable, by itself through 20 %, 50 % of both, once its shadow agrees',
  ])
  assert.ok(!existsSync(join(folder, 'state')), readdirSync(folder).join())
})

test('a version may be for several arms, and a test without steps has none', async (t) => {
  const rule = { match: { routes: ['digits'] }, arm: 'a' }
  const arms = { a: { version: '1', weight: 1 }, b: { version: '1', weight: 2 } }
  const { versions, more } = await checked(t, { split: { arms, rules: [rule, rule] }, experiment: { kind: 'ab' } })
  assert.deepEqual(versions, ['  version 1: ..., for a and b', '  version 2: ...', '  version 3: ...'])
  assert.deepEqual(more, [
    '  split by request: a 33.3 %, b 66.7 %, after 2 rules; default b',
    '  experiment: A/B test of b against a',
  ])
})

test('of a model without a split it is shown which version answers', async (t) => {
  const { versions, more } = await checked(t, { aliases: { old: '1' }, version: 'old' })
  const answers = '  version 1: ..., answers requests that name no version'
  assert.deepEqual(versions, [answers, '  version 2: ...', '  version 3: ...'])
  assert.deepEqual(more, ['  alias old: version 1'])
})

const arms = { stable: { version: '1', weight: 9 }, canary: { version: '2', weight: 1 } }
const canary = { kind: 'canary' }
const jwt = { issuers: [{ kind: 'jwks', issuer: 'https://a', audiences: ['b'], url: 'https://a/jwks' }] }
const known = { jwt, access: [{ who: { scopes: ['models'] }, operations: ['infer'] }] }
const keyed = { apiKeys: { file: 'keys.yaml' }, access: known.access }
const claim = { by: 'claim', name: 'team' }

const judged: readonly (readonly [what: string, model: object, said: RegExp | undefined, auth?: object | 'none'])[] = [
  ['a split that nobody looks at', { split: { arms } }, /^`models\.digits\.split`: nobody looks .*stable and canary/],
  ['a split with an experiment', { split: { arms }, experiment: canary }, undefined],
  [
    'a split with one arm that is drawn',
    { split: { arms: { ...arms, canary: { version: '2', weight: 0 } } } },
    undefined,
  ],
  [
    'a split of one version',
    { aliases: { one: '1' }, split: { arms: { ...arms, canary: { version: 'one', weight: 1 } } } },
    undefined,
  ],
  [
    'a canary that only alerts',
    { split: { arms }, experiment: { ...canary, failures: { action: 'alert' } } },
    /^`models\.digits\.experiment\.failures`: .*Set `action: rollback`/,
  ],
  ['a canary that pauses', { split: { arms }, experiment: { ...canary, failures: { action: 'pause' } } }, undefined],
  [
    'a canary against whichever comes first',
    { split: { arms: { ...arms, canary: { version: '2', weight: 9 } } }, experiment: canary },
    /^`models\.digits\.experiment\.control`: the control is the first arm/,
  ],
  [
    'such a canary with a default',
    { split: { arms: { ...arms, canary: { version: '2', weight: 9 } }, default: 'stable' }, experiment: canary },
    undefined,
  ],
  [
    'callers that nobody knows',
    { split: { arms, unit: { by: 'caller' } }, experiment: canary },
    /^`models\.digits\.split\.unit`: with `auth: none` callers are addresses/,
    'none',
  ],
  ['callers that are known', { split: { arms, unit: { by: 'caller' } }, experiment: canary }, undefined],
  ['claims in tokens', { split: { arms, unit: claim }, experiment: canary }, undefined],
  [
    'claims that nobody makes',
    { split: { arms, unit: claim }, experiment: canary },
    /^`models\.digits\.split\.unit`: only tokens have claims/,
    keyed,
  ],
  [
    'a rule about them',
    { split: { arms, rules: [{ match: { claims: { plan: 'gold' } }, arm: 'canary' }] }, experiment: canary },
    /^`models\.digits\.split\.rules\[0\]\.match\.claims`: only tokens/,
    keyed,
  ],
  [
    'a rule for routes to elsewhere',
    { split: { arms, rules: [{ match: { routes: ['dig*', 'fraud'] }, arm: 'canary' }] }, experiment: canary },
    /^`models\.digits\.split\.rules\[0\]\.match\.routes`: "fraud" fits nothing/,
  ],
]

suite('what is weak is said in one sentence:', () => {
  for (const [what, model, said, auth = known] of judged)
    test(`${said ? '' : 'nothing about '}${what}`, async () => {
      const { config } = await configWith({ auth, models: { digits: model } })
      const found = weaknesses(config, ['digits']).filter((each) => !each.startsWith('`auth'))
      assert.equal(found.length, said ? 1 : 0, found.join('\n'))
      if (said) assert.match(found[0]!, said)
    })
})

const stored = new Map(['1', '2', '3'].map((version) => [version, { digest: `digest of ${version}` }]))

/** The intent of a model with these options. */
async function intended(digits: object): Promise<Intent> {
  const { config } = await configWith({ models: { digits } })
  const intent = intentOf(config.models['digits'], undefined, stored)
  assert.ok(!('misfits' in intent))
  return intent
}

test('the order in a file changes nothing, weights make no other experiment, and versions do', async () => {
  const named = { ...canary, control: 'stable' }
  const one = await intended({ split: { arms, unit: { by: 'caller' } }, experiment: named })
  const turned = Object.fromEntries(Object.entries(arms).toReversed())
  const other = await intended({ experiment: named, split: { unit: { by: 'caller' }, arms: turned } })
  assert.deepEqual([other.digest, other.trialDigest], [one.digest, one.trialDigest])
  const split = { arms: { ...arms, canary: { version: '2', weight: 5 } }, unit: { by: 'caller' } }
  const heavier = await intended({ split, experiment: named })
  assert.deepEqual([heavier.digest === one.digest, heavier.trialDigest === one.trialDigest], [false, true])
  const next = { arms: { ...arms, canary: { version: '3', weight: 1 } }, unit: { by: 'caller' } }
  assert.notEqual((await intended({ split: next, experiment: named })).trialDigest, one.trialDigest)
  const aliased = {
    aliases: { old: '1' },
    split: { ...split, arms: { ...arms, stable: { version: 'old', weight: 9 } } },
  }
  assert.equal((await intended({ ...aliased, experiment: named })).trialDigest, one.trialDigest)
})

test('which arm is on trial follows from the order and not from weights', async () => {
  const heavy = { ...arms, canary: { version: '2', weight: 50 } }
  const [light, other] = await Promise.all(
    [arms, heavy].map((each) => intended({ split: { arms: each }, experiment: canary })),
  )
  assert.deepEqual([light!.trial?.control, other!.trial?.control], ['stable', 'stable'])
  assert.equal(light!.trialDigest, other!.trialDigest)
})

test('of another configuration versions and splits are taken, and what else differs is named', async () => {
  const places = { admin: { auditFile: '/a' }, store: { path: '/b' }, state: { path: '/c' } }
  const load = async (models: object, more: object = {}) => (await configWith({ ...places, models, ...more })).config
  const split = { arms }
  const before = await load({ digits: { priority: 'bulk' }, spam: {} })
  const same = await load({ spam: { version: '1' }, digits: { split, priority: 'bulk' }, fresh: { split } })
  const { config, others } = withIntents(before, same)
  assert.deepEqual(others, [])
  assert.deepEqual(config.models['digits'], { ...same.models['digits'], version: undefined, experiment: undefined })
  assert.equal(config.models['spam']!.version, '1')
  const slower = { digits: { split }, fresh: { priority: 'interactive', aliases: { a: '1' } } }
  const changed = withIntents(before, await load(slower, { fairness: { weights: { alice: 2 } } }))
  assert.deepEqual(changed.others.toSorted(), ['fairness', 'models.digits', 'models.fresh'])
  const { digits, fresh, spam } = changed.config.models
  assert.deepEqual([digits!.priority, digits!.split?.arms], ['bulk', arms], 'what cannot be followed stays')
  assert.deepEqual([fresh!.priority, fresh!.aliases, spam!.version], ['standard', { a: '1' }, undefined])
  assert.deepEqual(changed.config.fairness, before.fairness)
})
