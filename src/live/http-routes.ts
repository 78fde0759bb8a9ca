/** HTTPRoutes that say how models are split: files that controllers edit, followed while requests flow. */
import type { Config } from '../config.ts'
import type { Clock } from '../core/clock.ts'
import type { Mistake } from '../core/document.ts'
import { Watched, type Made } from '../core/watched.ts'
import { readHttpRoutes, type SplitIntent } from '../mesh/http-route.ts'
import { settledReader } from './settled-file.ts'

/** A mounted ConfigMap takes a minute to change, so nobody waits for this. */
const everyMs = 500

export interface HttpRouteTools {
  readonly clock: Clock
  /** Told of a file that cannot be used; the last good one holds. */
  readonly onProblem: (problem: Mistake) => void
}

export class HttpRoutes {
  /** Told of a model's new route; says what is wrong with it, and then the last one holds. */
  onChange: (model: string, route: SplitIntent) => readonly string[] = () => []
  readonly #files: { close(): void }[] = []
  readonly #routes = new Map<string, SplitIntent>()

  /** Reads every file for the first time; or says what is wrong. */
  static async open(config: Config, tools: HttpRouteTools): Promise<HttpRoutes | { readonly mistakes: Mistake[] }> {
    const routes = new HttpRoutes()
    const mistakes: Mistake[] = []
    for (const [model, { httpRoute }] of Object.entries(config.models)) {
      if (!httpRoute) continue
      const { file } = httpRoute
      const make = (bytes: Buffer, before: SplitIntent | undefined): Made<SplitIntent> => {
        const read = readHttpRoutes([{ file, text: bytes.toString() }], httpRoute)
        if ('mistakes' in read) return read
        const problems = before ? routes.onChange(model, read.intent) : []
        if (problems.length > 0) return { mistakes: problems.map((message) => ({ file, message })) }
        routes.#routes.set(model, read.intent)
        return { value: read.intent }
      }
      const opened = await Watched.open({ file, everyMs, read: settledReader(tools.clock), make, ...tools })
      if ('mistakes' in opened) mistakes.push(...opened.mistakes)
      else routes.#files.push(opened)
    }
    if (mistakes.length === 0) return routes
    routes.close()
    return { mistakes }
  }

  of(model: string): SplitIntent | undefined {
    return this.#routes.get(model)
  }

  close(): void {
    for (const file of this.#files) file.close()
  }
}
