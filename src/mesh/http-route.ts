/**
 * A model’s traffic split, read from a Gateway API HTTPRoute: so Argo Rollouts’ Gateway API plugin and Flagger
 * (`gatewayapi:v1`), which edit that document, drive the split.
 */
import * as z from 'zod'
import { readDocument, type Mistake } from '../core/document.ts'
import { httpRoute } from './http-route-schema.ts'
import { findObjects, textOf, type Found } from './http-route/documents.ts'
import { intentOf, type IntentOptions, type SplitIntent } from './http-route/intent.ts'

export type { SplitIntent } from './http-route/intent.ts'

/** What a ConfigMap can hold. */
const mostBytes = 1_048_576
/** How many objects are named in a message. */
const mostNamed = 10

interface HttpRouteFile {
  readonly file: string
  readonly text: string
}

export interface HttpRouteOptions extends IntentOptions {
  /** `metadata.name` of the route that counts. Without it there has to be exactly one. */
  readonly name?: string | undefined
}

/**
 * Finds the route among the documents of the files (which may be of any kind, and lists) and reads the split from it.
 * Whatever in it would change who gets what and is not carried out is a mistake, never left out: half of what a
 * controller asks for is worse than what it asked for before.
 */
export function readHttpRoutes(
  files: readonly HttpRouteFile[],
  options: HttpRouteOptions,
): { intent: SplitIntent } | { mistakes: Mistake[] } {
  const found = findRoute(files, options.name)
  return 'mistakes' in found ? found : readRoute(found.route, found.text, options)
}

function findRoute(
  files: readonly HttpRouteFile[],
  name: string | undefined,
): { route: Found; text: string } | { mistakes: Mistake[] } {
  const excess = fileAbove(files, mostBytes)
  if (excess) return { mistakes: [{ file: excess, message: `more than ${mostBytes} bytes, with the files before it` }] }
  const looked = files.map(({ file, text }) => findObjects(file, text))
  const mistakes = looked.flatMap((each) => ('mistakes' in each ? each.mistakes : []))
  if (mistakes.length > 0) return { mistakes }
  const objects = looked.flatMap((each, i) => ('found' in each ? each.found.map((object) => ({ ...object, i })) : []))
  const routes = objects.filter((each) => each.kind === 'HTTPRoute' && (name === undefined || each.name === name))
  const [route, another] = routes
  if (route && !another) return { route, text: files[route.i]!.text }
  if (another) return { mistakes: [{ file: another.file, line: another.line, message: tooMany(routes, name) }] }
  return { mistakes: [{ file: files[0]?.file ?? 'HTTPRoute', message: none(objects, name) }] }
}

/** The file with which the texts together get too long. */
function fileAbove(files: readonly HttpRouteFile[], most: number): string | undefined {
  let bytes = 0
  return files.find(({ text }) => (bytes += Buffer.byteLength(text)) > most)?.file
}

function tooMany(routes: readonly Found[], name: string | undefined): string {
  const places = listOf(routes.map((each) => `${show(each)} (${each.file}:${each.line})`))
  return name === undefined
    ? `which counts, of ${places}? Say so by its name`
    : `more than one HTTPRoute ${name}: ${places}`
}

function none(objects: readonly Found[], name: string | undefined): string {
  const others = objects.filter(({ kind }) => typeof kind === 'string').map(show)
  const wanted = name === undefined ? 'HTTPRoute' : `HTTPRoute ${name}`
  return `no ${wanted} in it${others.length === 0 ? '' : `, only ${listOf(others)}`}`
}

function show({ kind, name }: Found): string {
  const words = [kind, name].filter((each) => typeof each === 'string')
  return words.map((each) => each.slice(0, 100)).join(' ')
}

function listOf(texts: readonly string[]): string {
  const left = texts.length - mostNamed
  return texts.slice(0, mostNamed).join(', ') + (left > 0 ? ` and ${left} more` : '')
}

function readRoute(
  { file, path, range }: Found,
  text: string,
  options: IntentOptions,
): { intent: SplitIntent } | { mistakes: Mistake[] } {
  const route = httpRoute.transform((value, context) => {
    return intentOf(value, options, (at, message) => {
      context.addIssue({ code: 'custom', path: [...at], message, input: value })
    })
  })
  const document = textOf(text, range)
  const [, place] = path
  if (place === undefined) {
    const read = readDocument(file, document, route)
    return 'mistakes' in read ? read : { intent: read.value }
  }
  const items: z.ZodType[] = [...Array.from({ length: place }, () => z.unknown()), route]
  const list = z.looseObject({ items: z.tuple(items as [z.ZodType, ...z.ZodType[]], z.unknown()) })
  const read = readDocument(file, document, list)
  return 'mistakes' in read ? read : { intent: read.value.items[place] as SplitIntent }
}
