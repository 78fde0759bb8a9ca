/** What is wrong with versions, splits and experiments is told when they are loaded, with file, line and path. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { loadConfig } from '../src/config.ts'
import { showMistake } from '../src/core/document.ts'
import { createGateway } from '../src/create-gateway.ts'
import { folderWith } from './support/gateway.ts'
import { penstock } from './support/process.ts'
import { versionsOf } from './support/splits.ts'

const files = Object.fromEntries(Object.entries(versionsOf('digits')).map(([name, bytes]) => [`s/${name}`, bytes]))
const head = ['auth: none', 'store: { path: s }', 'models:', '  digits:']
const good = ['split:', '  arms:', "    stable: { version: '1', weight: 9 }", "    canary: { version: '2', weight: 1 }"]

/** The options of the model, from the fifth line on. */
function textOf(lines: readonly string[]): string {
  return [...head, ...lines.map((line) => `    ${line}`)].join('\n')
}

/** What is said when it is loaded, without the folder. */
async function mistakesIn(lines: readonly string[]): Promise<string[]> {
  const folder = await folderWith({ ...files, 'penstock.yaml': textOf(lines) })
  const loaded = await loadConfig(join(folder, 'penstock.yaml'))
  const created = 'mistakes' in loaded ? loaded : await createGateway(loaded)
  if ('gateway' in created) await created.gateway.close()
  const mistakes = 'mistakes' in created ? created.mistakes : []
  return mistakes.map((mistake) => showMistake(mistake).replace(`${folder}/`, ''))
}

function weighing(weight: string): string[] {
  return [
    'split:',
    '  arms:',
    "    stable: { version: '1', weight: 1 }",
    `    canary: { version: '2', weight: ${weight} }`,
  ]
}

/** What stands at `models.digits`, from the fifth line on, and what is said of it. */
type Case = readonly [what: string, lines: readonly string[], said: readonly string[]]
const cases: readonly Case[] = [
  ...['-1', '-0.001', '.nan', '.inf', '-.inf', '1000001', "'5'"].map((weight): Case => {
    const found = weight.replaceAll("'", '"').replace('.nan', 'NaN').replace('.inf', 'Infinity')
    const place = 'penstock.yaml:8: models.digits.split.arms.canary.weight'
    return [
      `a weight of ${weight}`,
      weighing(weight),
      [`${place}: expected a weight from 0 to 1000000, found ${found}`],
    ]
  }),
  [
    'weights that are all 0',
    ['split:', '  arms:', "    a: { version: '1', weight: 0 }", "    b: { version: '2', weight: 0 }"],
    ['penstock.yaml:6: models.digits.split.arms: expected a weight above 0 for at least one arm'],
  ],
  ['no arms', ['split:', '  arms: {}'], ['penstock.yaml:6: models.digits.split.arms: expected at least one arm']],
  [
    'an arm of a version that is not there',
    [
      'aliases: { old: "1" }',
      'split:',
      '  arms:',
      '    a: { version: "1", weight: 1 }',
      '    b: { version: "9", weight: 1 }',
    ],
    [
      'penstock.yaml:9: models.digits.split.arms.b.version: there is no version 9; the store has 1, 2, 3, and the aliases are old',
    ],
  ],
  [
    'a shadow of a version that is not there',
    [...good, '  shadows:', "    - { version: '2', share: 1 }", '    - { version: next, share: 1 }'],
    ['penstock.yaml:11: models.digits.split.shadows.1.version: there is no version next; the store has 1, 2, 3'],
  ],
  [
    'a version that is not there',
    ["version: 'stable'"],
    ['penstock.yaml:5: models.digits.version: there is no version stable; the store has 1, 2, 3'],
  ],
  [
    'a version that is a number',
    ['version: 1'],
    ['penstock.yaml:5: models.digits.version: expected a version in quotes, found 1'],
  ],
  [
    'an alias that is a version',
    ['aliases:', "  '2': '1'"],
    ['penstock.yaml:6: models.digits.aliases.2: a version has this name: take another'],
  ],
  [
    'an alias of a version that is not there, and it once',
    ['aliases: { gone: "9" }', 'split:', '  arms: { a: { version: gone, weight: 1 } }'],
    ['penstock.yaml:5: models.digits.aliases.gone: there is no version 9; the store has 1, 2, 3'],
  ],
  [
    'an alias of an alias',
    ['aliases:', "  one: '1'", '  same: one'],
    ['penstock.yaml:7: models.digits.aliases.same: there is no version one; the store has 1, 2, 3'],
  ],
  [
    'a rule that leads to no arm',
    [
      ...good,
      '  rules:',
      '    - { match: { routes: [digits] }, arm: stable }',
      '    - { match: { callers: ["*"] }, arm: beta }',
    ],
    ['penstock.yaml:11: models.digits.split.rules[1].arm: expected one of the arms canary, stable'],
  ],
  [
    'a rule for everybody, by mistake',
    [...good, '  rules:', '    - match: {}', '      arm: canary'],
    [
      'penstock.yaml:10: models.digits.split.rules[0].match: expected headers, claims, callers or routes: as it is, it would be for everybody',
    ],
  ],
  [
    'a default that is no arm',
    [...good, '  default: beta'],
    ['penstock.yaml:9: models.digits.split.default: expected one of the arms canary, stable'],
  ],
  [
    'a unit that is none',
    [...good, '  unit: { by: user }'],
    [`penstock.yaml:9: models.digits.split.unit.by: expected 'request' | 'caller' | 'claim' | 'header', found "user"`],
  ],
  [
    'a split and a version',
    ["version: '1'", ...good],
    ['penstock.yaml:5: models.digits.version: the split decides: leave it out'],
  ],
  [
    'a split and an HTTPRoute',
    [...good, 'httpRoute: { file: route.yaml }'],
    ['penstock.yaml:9: models.digits.httpRoute: `split` says it already: leave one of them out'],
  ],
  [
    'an experiment without a split',
    ['experiment: { kind: canary }'],
    ['penstock.yaml:5: models.digits.experiment: needs a `split` with the arms to compare'],
  ],
  [
    'an experiment on one arm',
    ['split: { arms: { a: { version: "1", weight: 1 } } }', 'experiment: { kind: ab }'],
    ['penstock.yaml:6: models.digits.experiment.treatment: the split has one arm only: nothing to compare it with'],
  ],
  [
    'an experiment on arms that are not there',
    [...good, 'experiment:', '  kind: canary', '  control: old', '  treatment: new'],
    ['penstock.yaml:11: models.digits.experiment.control: expected one of the arms stable, canary'],
  ],
  [
    'an experiment of an arm with itself',
    [...good, 'experiment:', '  kind: canary', '  control: stable', '  treatment: stable'],
    ['penstock.yaml:12: models.digits.experiment.treatment: expected one of the arms canary'],
  ],
  [
    'an experiment that leaves open which of three arms is tried',
    [...good, "    third: { version: '3', weight: 1 }", 'experiment: { kind: canary }'],
    ['penstock.yaml:10: models.digits.experiment.treatment: name one of the arms canary, third'],
  ],
  [
    'a canary of the same version',
    [
      'split: { arms: { a: { version: "1", weight: 2 }, b: { version: "1", weight: 1 } } }',
      'experiment: { kind: canary }',
    ],
    [
      'penstock.yaml:6: models.digits.experiment.treatment: it has version 1, as the control has: there is nothing to try',
    ],
  ],
  [
    'an experiment on arms without weight',
    [
      ...good,
      "    third: { version: '3', weight: 0 }",
      'experiment: { kind: ab, control: third, treatment: canary }',
    ].map((line) => line.replace("'2', weight: 1", "'2', weight: 0")),
    [
      'penstock.yaml:10: models.digits.experiment.control: it and the treatment have no weight: there is nothing to divide between them',
    ],
  ],
  [
    'a canary that waits for a shadow that there is not',
    [...good, '  shadows: [{ version: "3", share: 1 }]', 'experiment:', '  kind: canary', '  afterShadow: true'],
    [
      'penstock.yaml:12: models.digits.experiment.afterShadow: version 2 is no shadow of this split, so it would never begin',
    ],
  ],
  [
    'a shadow under two names',
    [
      'aliases: { next: "2" }',
      ...good,
      '  shadows:',
      '    - { version: next, share: 1 }',
      '    - { version: "2", share: 0.1 }',
    ],
    ['penstock.yaml:12: models.digits.split.shadows.1.version: another shadow has version 2 too'],
  ],
  [
    'several mistakes, all of them',
    [
      'aliases: { "1": "2" }',
      'split:',
      '  arms:',
      '    a: { version: x, weight: 1 }',
      '    b: { version: y, weight: 1 }',
    ],
    [
      'penstock.yaml:5: models.digits.aliases.1: a version has this name: take another',
      'penstock.yaml:8: models.digits.split.arms.a.version: there is no version x; the store has 1, 2, 3, and the aliases are 1',
      'penstock.yaml:9: models.digits.split.arms.b.version: there is no version y; the store has 1, 2, 3, and the aliases are 1',
    ],
  ],
  ['a misspelt key', [...good, '  weights: {}'], ['penstock.yaml:9: models.digits.split: unknown key "weights"']],
]

suite('when it is loaded it is told of', () => {
  for (const [what, lines, said] of cases) {
    test(what, async () => assert.deepEqual(await mistakesIn(lines), said))
  }
})

test('`penstock check` tells of them too, and so does `serve`', async (t) => {
  const wrong = [
    cases.find(([what]) => what === 'a weight of -1')!,
    cases.find(([what]) => what === 'an alias of an alias')!,
  ]
  for (const [, lines, said] of wrong) {
    const folder = await folderWith({ ...files, 'penstock.yaml': textOf(lines) })
    const runs = ['check', 'serve'].map((command) => penstock(t, [command, 'penstock.yaml'], folder).finished)
    for (const { code, stdout, stderr } of await Promise.all(runs))
      assert.deepEqual([code, stdout, stderr], [1, '', `penstock: cannot go on:\n  ${said[0]}\n`])
  }
})
