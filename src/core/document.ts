/**
 * YAML held against a schema. A mistake names the file, the line, the path, what was found and what was expected: the
 * reader of such a message is tired and has many files.
 */
import { isMap, isScalar, LineCounter, parseDocument, type Document } from 'yaml'
import type * as z from 'zod'

export interface Mistake {
  readonly file: string
  /** From 1. */
  readonly line?: number | undefined
  readonly message: string
}

export function showMistake({ file, line, message }: Mistake): string {
  return `${line === undefined ? file : `${file}:${line}`}: ${message}`
}

type Path = readonly PropertyKey[]

/** Where in the file the value at a path is, or the nearest thing around it that is there. */
export type Locate = (path: Path) => Pick<Mistake, 'file' | 'line'>

/** Parses `text`; returns the value with the schema's defaults filled in, or every mistake in it. */
export function readDocument<S extends z.ZodType>(
  file: string,
  text: string,
  schema: S,
): { value: z.output<S>; locate: Locate } | { mistakes: Mistake[] } {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const at = (offset: number | undefined) => {
    return { file, line: offset === undefined ? undefined : lines.linePos(offset).line }
  }
  const raw = valueOf(document)
  if ('problems' in raw) {
    return { mistakes: raw.problems.map(({ message, offset }) => ({ ...at(offset), message: `not YAML: ${message}` })) }
  }
  const locate: Locate = (path) => at(offsetOf(document, path))
  const parsed = schema.safeParse(raw.value ?? {}, { reportInput: true })
  if (parsed.success) return { value: parsed.data, locate }
  const mistakes = parsed.error.issues.flatMap(innermost).map((issue) => {
    return { ...locate(placeOf(issue)), message: describe(issue) }
  })
  return { mistakes }
}

interface Problem {
  readonly message: string
  readonly offset: number | undefined
}

function valueOf(document: Document): { value: unknown } | { problems: Problem[] } {
  const problems = document.errors.map(({ message, pos }) => ({ message, offset: pos[0] }))
  if (problems.length > 0) return { problems }
  try {
    return { value: document.toJS() }
  } catch (error) {
    // An alias without an anchor, or aliases that multiply without end.
    return { problems: [{ message: error instanceof Error ? error.message : String(error), offset: undefined }] }
  }
}

/** A union's own complaint says nothing; those of the alternative that came closest say what to mend. */
function innermost(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [issue]
  const closest = issue.errors.toSorted((a, b) => depth(b) - depth(a))[0]!
  if (depth(closest) === 0) {
    const expected = issue.errors.flat().map((each) => ('expected' in each ? wordFor(each.expected) : valuesOf(each)))
    return [{ ...issue, message: `expected ${[...new Set(expected)].join(' or ')}` }]
  }
  return closest.map((each) => ({ ...each, path: [...issue.path, ...each.path] })).flatMap(innermost)
}

/** What people call it who write YAML. */
function wordFor(type: string): string {
  return { object: 'a mapping', array: 'a list' }[type] ?? type
}

function depth(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(...issues.map((each) => each.path.length))
}

function valuesOf(issue: z.core.$ZodIssue): string {
  return 'values' in issue
    ? (issue.values as unknown[]).map((value) => JSON.stringify(value)).join(' or ')
    : issue.message
}

function describe(issue: z.core.$ZodIssue): string {
  const prefix = issue.path.length > 0 ? `${showPath(issue.path)}: ` : ''
  if (issue.code === 'unrecognized_keys') {
    return `${prefix}unknown key${issue.keys.length > 1 ? 's' : ''} ${issue.keys.map((key) => `"${key}"`).join(', ')}`
  }
  if (issue.code === 'custom') return `${prefix}${issue.message}`
  const found = foundBy(issue)
  const expected = lowerFirst(
    issue.message
      .replace(/^Invalid (input|option|discriminator value)[:.] /, '')
      .replace(/, received .*$/, '')
      .replace(/expected (object|array)/, (_all, type: string) => `expected ${wordFor(type)}`),
  )
  return `${prefix}${found === undefined ? `is missing: ${expected}` : `${expected}, found ${showFound(found)}`}`
}

/** The value that was wrong. For a list of kinds that is the name of the kind, not all that goes with it. */
function foundBy(issue: z.core.$ZodIssue): unknown {
  const key = 'discriminator' in issue ? issue.discriminator : undefined
  if (typeof key !== 'string' || typeof issue.input !== 'object' || issue.input === null) return issue.input
  return (issue.input as Record<string, unknown>)[key]
}

function showPath(path: Path): string {
  return path.map((step, i) => (typeof step === 'number' ? `[${step}]` : `${i > 0 ? '.' : ''}${String(step)}`)).join('')
}

function showFound(input: unknown): string {
  if (input === null) return 'nothing'
  if (typeof input === 'number') return String(input)
  if (Array.isArray(input)) return 'a list'
  if (typeof input === 'object' && input !== null) return 'a mapping'
  // What stands before the @ of an address is nobody's business.
  const text = (JSON.stringify(input) ?? 'nothing').replace(/\/\/[^/@]*@/, '//[redacted]@')
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1)
}

/** An unknown key is itself the place; other mistakes are at the value. */
function placeOf(issue: z.core.$ZodIssue): Path {
  return issue.code === 'unrecognized_keys' ? [...issue.path, ...issue.keys.slice(0, 1)] : issue.path
}

function offsetOf(document: Document, path: Path): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const parent = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true)
    if (isMap(parent)) {
      const pair = parent.items.find(({ key }) => isScalar(key) && String(key.value) === String(path[length - 1]))
      if (pair && isScalar(pair.key)) return pair.key.range?.[0]
    }
    const node = document.getIn(path.slice(0, length), true)
    if (typeof node === 'object' && node !== null && 'range' in node) return (node.range as [number] | undefined)?.[0]
  }
  return path.length === 0 ? document.contents?.range?.[0] : undefined
}
