/**
 * The house keeps its shape: who may import whom, how long files and functions may be, and what is read or named where.
 * To let an arrow in, change `rules` here and the table in the design; a new folder needs a line of its own.
 */
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { repository } from './support/gateway.ts'

const source = join(repository, 'src')

const files = globSync('**/*.ts', { cwd: source })
  .toSorted()
  .map((name) => {
    const text = readFileSync(join(source, name), 'utf8')
    return { name, text, lines: text.trimEnd().split('\n'), code: withoutComments(text) }
  })

interface Rule {
  readonly from: readonly string[]
  /** Files, or folders with a slash behind them. */
  readonly may: readonly string[]
  /** What only `import type` may name. */
  readonly types?: readonly string[]
}

const packageFile = '../package.json'
const concepts =
  'auth limits redis guard routing experiments batching runtime models state predictions telemetry mesh'.split(' ')
/** A concept's options, and its closed lists of alternatives. */
const tables = 'options methods stores checks policies backends'.split(' ')

const rules: readonly Rule[] = [
  { from: ['core/'], may: ['core/'] },
  ...concepts.map((concept) => ({ from: [`${concept}/`], may: [`${concept}/`, 'core/'] })),
  { from: ['pipeline.ts'], may: ['core/'], types: concepts.map((concept) => `${concept}/`) },
  { from: ['edge/'], may: ['edge/', 'core/', 'pipeline.ts', packageFile], types: ['telemetry/', 'mesh/'] },
  {
    from: ['config.ts'],
    may: [
      'core/',
      'contradictions.ts',
      'edge/options.ts',
      'experiments/feedback/options.ts',
      'routing/split-options.ts',
      ...concepts.flatMap((concept) => tables.map((table) => `${concept}/${table}.ts`)),
    ],
  },
  // The composition root and its rooms: who gets in, and what is served while requests flow.
  {
    from: ['create-gateway.ts', 'gateway.ts', 'security.ts', 'live/'],
    may: [
      'core/',
      'config.ts',
      'gateway.ts',
      'live/',
      'misfits.ts',
      'pipeline.ts',
      'security.ts',
      ...concepts.map((concept) => `${concept}/`),
    ],
  },
  { from: ['contradictions.ts'], may: ['core/', 'routing/options.ts', 'runtime/options.ts'], types: ['config.ts'] },
  { from: ['weaknesses.ts'], may: ['core/'], types: ['config.ts'] },
  {
    from: ['misfits.ts'],
    may: ['core/', 'live/intent.ts', 'routing/'],
    types: ['config.ts', 'mesh/', 'models/'],
  },
  {
    from: ['main.ts', 'cli/'],
    // models/store.ts: `penstock models` lists a store without loading a gateway over it.
    may: [
      'cli/',
      'config.ts',
      'create-gateway.ts',
      'gateway.ts',
      'live/intent.ts',
      'live/settled-file.ts',
      'weaknesses.ts',
      'edge/',
      'mesh/drain.ts',
      'core/',
      'models/store.ts',
      packageFile,
    ],
    types: ['live/'],
  },
]

test('imports keep to the table of who may import whom', () => {
  const offenders = arrows().filter(({ from, to, ours, typeOnly }) => {
    const rule = rules.find((each) => covers(each.from, from))
    return ours && !(rule && (covers(rule.may, to) || (typeOnly && covers(rule.types ?? [], to))))
  })
  assert.equal(offenders.map(({ from, to }) => `${from} -> ${to}`).join('\n'), '')
})

test('core reaches for nothing of Node', () => {
  const offenders = arrows().filter(({ from, to }) => from.startsWith('core/') && isBuiltin(to))
  assert.equal(offenders.map(({ from, to }) => `${from} -> ${to}`).join('\n'), '')
})

test('files stay within their budget of lines', () => {
  const sizes = files.map(({ name, lines }) => ({ name, length: lines.length }))
  assert.deepEqual(longerThan(350, sizes), [])
  assert.deepEqual(longerThan(250, percentile(sizes, 0.9)), [])
  assert.deepEqual(longerThan(120, percentile(sizes, 0.5)), [])
  assert.deepEqual(
    longerThan(
      80,
      sizes.filter(({ name }) => name === 'pipeline.ts'),
    ),
    [],
  )
})

test('functions stay within their budget of lines', () => {
  const sizes = files.flatMap(functionsIn)
  assert.ok(sizes.length > 3 * files.length, `only ${sizes.length} functions were recognised`)
  assert.deepEqual(longerThan(60, sizes), [])
  assert.deepEqual(longerThan(35, percentile(sizes, 0.9)), [])
})

test('folders are few, and names say what is in them', () => {
  const words = /^(utils?|helpers?|common|services?|index)(\.ts)?$/
  const badNames = files.filter(({ name }) => name.split('/').some((part) => words.test(part)))
  assert.deepEqual(
    badNames.map(({ name }) => name),
    [],
  )
  assert.deepEqual(
    files.map(({ name }) => name).filter((name) => name.split('/').length > 4),
    [],
  )
})

test('nothing is exported by default', () => {
  assert.deepEqual(linesWith(/\bexport default\b|\bas default\b/), [])
})

test('only the entry and the commands touch the process', () => {
  // And the process worker: what starts it, and what it is.
  const allowed = ['main.ts', 'cli/', 'runtime/backends/process.ts', 'runtime/worker/process.ts']
  const touched = linesWith(/(?<!\/)\bprocess(\.\w|\[)|[=(,] process\b(?!:)|(from |\()'(node:)?process'/)
  assert.deepEqual(
    touched.filter((line) => !allowed.some((each) => line.startsWith(each))),
    [],
  )
})

test('status numbers of refusals are in core/refusal.ts and nowhere else', () => {
  const written = linesWith(/(\bwrite\w*\(|status\w*['"]?\s*([:=]|[!=]==)|HTTP\/1\.1 )[^'"\n]*\b[45]\d\d\b/i)
  assert.deepEqual(
    written.filter((line) => !line.startsWith('core/refusal.ts:')),
    [],
  )
})

/** Every import, dynamic import and file started by its URL: from where, to where (in src if it is ours). */
function arrows() {
  const fromClause = /(?:^(?:import|export) type (?:\{[^}]*\}|[\w$* ]+) )?\bfrom '([^']+)'/gm
  const others = /\bimport '([^']+)'|\bimport\(\s*'([^']+)'|\bnew URL\(\s*'([^']+)',\s*import\.meta\.url/g
  return files.flatMap(({ name, code }) =>
    [...code.matchAll(fromClause), ...code.matchAll(others)].map(([clause, ...specifiers]) => {
      const specifier = specifiers.find((each) => each !== undefined)!
      const ours = specifier.startsWith('.')
      const to = ours ? relative(source, join(source, dirname(name), specifier)) : specifier
      return { from: name, to, ours, typeOnly: /^(import|export) type /.test(clause) }
    }),
  )
}

function covers(places: readonly string[], name: string): boolean {
  return places.some((place) => (place.endsWith('/') ? name.startsWith(place) : name === place))
}

/** Functions and methods by their layout: the formatter puts the closing brace under the first line's beginning. */
function functionsIn({ name, lines }: (typeof files)[number]): Sized[] {
  return lines.flatMap((line, last) => {
    if (!line.endsWith('{')) return []
    const indent = /^\s*/.exec(line)![0]
    // A signature over several lines ends in a line that begins with its closing parenthesis.
    const begins = (row: string) => row.startsWith(indent) && /[^\s)}\]]/.test(row.charAt(indent.length))
    const first = begins(line) ? last : lines.findLastIndex((row, i) => i < last && begins(row))
    const head = lines
      .slice(first, last + 1)
      .join(' ')
      .trim()
    const method = /^((async|static|private|get|set) )*\*?[#\w]+(<.*>)?\(.*\)(: .+)? \{$/
    const statement = /^(if|for|while|switch|catch|with)\b/
    const isFunction = /\bfunction\b|=> \{$/.test(head) || (method.test(head) && !statement.test(head))
    if (!isFunction) return []
    const end = lines.findIndex((each, i) => i > last && each.startsWith(`${indent}}`))
    return [{ name: `${name}:${first + 1}`, length: end - first + 1 }]
  })
}

interface Sized {
  readonly name: string
  readonly length: number
}

function longerThan(limit: number, parts: readonly Sized[]): string[] {
  return parts.filter(({ length }) => length > limit).map(({ name, length }) => `${name} has ${length} lines`)
}

function linesWith(pattern: RegExp): string[] {
  return files.flatMap(({ name, code }) =>
    code.split('\n').flatMap((line, i) => (pattern.test(line) ? [`${name}:${i + 1}: ${line.trim()}`] : [])),
  )
}

/** Comments blanked, line by line. One that follows code needs a space before it, so an address in a string stays. */
function withoutComments(text: string): string {
  return text
    .replace(/\/\*\*?[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ''))
    .replace(/(^|\s)\/\/ .*$/gm, '$1')
}

/** The one that so large a part of them is not longer than. */
function percentile(parts: readonly Sized[], part: number): Sized[] {
  const sorted = parts.toSorted((a, b) => a.length - b.length)
  return sorted.slice(Math.ceil(parts.length * part) - 1).slice(0, 1)
}
