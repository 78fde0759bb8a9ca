/** An issuer whose public keys are a JWK set, at an address or in a file: what an identity provider offers. */
import * as z from 'zod'
import { readFile } from 'node:fs/promises'
import type { Mistake } from '../../core/document.ts'
import { kind } from '../../core/kinds.ts'
import { asymmetric, type Algorithm } from './algorithms.ts'
import { FileKeys } from './file-keys.ts'
import type { IssuerTools, OpenIssuer } from './issuer.ts'
import { KeySet, type KeySource } from './keys.ts'
import { RemoteKeys } from './remote-keys.ts'
import { termsShape } from './terms.ts'

const seconds = z
  .int()
  .min(1)
  .max(7 * 86_400)

const options = {
  ...termsShape,
  url: z.url().optional().describe('Where the JWK set is: `https`, or `http` on this machine. Or give `file`.'),
  file: z
    .string()
    .min(1)
    .optional()
    .describe('File with the JWK set, relative to the configuration; looked at every 10 s. Or give `url`.'),
  ca: z
    .string()
    .min(1)
    .optional()
    .describe(
      'PEM file of the authorities to trust at `url`, relative to the configuration. Without it the usual ones.',
    ),
  refreshS: seconds.default(300).describe('How often the keys are fetched, and a little sooner.'),
  staleS: seconds
    .default(3_600)
    .describe('How long keys are used after they were last fetched. Beyond it: 503 until they can be fetched again.'),
  algorithms: z
    .array(z.enum(asymmetric))
    .min(1)
    .default([...asymmetric])
    .describe('Algorithms of signatures that are accepted.'),
}

type JwksOptions = z.output<z.ZodObject<typeof options>>

export const jwks = kind('jwks', options, ({ url, file, ca, refreshS, staleS, ...terms }): OpenIssuer => {
  return async (tools) => {
    const keys = await openKeys({ url, file, ca, refreshS, staleS, algorithms: terms.algorithms }, tools)
    return 'message' in keys ? keys : { terms, keys }
  }
})

type Source = Pick<JwksOptions, 'url' | 'file' | 'ca' | 'refreshS' | 'staleS' | 'algorithms'>

async function openKeys(source: Source, tools: IssuerTools): Promise<KeySource | Mistake> {
  const { url, file, ca, algorithms } = source
  if (file !== undefined) return FileKeys.open(file, readSet(algorithms), tools)
  if (url === undefined) throw new TypeError('neither an address nor a file, which the options do not allow')
  const problem = ca === undefined ? undefined : await problemOf(ca)
  return problem ?? new RemoteKeys({ ...source, url, ca }, tools)
}

function readSet(algorithms: readonly Algorithm[]) {
  return (bytes: Buffer, before: KeySet | undefined) => KeySet.read(bytes.toString(), algorithms, before)
}

async function problemOf(file: string): Promise<Mistake | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) return { file, message: 'no such file, or it cannot be read' }
  if (text.includes('-----BEGIN CERTIFICATE-----')) return undefined
  return { file, message: 'holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)' }
}
