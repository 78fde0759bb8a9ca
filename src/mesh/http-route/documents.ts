/** The Kubernetes objects in a YAML file, of which there may be many, and many of other kinds. */
import { CST, Lexer, LineCounter, parseAllDocuments, type Document } from 'yaml'
import type { Mistake } from '../../core/document.ts'

/** People nest a dozen levels; what is nested without end would be parsed without end. */
const mostDepth = 64
const mostDocuments = 1_000
const mostMistakes = 10

/** An object and where it is. */
export interface Found {
  readonly file: string
  readonly line: number
  readonly kind: unknown
  readonly name: unknown
  /** In its document: empty, or `items` and the place in a list. */
  readonly path: readonly [] | readonly ['items', number]
  /** Of the document, in the text. */
  readonly range: readonly [start: number, end: number]
}

/** Every object in a file; or what is wrong with it as YAML. */
export function findObjects(file: string, text: string): { found: Found[] } | { mistakes: Mistake[] } {
  const problem = excessOf(text)
  if (problem) return { mistakes: [{ file, ...problem }] }
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false })
  if ('empty' in documents) return { found: [] }
  const mistakes: Mistake[] = []
  const found: Found[] = []
  for (const document of documents) {
    const looked = objectsOf(document)
    if ('problems' in looked) mistakes.push(...looked.problems.map((each) => ({ file, ...placed(each, lines) })))
    else found.push(...looked.objects.map(({ at, ...rest }) => ({ file, line: lines.linePos(at).line, ...rest })))
  }
  return mistakes.length > 0 ? { mistakes: mistakes.slice(0, mostMistakes) } : { found }
}

/** The text of one document, with all that stands before it blank so that lines keep their numbers. */
export function textOf(text: string, [start, end]: Found['range']): string {
  return text.slice(0, start).replaceAll(/[^\n]+/g, '') + text.slice(start, end)
}

/** Looks at the tokens alone, which takes time in proportion to the text whatever stands in it. */
function excessOf(text: string): { line: number; message: string } | undefined {
  let [line, flows, dashes, documents] = [1, 0, 0, 0]
  for (const token of new Lexer().lex(text)) {
    const type = CST.tokenType(token)
    if (type === 'explicit-key-ind') return { line, message: 'keys marked with `?` are not read' }
    if (type === 'flow-map-start' || type === 'flow-seq-start') flows++
    else if (type === 'flow-map-end' || type === 'flow-seq-end') flows--
    else if (type === 'seq-item-ind') dashes++
    else if (type === 'doc-start') documents++
    if (flows > mostDepth || dashes > mostDepth) return { line, message: `nested deeper than ${mostDepth} levels` }
    if (documents > mostDocuments) return { line, message: `more than ${mostDocuments} documents` }
    const breaks = token.split('\n').length - 1
    if (breaks > 0) dashes = 0
    line += breaks
  }
}

interface Problem {
  readonly message: string
  readonly at: number
}

type Located = Omit<Found, 'file' | 'line'> & { readonly at: number }

function objectsOf(document: Document): { objects: Located[] } | { problems: Problem[] } {
  const { errors, range } = document
  if (errors.length > 0) return { problems: errors.map(({ message, pos }) => ({ message, at: pos[0] })) }
  const [start, , end] = range!
  const value = valueOf(document)
  if ('problem' in value) return { problems: [{ message: value.problem, at: start }] }
  const object = fieldsOf(value.value)
  const { items } = object
  if (object['kind'] !== 'List' || !Array.isArray(items)) {
    return { objects: [{ ...describe(object), path: [], range: [start, end], at: offsetOf(document, []) ?? start }] }
  }
  const objects = items.map((item: unknown, i): Located => {
    const path = ['items', i] as const
    return { ...describe(fieldsOf(item)), path, range: [start, end], at: offsetOf(document, path) ?? start }
  })
  return { objects }
}

function valueOf(document: Document): { value: unknown } | { problem: string } {
  try {
    return { value: document.toJS() }
  } catch (error) {
    // An alias without an anchor, or aliases that multiply without end.
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function describe(object: Readonly<Record<string, unknown>>): Pick<Found, 'kind' | 'name'> {
  return { kind: object['kind'], name: fieldsOf(object['metadata'])['name'] }
}

function offsetOf(document: Document, path: readonly (string | number)[]): number | undefined {
  const node = path.length === 0 ? document.contents : document.getIn(path, true)
  return (node as { range?: readonly [number] | null } | null | undefined)?.range?.[0]
}

function placed({ message, at }: Problem, lines: LineCounter): { line: number; message: string } {
  return { line: lines.linePos(at).line, message: `not YAML: ${message}` }
}
