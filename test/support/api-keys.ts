/** API keys for tests, and the file with their hashes. */
import { hash } from 'node:crypto'
import { stringify } from 'yaml'
import { folderWith } from './gateway.ts'

export function keyOf(id: string): string {
  return `${id}.not-a-secret-because-it-is-a-test`
}

export interface Person {
  readonly id: string
  readonly tenant?: string
  readonly scopes?: readonly string[]
}

/** What `auth.apiKeys` is to say, so that each of these people has the key of its id. */
export async function keysFor(people: readonly Person[]): Promise<{ readonly file: string }> {
  const keys = people.map((person) => ({ ...person, sha256: hash('sha256', keyOf(person.id)) }))
  const folder = await folderWith({ 'keys.yaml': stringify({ keys }) })
  return { file: `${folder}/keys.yaml` }
}
