/** Files with many documents of which one HTTPRoute counts, and damaged ones. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { showMistake } from '../src/core/document.ts'
import { readHttpRoutes } from '../src/mesh/http-route.ts'
import { drawFrom } from './support/draw.ts'
import {
  versions,
  read,
  complaints,
  routeOf,
  split,
  onlyCanary,
  argo,
  argoHeaderRule,
  flagger,
} from './support/http-route.ts'

test('unknown keys are refused at every level of the document', () => {
  const text = routeOf(split)
  assert.deepEqual(complaints(text.replace('spec:\n', 'spec:\n  splits: []\n')), [
    'route.yaml:6: spec: unknown key "splits"',
  ])
  assert.deepEqual(complaints(`${text}extra: 1\n`), ['route.yaml:9: unknown key "extra"'])
  assert.deepEqual(complaints(text.replace('spec:\n', 'spec:\n  <<: {}\n')), ['route.yaml:6: spec: unknown key "<<"'])
})

test('an HTTPRoute of another version of the API is refused if it counts', () => {
  const beta = routeOf(split).replace('io/v1', 'io/v1beta1')
  const expected = 'apiVersion: expected "gateway.networking.k8s.io/v1", found "gateway.networking.k8s.io/v1beta1"'
  assert.deepEqual(complaints(beta), [`route.yaml:1: ${expected}`])
  const other = beta.replace('name: iris', 'name: roses')
  assert.equal(read(`${other}---\n${routeOf(split)}`, { name: 'iris' }).source.name, 'iris')
})

const service = 'apiVersion: v1\nkind: Service\nmetadata: { name: iris-stable }\nspec: { ports: [{ port: 80 }] }\n'
const configMap = 'kind: ConfigMap\nmetadata: { name: notes }\ndata:\n  a: |\n    kind: HTTPRoute\n    ---\n'

test('documents of other kinds are passed over, and lines are counted from the beginning of the file', () => {
  const before = `# Generated.\n---\n${service}---\n${configMap}---\n\n---\n`
  const text = `${before}${routeOf(split)}...\n---\n${service}`
  assert.equal(read(text).default, 'iris-stable')
  const line = before.split('\n').length - 1 + 8
  assert.deepEqual(complaints(text.replace('"weight":10', '"weight":-1')), [
    `route.yaml:${line}: spec.rules[0].backendRefs[1].weight: too small: expected number to be >=0, found -1`,
  ])
})

test('a route is found in a list', () => {
  const item = (text: string) => text.replaceAll(/^/gm, '    ').replace(/^ {4}/, '  - ').trimEnd()
  const list = `apiVersion: v1\nkind: List\nitems:\n${item(service)}\n${item(routeOf(split))}\n${item(service)}\n`
  assert.equal(read(list).source.name, 'iris')
  assert.equal(read(JSON.stringify({ kind: 'List', items: [flagger(60, 40)] })).arms['iris-canary']!.weight, 40)
  assert.deepEqual(complaints(list.replace('"weight":10', '"weight":-1')), [
    'route.yaml:15: items[1].spec.rules[0].backendRefs[1].weight: too small: expected number to be >=0, found -1',
  ])
  assert.deepEqual(complaints('kind: List\nitems: []\n'), ['route.yaml: no HTTPRoute in it'])
})

test('there has to be exactly one route that counts, in all files together', () => {
  const [iris, roses] = [routeOf(split), routeOf(onlyCanary).replace('name: iris', 'name: roses')]
  const files = [
    { file: 'a.yaml', text: `${service}---\n${iris}` },
    { file: 'b.yaml', text: `---\n${roses}` },
  ]
  const said = (name?: string) => {
    const made = readHttpRoutes(files, { versions, name })
    return 'mistakes' in made ? made.mistakes.map(showMistake) : made.intent.source.name
  }
  assert.equal(said('iris'), 'iris')
  assert.equal(said('roses'), 'roses')
  assert.deepEqual(said(), [
    'b.yaml:2: which counts, of HTTPRoute iris (a.yaml:6), HTTPRoute roses (b.yaml:2)? Say so by its name',
  ])
  assert.deepEqual(said('lilies'), [
    'a.yaml: no HTTPRoute lilies in it, only Service iris-stable, HTTPRoute iris, HTTPRoute roses',
  ])
  files.push({ file: 'c.yaml', text: iris })
  assert.deepEqual(said('iris'), [
    'c.yaml:1: more than one HTTPRoute iris: HTTPRoute iris (a.yaml:6), HTTPRoute iris (c.yaml:1)',
  ])
  assert.deepEqual(complaints(''), ['route.yaml: no HTTPRoute in it'])
  assert.deepEqual(readHttpRoutes([], { versions }), {
    mistakes: [{ file: 'HTTPRoute', message: 'no HTTPRoute in it' }],
  })
  assert.match(complaints(`${service}---\n`.repeat(12)).join(), /(Service iris-stable(, )?){10} and 2 more$/)
})

test('what is not YAML is refused with its line, whichever document it is in', () => {
  assert.match(
    complaints(`${routeOf(split)}---\na: 1\na: 2\n`).join(),
    /^route\.yaml:11: not YAML: Map keys must be unique$/,
  )
  assert.match(complaints(`${routeOf(split)}---\na: *b\n`).join(), /^route\.yaml:9: not YAML: Unresolved alias/)
  assert.ok(complaints('['.repeat(60) + '@,'.repeat(1_000)).length <= 10)
})

test('documents that grow without end are refused before they are read', () => {
  const levels = Array.from(
    { length: 12 },
    (_each, i) => `a${i}: &a${i} [${i === 0 ? 'x' : `*a${i - 1},`.repeat(9)}]\n`,
  )
  assert.match(complaints(levels.join('')).join(), /route\.yaml:1: not YAML: Excessive alias count/)
  const deep = ['['.repeat(1e6), '{a: '.repeat(2e5), '- '.repeat(5e5)]
  for (const text of deep) assert.deepEqual(complaints(`\n${text}`), ['route.yaml:2: nested deeper than 64 levels'])
  assert.deepEqual(complaints(`a: 1\n${'? '.repeat(5e5)}`), ['route.yaml:2: keys marked with `?` are not read'])
  assert.deepEqual(complaints(`a: |\n  one\n\n  two\n? b`), ['route.yaml:5: keys marked with `?` are not read'])
  assert.deepEqual(complaints('---\n'.repeat(1_002)), ['route.yaml:1001: more than 1000 documents'])
  const many = `${routeOf(split)}# ${'€'.repeat(350_000)}\n`
  assert.deepEqual(complaints(many), ['route.yaml: more than 1048576 bytes, with the files before it'])
  const half = { file: 'half.yaml', text: `${'#'.repeat(600_000)}\n` }
  assert.deepEqual(readHttpRoutes([half, { ...half, file: 'more.yaml' }], { versions }), {
    mistakes: [{ file: 'more.yaml', message: 'more than 1048576 bytes, with the files before it' }],
  })
  assert.ok('intent' in readHttpRoutes([half, { file: 'route.yaml', text: routeOf(split) }], { versions }))
})

test('many lines of lists and mappings that are closed again are not deep', () => {
  const notes = `kind: Notes\nlist:\n${'  - - { a: [1, [2]] }\n'.repeat(200)}`
  assert.equal(read(`${notes}---\n${routeOf(split)}`).default, 'iris-stable')
})

test('whatever is damaged in a route, there is an intent whose arms are whole or a mistake', () => {
  const draw = drawFrom(3)
  const text = argo(25, 3, argoHeaderRule)
  const junk = ['', '0', '-', 'x', '"', '[', ' ', '\n', ': ', '~', '{}', '__proto__']
  let intents = 0
  for (let round = 0; round < 400; round++) {
    const at = text.indexOf('spec:\n') + draw(text.length - text.indexOf('spec:\n'))
    const damaged = text.slice(0, at) + junk[draw(junk.length)]! + text.slice(at + draw(6))
    const made = readHttpRoutes([{ file: 'route.yaml', text: damaged }], { versions })
    if ('mistakes' in made)
      assert.ok(made.mistakes.length > 0 && made.mistakes.every(({ message }) => message.length < 500))
    else {
      intents++
      const { arms, rules, default: fallback } = made.intent
      assert.ok(Object.values(arms).some(({ weight }) => weight > 0))
      for (const name of [fallback, ...rules.map(({ arm }) => arm)]) assert.ok(Object.hasOwn(arms, name))
      for (const { version, weight } of Object.values(arms)) {
        assert.ok(['2', '3', '4'].includes(version) && Number.isInteger(weight) && weight >= 0)
      }
    }
  }
  assert.ok(intents > 20 && intents < 380, `${intents}`)
})
