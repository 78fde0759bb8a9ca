/** Splits read from HTTPRoutes, as Argo Rollouts’ Gateway API plugin and Flagger write them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stringify } from 'yaml'
import {
  read,
  complaints,
  routeOf,
  stable,
  canary,
  split,
  headers,
  mirrorTo,
  onlyCanary,
  argo,
  argoHeaderRule,
  flagger,
} from './support/http-route.ts'

test('a rollout of Argo is followed step by step, and its arms keep their names and their order', () => {
  for (const [i, weight] of [0, 5, 25, 50, 100, 0].entries()) {
    const intent = read(argo(weight, i + 2), { name: 'iris' })
    assert.deepEqual(intent, {
      arms: { 'iris-stable': { version: '3', weight: 100 - weight }, 'iris-canary': { version: '4', weight } },
      rules: [],
      default: 'iris-stable',
      shadows: [],
      source: { name: 'iris', generation: i + 2 },
    })
    assert.deepEqual(Object.keys(intent.arms), ['iris-stable', 'iris-canary'])
  }
})

test('a managed header route of Argo becomes a rule, whatever weight its backend has beside the split', () => {
  const intent = read(argo(5, 7, argoHeaderRule))
  assert.deepEqual(intent.rules, [{ match: { headers: { 'x-canary': 'yes' } }, arm: 'iris-canary' }])
  assert.equal(intent.arms['iris-canary']!.weight, 5)
})

test('weights written as JSON numbers with a fraction of nothing are whole', () => {
  const rule = '{"backendRefs": [{"name": "iris-stable", "weight": 95.0}, {"name": "iris-canary", "weight": 5.0}]}'
  assert.deepEqual(read(routeOf(rule)).arms, {
    'iris-stable': { version: '3', weight: 95 },
    'iris-canary': { version: '4', weight: 5 },
  })
})

test('a canary of Flagger is followed', () => {
  const intent = read(stringify(flagger(70, 30)))
  assert.deepEqual(intent.arms, {
    'iris-primary': { version: '3', weight: 70 },
    'iris-canary': { version: '4', weight: 30 },
  })
  assert.equal(intent.default, 'iris-primary')
  assert.deepEqual(intent.source, { name: 'iris', generation: 4_711 })
})

test('the mirror stage of Flagger becomes a shadow of all requests', () => {
  const backendRef = { group: '', kind: 'Service', name: 'iris-canary', port: 9898 }
  const intent = read(stringify(flagger(100, 0, [{ type: 'RequestMirror', requestMirror: { backendRef } }])))
  assert.deepEqual(intent.shadows, [{ version: '4', share: 1 }])
  assert.equal(intent.arms['iris-canary']!.weight, 0)
})

test('an A/B test of Flagger becomes rules, and the arm that only they lead to has no weight', () => {
  const route = flagger(0, 100)
  const [first] = route.spec.rules
  first!['matches'] = [
    { path: { type: 'PathPrefix', value: '/' }, headers: [{ name: 'x-user', type: 'Exact', value: 'ann' }] },
    { path: { type: 'PathPrefix', value: '/' }, headers: [{ name: 'cookie', type: 'Exact', value: 'canary=1' }] },
  ]
  route.spec.rules.push({
    matches: [{ path: { type: 'PathPrefix', value: '/' } }],
    backendRefs: [{ group: '', kind: 'Service', name: 'iris-primary', port: 9898, weight: 100 }],
  })
  const intent = read(stringify(route))
  assert.deepEqual(intent.arms, {
    'iris-primary': { version: '3', weight: 100 },
    'iris-canary': { version: '4', weight: 0 },
  })
  assert.deepEqual(intent.rules, [
    { match: { headers: { 'x-user': 'ann' } }, arm: 'iris-canary' },
    { match: { headers: { cookie: 'canary=1' } }, arm: 'iris-canary' },
  ])
})

test('the sticky sessions of Flagger are refused with what to do about it', () => {
  const route = flagger(70, 30)
  const [first] = route.spec.rules
  const sticky = structuredClone(first!)
  sticky['matches'] = [{ headers: [{ name: 'Cookie', type: 'RegularExpression', value: '.*iris.*abc.*' }] }]
  const refs = first!['backendRefs'] as Record<string, unknown>[]
  const add = [{ name: 'Set-Cookie', value: 'iris=abc; Max-Age=86400' }]
  refs[1]!['filters'] = [{ type: 'ResponseHeaderModifier', responseHeaderModifier: { add } }]
  route.spec.rules.unshift(sticky)
  assert.deepEqual(complaints(stringify(route)), [
    'route.yaml:23: spec.rules[0].matches[0].headers[0].type: expected Exact (a header is compared as a whole), found "RegularExpression"',
    'route.yaml:51: spec.rules[1].backendRefs[1].filters: is not carried out: nothing is changed on the way to one backend; callers keep their version without a cookie',
  ])
})

test('a weight is 1 if nothing is said, and one backend may have any', () => {
  assert.equal(read(routeOf({ backendRefs: [{ name: 'iris-stable' }] })).arms['iris-stable']!.weight, 1)
  const alone = read(routeOf({ backendRefs: [{ name: 'iris-stable', weight: 7 }] }))
  assert.deepEqual(alone.arms, { 'iris-stable': { version: '3', weight: 7 } })
  assert.equal(read(routeOf({ backendRefs: [{ ...stable, weight: 1_000_000 }] })).arms['iris-stable']!.weight, 1e6)
})

test('the default is the first backend, whatever it weighs, or the one that is said to be stable', () => {
  const text = routeOf({ backendRefs: [{ ...canary, weight: 0 }, stable] })
  assert.equal(read(text).default, 'iris-canary')
  assert.equal(read(text, { stable: 'iris-stable' }).default, 'iris-stable')
  assert.deepEqual(complaints(text, { stable: 'old' }), [
    'route.yaml:8: spec.rules[0].backendRefs: no backend "old", which is said to be the stable one',
  ])
})

test('the rules with most headers come first, and those with as many as in the document', () => {
  const to = (name: string) => ({ backendRefs: [{ name }] })
  const text = routeOf(
    { matches: [...headers(['a', '1']), ...headers(['B', '2'], ['c', '3'])], ...to('old') },
    split,
    {
      matches: [{ headers: [{ name: 'd', value: '4' }], path: { type: 'PathPrefix', value: '/' } }],
      ...to('iris-canary'),
    },
    { matches: headers(['e', '5'], ['f', '6']), ...to('iris-stable') },
  )
  const found = read(text)
  assert.deepEqual(
    found.rules.map(({ match, arm }) => [Object.entries(match.headers).join(';'), arm]),
    [
      ['b,2;c,3', 'old'],
      ['e,5;f,6', 'iris-stable'],
      ['a,1', 'old'],
      ['d,4', 'iris-canary'],
    ],
  )
  assert.deepEqual(Object.entries(found.arms), [
    ['iris-stable', { version: '3', weight: 90 }],
    ['iris-canary', { version: '4', weight: 10 }],
    ['old', { version: '2', weight: 0 }],
  ])
})

test('a rule for all requests may name headers besides, if it leads to one backend', () => {
  const all = [...headers(['a', '1']), { path: { value: '/' } }]
  const intent = read(routeOf({ matches: all, backendRefs: [stable] }))
  assert.deepEqual(intent.rules, [{ match: { headers: { a: '1' } }, arm: 'iris-stable' }])
  assert.deepEqual(complaints(routeOf({ matches: all, ...split })), [
    'route.yaml:8: spec.rules[0].backendRefs: splits requests with certain headers over "iris-stable", "iris-canary": give all but one the weight 0',
  ])
})

test('mirrors become shadows with their share, and one of nothing is none', () => {
  const shadows = (more: object) => read(routeOf({ ...split, filters: [mirrorTo('old', more)] })).shadows
  assert.deepEqual(shadows({}), [{ version: '2', share: 1 }])
  assert.deepEqual(shadows({ percent: 42 }), [{ version: '2', share: 0.42 }])
  assert.deepEqual(shadows({ fraction: { numerator: 5 } }), [{ version: '2', share: 0.05 }])
  assert.deepEqual(shadows({ fraction: { numerator: 3, denominator: 1_000 } }), [{ version: '2', share: 0.003 }])
  assert.deepEqual(shadows({ percent: 0 }), [])
  const two = [mirrorTo('old', { percent: 1 }), mirrorTo('iris-canary', { percent: 2 })]
  assert.deepEqual(read(routeOf({ ...split, filters: two })).shadows, [
    { version: '2', share: 0.01 },
    { version: '4', share: 0.02 },
  ])
})

test('Argo’s header route has the mirror to the canary or not, depending on which was set first', () => {
  const rule = { matches: headers(['a', '1']), ...onlyCanary }
  const filters = [mirrorTo('iris-canary', { percent: 50 })]
  for (const text of [routeOf({ ...split, filters }, rule), routeOf({ ...split, filters }, { ...rule, filters })]) {
    assert.deepEqual(read(text).shadows, [{ version: '4', share: 0.5 }])
  }
})

test('rules that ask for other mirrors than the split are refused', () => {
  const [all, some] = [[mirrorTo('old')], [mirrorTo('old', { percent: 5 })]]
  const rule = { matches: headers(['a', '1']), ...onlyCanary }
  const message = 'has other mirrors than spec.rules[0]: a model’s requests are mirrored all alike'
  const expected = [`route.yaml:9: spec.rules[1].filters: ${message}`]
  assert.deepEqual(complaints(routeOf({ ...split, filters: all }, { ...rule, filters: all })), [])
  assert.deepEqual(complaints(routeOf({ ...split, filters: all }, rule)), expected)
  assert.deepEqual(complaints(routeOf(split, { ...rule, filters: all })), expected)
  assert.deepEqual(complaints(routeOf({ ...split, filters: all }, { ...rule, filters: some })), expected)
  const back = { matches: headers(['a', '1']), backendRefs: [{ name: 'iris-stable' }] }
  assert.deepEqual(complaints(routeOf({ ...split, filters: [mirrorTo('iris-canary')] }, back)), expected)
})

test('a backend of kind ModelVersion stands for itself, unless the map says otherwise', () => {
  const group = 'penstock.example.com'
  const refs = ['7', 'constructor', 'old'].map((name) => ({ group, kind: 'ModelVersion', name }))
  assert.deepEqual(read(routeOf({ backendRefs: refs })).arms, {
    7: { version: '7', weight: 1 },
    constructor: { version: 'constructor', weight: 1 },
    old: { version: '2', weight: 1 },
  })
  const shadow = { type: 'RequestMirror', requestMirror: { backendRef: { kind: 'ModelVersion', name: '9' } } }
  assert.deepEqual(read(routeOf({ ...split, filters: [shadow] })).shadows, [{ version: '9', share: 1 }])
})

test('a backend that stands for no version is named once, with what to add', () => {
  const refs = { backendRefs: [stable, { name: 'iris-v4' }] }
  assert.deepEqual(complaints(routeOf(refs, { matches: headers(['a', '1']), backendRefs: [{ name: 'iris-v4' }] })), [
    'route.yaml:8: spec.rules[0].backendRefs[1].name: backend "iris-v4" stands for no version: add it to `versions` (iris-v4: VERSION)',
  ])
  assert.equal(complaints(routeOf({ backendRefs: [{ name: 'constructor' }] })).length, 1)
  assert.equal(complaints(routeOf({ backendRefs: [{ name: '__proto__' }] })).length, 1)
})
