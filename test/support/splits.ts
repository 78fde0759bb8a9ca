/** Models whose versions tell themselves apart by what they answer, and requests that look at all that says which did. */
import assert from 'node:assert/strict'
import { plus } from './fleet.ts'
import { tensor } from './gateway.ts'
import type { Client, Got } from './protocols.ts'

/** Each of these models has versions 1, 2 and 3, which add a hundred, two hundred and three hundred. */
export function versionsOf(...models: readonly string[]): Record<string, Buffer> {
  const files = models.flatMap((model) =>
    [1, 2, 3].map((version): [string, Buffer] => [`${model}/${version}/model.onnx`, plus(100 * version)]),
  )
  return Object.fromEntries(files)
}

const body = JSON.stringify({ inputs: [tensor('x', 'INT64', [1, 1], [7])] })

/** What answered. The arm is undefined where none is told of. */
export interface Answered {
  readonly arm: string | undefined
  readonly version: string
}

type Fields = Readonly<Record<string, string>>

/** Asks a model, which may go on with `/versions/V`, or at a path. */
export function send(client: Pick<Client, 'send'>, model: string, headers: Fields = {}): Promise<Got> {
  const path = `${model.startsWith('/') ? model : `/v2/models/${model}`}/infer`
  return client.send({ path, body, headers: { 'content-type': 'application/json', ...headers } })
}

/** Asks, and sees to it that everything which says what answered says the same. */
export async function ask(client: Pick<Client, 'send'>, model: string, headers: Fields = {}): Promise<Answered> {
  const got = await send(client, model, headers)
  assert.equal(got.status, 200, got.body.toString())
  const { json } = got
  const version: string = json.model_version
  assert.deepEqual(json.outputs[0].data, [7 + 100 * Number(version)], 'it is the version that it says')
  const arm = got.headers['x-penstock-arm'] as string | undefined
  assert.equal(json.parameters?.arm, arm)
  assert.equal(got.headers['x-penstock-version'], arm === undefined ? undefined : version)
  return { arm, version }
}

/** The arms of so many requests, in turn. */
export async function armsOf(
  client: Pick<Client, 'send'>,
  model: string,
  fields: readonly Fields[],
): Promise<(string | undefined)[]> {
  const arms: (string | undefined)[] = []
  // Some at once, or a round trip each would be most of a test.
  for (let i = 0; i < fields.length; i += atOnce) {
    const some = await Promise.all(fields.slice(i, i + atOnce).map((each) => ask(client, model, each)))
    arms.push(...some.map(({ arm }) => arm))
  }
  return arms
}

const atOnce = 25

/** What is refused, in short. */
export async function refusal(client: Pick<Client, 'send'>, model: string, headers: Fields = {}) {
  const { status, json, headers: told } = await send(client, model, headers)
  assert.deepEqual([told['x-penstock-arm'], told['x-penstock-version']], [undefined, undefined])
  return { status, code: json.code as string, error: json.error as string }
}
