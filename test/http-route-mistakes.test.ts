/** What an HTTPRoute may not ask for, with the message of each. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  read,
  complaints,
  routeOf,
  stable,
  canary,
  split,
  onlyCanary,
  headers,
  mirrorTo,
} from './support/http-route.ts'

const root = 'expected the prefix / (paths are routed by Penstock’s own routes), found'
const filterOf = (type: string) => ({ ...split, filters: [{ type, [type[0]!.toLowerCase() + type.slice(1)]: {} }] })
const matching = (match: object) => ({ ...split, matches: [match] })
const weighing = (weight: string) => `{ backendRefs: [{ name: iris-stable, weight: ${weight} }] }`

/** Rules, and what is said of them after the place of the rule. */
const refused: Record<string, [rule: unknown, expected: string][]> = {
  'matches that look at something other than headers': [
    [matching({ path: { type: 'Exact', value: '/' } }), `.matches[0].path.type: ${root} "Exact"`],
    [matching({ path: { value: '/v2' } }), `.matches[0].path.value: ${root} "/v2"`],
    [matching({ path: { type: 'RegularExpression' } }), `.matches[0].path.type: ${root} "RegularExpression"`],
    [
      matching({ queryParams: [{ name: 'a' }] }),
      '.matches[0].queryParams: is not carried out: rules look at headers only',
    ],
    [
      matching({ method: 'GET' }),
      '.matches[0].method: is not carried out: inference requests all have the same method',
    ],
    [matching({ path: { prefix: '/' } }), '.matches[0].path: unknown key "prefix"'],
    [
      { ...split, matches: Array.from({ length: 65 }, () => ({})) },
      '.matches: too big: expected a list to have <=64 items, found a list',
    ],
    [matching({ cookies: [] }), '.matches[0]: unknown key "cookies"'],
  ],
  'headers that are not compared as a whole, or are no headers': [
    [
      matching({ headers: [{ type: 'RegularExpression', name: 'a', value: '.*' }] }),
      '.matches[0].headers[0].type: expected Exact (a header is compared as a whole), found "RegularExpression"',
    ],
    [
      matching({ headers: [{ name: 'a b', value: '1' }] }),
      '.matches[0].headers[0].name: expected the name of a header, found "a b"',
    ],
    [
      { backendRefs: [stable], matches: [{}, { headers: [{ name: 'a', value: '1', prefix: 'b' }] }] },
      '.matches[1].headers[0]: unknown key "prefix"',
    ],
    [matching({ headers: [{ name: 'a' }] }), '.matches[0].headers[0].value: is missing: expected string'],
    [matching({ headers: [{ name: 'a', value: true }] }), '.matches[0].headers[0].value: expected string, found true'],
    [
      matching({ headers: [{ name: 'a', value: '' }] }),
      '.matches[0].headers[0].value: too small: expected string to have >=1 characters, found ""',
    ],
  ],
  'filters other than a mirror': [
    ...[
      'RequestHeaderModifier',
      'ResponseHeaderModifier',
      'URLRewrite',
      'RequestRedirect',
      'CORS',
      'ExtensionRef',
      'ExternalAuth',
    ].map((type): [unknown, string] => [
      filterOf(type),
      `.filters[0].type: expected RequestMirror (no other filter is carried out), found "${type}"`,
    ]),
    [
      { ...split, filters: [{}] },
      '.filters[0].type: is missing: expected RequestMirror (no other filter is carried out)',
    ],
    [{ ...split, filters: [{ ...mirrorTo('old'), cors: {} }] }, '.filters[0]: unknown key "cors"'],
    [{ ...split, filters: [{ type: 'RequestMirror' }] }, '.filters[0].requestMirror: is missing: expected a mapping'],
  ],
  'mirrors that cannot be carried out': [
    [
      { ...split, filters: [mirrorTo('iris-v5')] },
      '.filters[0].requestMirror.backendRef.name: backend "iris-v5" stands for no version: add it to `versions` (iris-v5: VERSION)',
    ],
    [
      { ...split, filters: [mirrorTo('old'), mirrorTo('old', { percent: 1 })] },
      '.filters[1].requestMirror.backendRef.name: version "2" is mirrored to twice',
    ],
    [
      { ...split, filters: [mirrorTo('old', { percent: 5, fraction: { numerator: 5 } })] },
      '.filters[0].requestMirror: expected either `percent` or `fraction`',
    ],
    [
      { ...split, filters: [mirrorTo('old', { percent: 101 })] },
      '.filters[0].requestMirror.percent: too big: expected number to be <=100, found 101',
    ],
    [
      { ...split, filters: [mirrorTo('old', { fraction: { numerator: 3, denominator: 2 } })] },
      '.filters[0].requestMirror.fraction: expected at most 1',
    ],
    [
      { ...split, filters: [mirrorTo('old', { fraction: { numerator: 1, of: 2 } })] },
      '.filters[0].requestMirror.fraction: unknown key "of"',
    ],
    [
      { ...split, filters: [mirrorTo('old', { fraction: { numerator: 0, denominator: 0 } })] },
      '.filters[0].requestMirror.fraction.denominator: too small: expected number to be >=1, found 0',
    ],
    [
      { ...split, filters: [{ type: 'RequestMirror', requestMirror: { backendRef: { name: 'old', weight: 1 } } }] },
      '.filters[0].requestMirror.backendRef: unknown key "weight"',
    ],
    [{ ...split, filters: [mirrorTo('old', { share: 1 })] }, '.filters[0].requestMirror: unknown key "share"'],
  ],
  'fields of a rule that would change what happens': [
    [
      { ...split, timeouts: { request: '5s' } },
      '.timeouts: is not carried out: deadlines are set in Penstock’s own configuration',
    ],
    [
      { ...split, retry: { attempts: 2 } },
      '.retry: is not carried out: retries are set in Penstock’s own configuration',
    ],
    [
      { ...split, sessionPersistence: { type: 'Cookie' } },
      '.sessionPersistence: is not carried out: which callers keep their version is set in Penstock’s own configuration',
    ],
    [{ ...split, wieght: 5 }, ': unknown key "wieght"'],
    [
      { backendRefs: [{ ...stable, filters: [{ type: 'CORS' }] }] },
      '.backendRefs[0].filters: is not carried out: nothing is changed on the way to one backend; callers keep their version without a cookie',
    ],
    [{ backendRefs: [{ ...stable, subset: 'a' }] }, '.backendRefs[0]: unknown key "subset"'],
  ],
  'backends that are missing, twice, or weigh nothing': [
    [{}, '.backendRefs: is missing: expected a list'],
    [{ backendRefs: [] }, '.backendRefs: expected at least one backend'],
    [{ backendRefs: [{ weight: 1 }] }, '.backendRefs[0].name: is missing: expected string'],
    [{ backendRefs: [stable, canary, stable] }, '.backendRefs[2].name: backend "iris-stable" is there twice'],
    [
      {
        backendRefs: [
          { ...stable, weight: 0 },
          { ...canary, weight: 0 },
        ],
      },
      '.backendRefs: no backend has a weight above 0',
    ],
    [{ backendRefs: [{ ...stable, weight: 0 }] }, '.backendRefs: no backend has a weight above 0'],
  ],
  'weights that are not whole numbers from 0 to a million': [
    ['{ backendRefs: [{ name: iris-stable, weight: .nan }] }', '.backendRefs[0].weight: expected number, found NaN'],
    [weighing('-1'), '.backendRefs[0].weight: too small: expected number to be >=0, found -1'],
    [weighing('1000001'), '.backendRefs[0].weight: too big: expected number to be <=1000000, found 1000001'],
    [weighing('2.5'), '.backendRefs[0].weight: expected int, found 2.5'],
    [weighing('"5"'), '.backendRefs[0].weight: expected number, found "5"'],
    [weighing('.inf'), '.backendRefs[0].weight: expected number, found Infinity'],
    [weighing('null'), '.backendRefs[0].weight: expected number, found nothing'],
  ],
}

for (const [what, cases] of Object.entries(refused)) {
  test(`refused: ${what}`, () => {
    for (const [rule, expected] of cases)
      assert.deepEqual(complaints(routeOf(rule)), [`route.yaml:8: spec.rules[0]${expected}`])
  })
}

test('what is there and empty asks for nothing', () => {
  const empty = { timeouts: {}, retry: null, filters: [], matches: [{ queryParams: [], method: null, headers: [] }] }
  assert.equal(read(routeOf({ backendRefs: [{ ...stable, filters: [] }], ...empty })).default, 'iris-stable')
})

test('there has to be one rule, and only one, for requests that no headers single out', () => {
  const rule = { matches: headers(['a', '1']), ...onlyCanary }
  assert.deepEqual(complaints(routeOf(rule)), [
    'route.yaml:7: spec.rules: no rule without header matches, which all others would get',
  ])
  assert.deepEqual(complaints(routeOf(rule, split, onlyCanary)), [
    'route.yaml:10: spec.rules[2]: a second rule without header matches: spec.rules[1] has taken all requests',
  ])
  assert.deepEqual(complaints(routeOf('').replace(/rules:\n.*\n/, 'rules: []\n')), [
    'route.yaml:7: spec.rules: expected at least one rule',
  ])
  assert.deepEqual(complaints(routeOf('').replace(/ {2}rules:\n.*\n/, '')), [
    'route.yaml:5: spec.rules: is missing: expected a list',
  ])
})

test('a rule for headers leads to one backend, and each header is there once', () => {
  const matches = headers(['a', '1'])
  assert.deepEqual(complaints(routeOf(split, { matches, ...split })), [
    'route.yaml:9: spec.rules[1].backendRefs: splits requests with certain headers over "iris-stable", "iris-canary": give all but one the weight 0',
  ])
  const none = { matches, backendRefs: [{ ...canary, weight: 0 }] }
  assert.deepEqual(complaints(routeOf(split, none)), [
    'route.yaml:9: spec.rules[1].backendRefs: no backend has a weight above 0',
  ])
  assert.deepEqual(complaints(routeOf(split, { ...onlyCanary, matches: headers(['a', '1'], ['A', '2']) })), [
    'route.yaml:9: spec.rules[1].matches[0].headers[1].name: header "a" is there twice',
  ])
})
