/** Several gateways as processes of their own on one Redis, and a load on all of them that remembers what it was told. */
import { Agent, request } from 'node:http'
import type { TestContext } from 'node:test'
import { stringify } from 'yaml'
import type { TestGateway } from './gateway.ts'
import { folderWith } from './gateway.ts'
import { echo, rows } from './limited.ts'
import { penstock, settingsAlone, type Spawned } from './process.ts'

export interface Replica {
  readonly process: Spawned
  readonly url: string
  readonly metricsUrl: string
}

/** Starts so many with the same limits over models with these names. */
export async function replicas(
  t: TestContext,
  count: number,
  { models, redis, rules }: { models: readonly string[]; redis: object; rules: readonly object[] },
): Promise<Replica[]> {
  const settings = {
    ...settingsAlone,
    redis,
    limits: { rules },
  }
  const files = Object.fromEntries(models.map((model) => [`models/${model}.onnx`, echo]))
  const folder = await folderWith({ 'penstock.yaml': stringify(settings), ...files })
  const started = Array.from({ length: count }, () => penstock(t, ['serve', `${folder}/penstock.yaml`]))
  return Promise.all(
    started.map(async (process) => {
      const [, url, metricsUrl] = await process.said(/ at (http:\S+), metrics at (http:\S+)\/metrics, /)
      return { process, url: url!, metricsUrl: metricsUrl! }
    }),
  )
}

export const seenBy = (replica: Replica) => replica as unknown as TestGateway

/** One request: when it was sent and answered, in milliseconds, and how. */
export interface Asked {
  readonly replica: number
  readonly model: string
  readonly sentAt: number
  readonly answeredAt: number
  /** 0 if there was no answer. */
  readonly status: number
  readonly text: string
}

export class Load {
  readonly asked: Asked[] = []
  #isOver = false
  readonly #running: Promise<void>[]

  /** So many at once on each gateway for each model, each the next as soon as it has its answer; until the test ends. */
  constructor(t: TestContext, gateways: readonly Replica[], models: readonly string[], atOnce: number) {
    t.after(() => this.end())
    this.#running = gateways.flatMap(({ url }, replica) => {
      const agent = new Agent({ keepAlive: true })
      const pours = models.flatMap((model) =>
        Array.from({ length: atOnce }, () => this.#pour(url, agent, replica, model)),
      )
      return [Promise.all(pours).then(() => agent.destroy())]
    })
  }

  of(model: string): Asked[] {
    return this.asked.filter((each) => each.model === model)
  }

  /** Lets what is on its way be answered. */
  async end(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#running)
  }

  async #pour(url: string, agent: Agent, replica: number, model: string): Promise<void> {
    while (!this.#isOver) {
      const sentAt = performance.now()
      const { status, text } = await send(`${url}/v2/models/${model}/infer`, agent)
      this.asked.push({ replica, model, sentAt, answeredAt: performance.now(), status, text })
    }
  }
}

const body = rows(1)

export function send(url: string, agent: Agent): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const headers = { 'content-type': 'application/json', 'content-length': body.length }
    const sent = request(url, { method: 'POST', agent, headers }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode!, text }))
      response.on('error', ({ message }) => resolve({ status: 0, text: message }))
    })
    sent.on('error', ({ message }) => resolve({ status: 0, text: message }))
    sent.end(body)
  })
}

/**
 * The burst that a shared bucket must have had: of those let in, the most in any time beyond what comes back in that time.
 * Only those count for a time that were both sent and answered in it, so slow answers accuse nobody.
 */
export function burstShown(asked: readonly Asked[], unitsPerMs: number): number {
  const admitted = asked.filter(({ status }) => status === 200).toSorted((a, b) => a.answeredAt - b.answeredAt)
  let most = 0
  for (const { sentAt: from } of admitted) {
    let count = 0
    for (const { sentAt, answeredAt } of admitted) {
      if (sentAt >= from) most = Math.max(most, ++count - unitsPerMs * (answeredAt - from))
    }
  }
  return most
}
