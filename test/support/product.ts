/** A product that uses a model: it predicts, remembers what the prediction is called, and tells later what became of it. */
import assert from 'node:assert/strict'
import { keyOf } from './api-keys.ts'
import { admin } from './client.ts'
import { tensor, type TestGateway } from './gateway.ts'
import type { Client, Got } from './protocols.ts'

export interface Prediction {
  readonly prediction: string
  readonly arm: string
}

export class Product {
  readonly #client: Client
  readonly #headers: Readonly<Record<string, string>>

  /** `who` has a key; nobody if it is empty. */
  constructor(client: Client, who: string = '') {
    this.#client = client
    this.#headers = { 'content-type': 'application/json', ...(who !== '' && { 'x-api-key': keyOf(who) }) }
  }

  ask(headers: Readonly<Record<string, string>> = {}, path: string = '/v2/models/m/infer'): Promise<Got> {
    const body = JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [7])] })
    return this.#client.send({ path, headers: { ...this.#headers, ...headers }, body })
  }

  async predict(headers: Readonly<Record<string, string>> = {}): Promise<Prediction> {
    const { status, headers: head, json } = await this.ask(headers)
    assert.equal(status, 200, JSON.stringify(json))
    const { 'x-penstock-prediction': prediction, 'x-penstock-arm': arm } = head
    return { prediction: String(prediction), arm: String(arm) }
  }

  /** Predicts until it was sent to an arm. */
  async predictBy(arm: string): Promise<string> {
    for (let i = 0; i < 200; i++) {
      const made = await this.predict()
      if (made.arm === arm) return made.prediction
    }
    assert.fail(`nobody was sent to ${arm}`)
  }

  tell(entries: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Got> {
    const body = typeof entries === 'string' ? entries : JSON.stringify(entries)
    return this.#client.send({ path: '/v2/feedback', headers: { ...this.#headers, ...headers }, body })
  }

  /** What the gateway says it serves. */
  document(): Promise<Got> {
    return this.#client.send({ path: '/v2/openapi.json', headers: this.#headers })
  }

  /** What became of one entry: a status if it was taken, or the code and the words of a refusal. */
  async outcome(entry: object): Promise<string> {
    const { status, json } = await this.tell(entry)
    return status === 200 ? json.status : `${status} ${json.code}: ${json.error}`
  }
}

/** What the report of a model's experiment says of a metric. */
export async function metricOf(served: TestGateway, name: string, model: string = 'm') {
  const { metrics } = await admin(served, `/admin/models/${model}/experiment`)
  return metrics.find((each: { name: string }) => each.name === name)
}
