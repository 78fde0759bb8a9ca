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

/** Parses `text`; returns the value with the schema's defaults filled in, or every mistake in it. */
export function readDocument<S extends z.ZodType>(
  file: string,
  text: string,
  schema: S,
): { value: z.output<S> } | { mistakes: Mistake[] } {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const lineAt = (offset: number | undefined) => (offset === undefined ? undefined : lines.linePos(offset).line)
  const broken = document.errors.map(({ message, pos }) => ({
    file,
    line: lineAt(pos[0]),
    message: `not YAML: ${message}`,
  }))
  if (broken.length > 0) return { mistakes: broken }
  const parsed = schema.safeParse(document.toJS() ?? {}, { reportInput: true })
  if (parsed.success) return { value: parsed.data }
  const mistakes = parsed.error.issues.flatMap(innermost).map((issue) => {
    return { file, line: lineAt(offsetOf(document, issue)), message: describe(issue) }
  })
  return { mistakes }
}

/** A union's own complaint says nothing; those of the alternative that came closest say what to mend. */
function innermost(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [issue]
  const closest = issue.errors.toSorted((a, b) => depth(b) - depth(a))[0]!
  if (depth(closest) === 0) {
    const expected = issue.errors.flat().map((each) => ('expected' in each ? each.expected : valuesOf(each)))
    return [{ ...issue, message: `expected ${[...new Set(expected)].join(' or ')}` }]
  }
  return closest.map((each) => ({ ...each, path: [...issue.path, ...each.path] })).flatMap(innermost)
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
  const at = showPath(issue.path)
  if (issue.code === 'unrecognized_keys') {
    return `${at ? `${at}: ` : ''}unknown key${issue.keys.length > 1 ? 's' : ''} ${issue.keys.map((key) => `"${key}"`).join(', ')}`
  }
  const missing = issue.code === 'invalid_type' && issue.input === undefined
  const message = issue.message.replace(/^Invalid (input|option): /, '').replace(/, received .*$/, '')
  return `${at}: ${missing ? `is missing: ${message}` : `${lowerFirst(message)}, found ${showFound(issue.input)}`}`
}

function showPath(path: Path): string {
  return path.map((step, i) => (typeof step === 'number' ? `[${step}]` : `${i > 0 ? '.' : ''}${String(step)}`)).join('')
}

function showFound(input: unknown): string {
  if (Array.isArray(input)) return 'a list'
  if (typeof input === 'object' && input !== null) return 'a mapping'
  const text = JSON.stringify(input) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1)
}

/** Where in the text an issue is: the key itself if one is unknown, else the nearest node that exists. */
function offsetOf(document: Document, issue: z.core.$ZodIssue): number | undefined {
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
  const path: Path = [...issue.path, ...unknown]
  for (let length = path.length; length > 0; length--) {
    const parent = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true)
    if (isMap(parent)) {
      const pair = parent.items.find(({ key }) => isScalar(key) && String(key.value) === String(path[length - 1]))
      if (pair && isScalar(pair.key)) return pair.key.range?.[0]
    }
    const node = document.getIn(path.slice(0, length), true)
    if (typeof node === 'object' && node !== null && 'range' in node) return (node.range as [number] | undefined)?.[0]
  }
  return undefined
}
