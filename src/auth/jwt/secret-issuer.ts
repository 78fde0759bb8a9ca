/**
 * An issuer that shares a secret with us (HMAC). It is the weak way: whoever can check its tokens can make them too. The
 * secret is the bytes of a file, without a line break at its end.
 */
import * as z from 'zod'
import { kind } from '../../core/kinds.ts'
import { hashBytes, symmetric, type SymmetricAlgorithm } from './algorithms.ts'
import { FileKeys } from './file-keys.ts'
import { SingleKey, type OpenIssuer } from './issuer.ts'
import { termsShape } from './terms.ts'

const options = {
  ...termsShape,
  secretFile: z
    .string()
    .min(1)
    .describe(
      'File with the secret, relative to the configuration; looked at every 10 s. At least as long as the hash.',
    ),
  algorithms: z
    .array(z.enum(symmetric))
    .min(1)
    .default(['HS256'])
    .describe('Algorithms of signatures that are accepted.'),
}

export const secret = kind('secret', options, ({ secretFile, ...terms }): OpenIssuer => {
  return async (tools) => {
    const keys = await FileKeys.open(secretFile, (bytes) => readSecret(bytes, terms.algorithms), tools)
    return 'message' in keys ? keys : { terms, keys }
  }
})

async function readSecret(bytes: Buffer, algorithms: readonly SymmetricAlgorithm[]): Promise<SingleKey | string> {
  const text = withoutLineBreak(bytes)
  const least = Math.max(...algorithms.map(hashBytes))
  if (text.length < least) return `holds a secret of ${text.length} bytes, and needs ${least} at least`
  const verifiers = new Map<string, CryptoKey>()
  for (const algorithm of algorithms) {
    const hmac = { name: 'HMAC', hash: `SHA-${algorithm.slice(2)}` }
    verifiers.set(algorithm, await crypto.subtle.importKey('raw', text, hmac, false, ['verify']))
  }
  return new SingleKey({ verifiers })
}

function withoutLineBreak(bytes: Buffer): Uint8Array<ArrayBuffer> {
  const breaks = /\r?\n?$/.exec(bytes.toString('latin1'))![0].length
  return new Uint8Array(bytes.subarray(0, bytes.length - breaks))
}
