/** Gateways with limits, people with keys who call them, and what they are told about the limits. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { keyOf, keysFor } from './api-keys.ts'
import { startGateway, tensor, type TestGateway } from './gateway.ts'
import { identity } from './onnx.ts'

/** Two tenants with two people in the first. */
const people = [
  { id: 'alice', tenant: 'acme' },
  { id: 'bob', tenant: 'globex' },
  { id: 'carol', tenant: 'acme' },
]

export const echo = identity('INT64', ['n', 1])

/** What does nothing for as long as a test takes. */
const patient = { leastMs: 60_000, mostMs: 60_000, factor: 2 }

/** One over these models, with settings on top. Everybody with a key may use all of them, if `access` does not say otherwise. */
export async function limited(
  t: TestContext,
  store: Readonly<Record<string, Buffer>>,
  rules: readonly object[],
  { access, limits, ...settings }: Settings = {},
): Promise<TestGateway> {
  const all = [{ who: 'identified', operations: ['infer', 'metadata', 'stats'] }]
  const auth = { apiKeys: await keysFor(people), access: access ?? all }
  const runtime = { executors: 1, watchdog: patient }
  return startGateway(t, { store, settings: { auth, runtime, limits: { rules, ...limits }, ...settings } })
}

interface Settings {
  readonly access?: readonly object[]
  readonly limits?: object
  readonly [others: string]: unknown
}

/** Rows of one number each. */
export function rows(count: number, x: number = 7): string {
  const data = Array.from({ length: count }, () => x)
  return JSON.stringify({ inputs: [tensor('x', 'INT64', [count, 1], data)] })
}

export interface Told {
  readonly status: number
  readonly headers: Headers
  readonly json: any
}

/** Asks as somebody (nobody if it is empty) for a model, or at a path. */
export async function ask(
  { url }: Pick<TestGateway, 'url'>,
  who: string,
  model: string,
  { body = rows(1), headers = {} }: { readonly body?: string; readonly headers?: Record<string, string> } = {},
): Promise<Told> {
  const path = model.startsWith('/') ? model : `/v2/models/${model}`
  const key: Record<string, string> = who === '' ? {} : { 'x-api-key': keyOf(who) }
  const all = { 'content-type': 'application/json', ...key, ...headers }
  const response = await fetch(`${url}${path}/infer`, { method: 'POST', headers: all, body })
  return { status: response.status, headers: response.headers, json: await response.json() }
}

/** Asks so many times, or with so many rows each time, one after another, and says how each ended. */
export async function statuses(
  gateway: Pick<TestGateway, 'url'>,
  who: string,
  model: string,
  times: number | readonly number[],
): Promise<number[]> {
  const all: number[] = []
  for (const count of typeof times === 'number' ? Array.from({ length: times }, () => 1) : times)
    all.push((await ask(gateway, who, model, { body: rows(count) })).status)
  return all
}

export type Parameters = Readonly<Record<string, number | string>>

/** A list of strings with parameters (RFC 9651 section 3.1), by string; fails for anything else. */
export function policiesIn(field: string | null | undefined): Map<string, Parameters> {
  const items = (field ?? '').split(/[ \t]*,[ \t]*/).map((item): [string, Parameters] => {
    const [, name, rest] =
      /^"([ !#-[\]-~]*)"((?:;[a-z*][a-z0-9_.*-]*=(?:-?\d{1,15}|"[ !#-[\]-~]*"))*)$/.exec(item) ?? []
    assert.ok(name !== undefined && rest !== undefined, `no structured field: ${field}`)
    const parameters = [...rest.matchAll(/;([^=;]+)=("?)([^";]*)"?/g)].map(([, key, quote, value]) => {
      return [key, quote ? value : Number(value)] as const
    })
    return [name, Object.fromEntries(parameters) as Parameters]
  })
  assert.equal(new Map(items).size, items.length, 'no name stands twice')
  return new Map(items)
}

/** The two fields as they must be on whatever a limit holds for: which limit is the tightest, and how it stands. */
export function standing(headers: Headers | ReadonlyMap<string, string>): { name: string; standing: Parameters } {
  const policies = policiesIn(headers.get('ratelimit-policy'))
  const [[name, told], ...more] = [...policiesIn(headers.get('ratelimit'))] as [[string, Parameters]]
  assert.deepEqual(more, [], 'one limit is told of')
  const policy = policies.get(name)
  assert.ok(policy, `${name} is among the policies`)
  assert.ok(Number(told['r']) >= 0 && Number.isInteger(told['r']), 'what is left')
  assert.ok(Number(policy['q']) >= 1)
  return { name, standing: told }
}

/** What whoever is refused is told. */
export function assertLimited({ status, headers, json }: Told, name: string): Parameters {
  assert.deepEqual([status, json.code], [429, 'rate_limited'], JSON.stringify(json))
  assert.match(json.error, new RegExp(`the limit "${name}" `))
  const told = standing(headers)
  assert.equal(told.name, name)
  return told.standing
}
