/** The proof of a token: its signature, by jose, which looks at the claims once more with its own eyes. */
import { errors, jwtVerify } from 'jose'
import type { Fault } from './faults.ts'
import type { Key } from './keys.ts'
import type { Terms } from './terms.ts'

/** What is wrong with a token; undefined if nothing is. */
export async function verify(
  token: string,
  { algorithm, key, terms }: { readonly algorithm: string; readonly key: Key; readonly terms: Terms },
  epochMs: number,
): Promise<Fault | undefined> {
  const { issuer, audiences, requiredClaims, skewS } = terms
  try {
    await jwtVerify(token, key.verifiers.get(algorithm)!, {
      algorithms: [algorithm],
      issuer,
      audience: audiences,
      clockTolerance: skewS,
      currentDate: new Date(epochMs),
      requiredClaims: ['exp', ...requiredClaims],
    })
    return undefined
  } catch (error) {
    // Whatever it is, it is no proof.
    return error instanceof errors.JWSSignatureVerificationFailed ? 'signature' : 'malformed'
  }
}
