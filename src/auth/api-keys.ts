/**
 * API keys, for machines that have nothing better: a file names whose they are and holds their hashes. A key is
 * `ID.SECRET`, so that it is found by what may be known and compared by what may not.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import * as z from 'zod'
import type { Caller } from '../core/caller.ts'
import type { Clock } from '../core/clock.ts'
import { readDocument, type Mistake } from '../core/document.ts'
import type { Headers } from '../core/origin.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import { Watched, type Made } from '../core/watched.ts'

export const apiKeyOptions = z.strictObject({
  file: z
    .string()
    .min(1)
    .describe('YAML file with a list `keys`; `penstock key ID` makes an entry. Relative to the configuration.'),
  header: z
    .string()
    .regex(/^[a-z][a-z0-9-]*$/, { error: 'expected the name of a header field in lower case' })
    .default('x-api-key')
    .describe('The field that carries the key.'),
  reloadMs: z.int().min(100).max(3_600_000).default(10_000).describe('How often the file is looked at.'),
})

export type ApiKeyOptions = z.output<typeof apiKeyOptions>

const idText = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, { error: 'expected letters, digits, _ and -' })

const keySchema = z.strictObject({
  id: idText.describe('Names the caller, `key:ID` in full, and is the part of the key before the dot.'),
  // A refinement, because what was found may be the key itself, and is not to be shown.
  sha256: z
    .string()
    .refine((text) => /^[0-9a-f]{64}$/.test(text), {
      error: 'expected the SHA-256 of the key, as 64 hexadecimal digits in lower case: `penstock key ID` makes both',
    })
    .describe('Hash of the key, which is itself kept nowhere.'),
  tenant: z.string().max(256).default('').describe('On whose behalf it calls.'),
  scopes: z.array(z.string().min(1).max(256)).max(100).default([]).describe('What for, as rules name it.'),
  profile: z.string().max(64).optional().describe('How much of an answer it may see. Nothing goes by it yet.'),
  expires: z.iso
    .datetime({ error: 'expected a time such as 2027-01-31T00:00:00Z' })
    .optional()
    .describe('Until when it is good, such as `2027-01-31T00:00:00Z`. Without it for as long as it is here.'),
})

export const keysSchema = z
  .strictObject({
    keys: z
      .array(keySchema)
      .max(100_000)
      .describe('The keys. To change one, add another with an id of its own, and take the old one away later.'),
  })
  .superRefine(({ keys }, context) => {
    const seen = new Set<string>()
    for (const [i, key] of keys.entries()) {
      const twin = (['id', 'sha256'] as const).find((name) => seen.has(key[name]))
      const message = `is that of another key too: give ${key.id} ${twin === 'id' ? 'an id' : 'a key'} of its own`
      if (twin) context.addIssue({ code: 'custom', path: ['keys', i, twin], message })
      seen.add(key.id).add(key.sha256)
    }
  })

interface Key {
  readonly sha256: Buffer
  /** Milliseconds since 1970. */
  readonly expiresAt: number
  readonly caller: Caller
  /** What was read, to tell whether it is still the same. */
  readonly text: string
}

export interface ApiKeyTools {
  readonly clock: Clock
  /** Told of a file that cannot be used; the keys before stay in use. */
  readonly onProblem: (problem: Mistake) => void
}

/** What anything is compared with that names no key: so that it takes as long. */
const noKey = Buffer.alloc(32)

type KeysById = ReadonlyMap<string, Key>

export class ApiKeys {
  readonly #options: ApiKeyOptions
  readonly #clock: Clock
  readonly #file: Watched<KeysById>

  private constructor(options: ApiKeyOptions, clock: Clock, file: Watched<KeysById>) {
    this.#options = options
    this.#clock = clock
    this.#file = file
  }

  /** Reads the file, or says what is wrong with it. */
  static async create(
    options: ApiKeyOptions,
    { clock, onProblem }: ApiKeyTools,
  ): Promise<ApiKeys | { readonly mistakes: Mistake[] }> {
    const { file, reloadMs: everyMs } = options
    const make = (bytes: Buffer, before: KeysById | undefined) => readKeys(file, bytes.toString(), before)
    const opened = await Watched.open({ file, everyMs, read: readFile, make, clock, onProblem })
    return 'mistakes' in opened ? opened : new ApiKeys(options, clock, opened)
  }

  /** The field that carries a key. */
  get header(): string {
    return this.#options.header
  }

  /** Whose key it is; undefined if none is shown. */
  identify(headers: Headers): Caller | Refusal | undefined {
    const shown = headers[this.#options.header]
    if (shown === undefined) return undefined
    const dot = typeof shown === 'string' ? shown.indexOf('.') : -1
    const key = dot < 0 ? undefined : this.#file.current.get((shown as string).slice(0, dot))
    const isSame = timingSafeEqual(hash('sha256', String(shown), 'buffer'), key?.sha256 ?? noKey)
    if (!key || !isSame) return refuse('unauthenticated', 'the API key is not known')
    if (key.expiresAt <= this.#clock.epoch()) return refuse('unauthenticated', 'the API key has expired')
    return key.caller
  }

  /** Undefined for an id that no key has. */
  callerOf(id: string): Caller | undefined {
    return this.#file.current.get(id)?.caller
  }

  close(): void {
    this.#file.close()
  }
}

/** Keys that are as they were stay the same objects, because much is remembered by caller. */
function readKeys(file: string, text: string, before: KeysById | undefined): Made<KeysById> {
  const read = readDocument(file, text, keysSchema)
  if ('mistakes' in read) return read
  const keys = read.value.keys.map((entry): [string, Key] => {
    const same = JSON.stringify(entry)
    const known = before?.get(entry.id)
    return [entry.id, known?.text === same ? known : keyOf(entry, same)]
  })
  return { value: new Map(keys) }
}

function keyOf({ id, sha256, tenant, scopes, profile, expires }: z.output<typeof keySchema>, text: string): Key {
  const caller = {
    name: `key:${id}`,
    method: 'api-key',
    tenant,
    subject: id,
    scopes,
    claims: {},
    spiffe: undefined,
    profile,
  } as const
  const expiresAt = expires === undefined ? Infinity : Date.parse(expires)
  return { sha256: Buffer.from(sha256, 'hex'), expiresAt, caller, text }
}
