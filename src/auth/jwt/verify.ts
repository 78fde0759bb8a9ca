/**
 * The proof of a token: its signature, by jose. Its claims have been looked at by then (`accept`), with the same outcome as
 * jose's own look at them would have, or a stricter one; a test holds the two against each other.
 */
import { compactVerify, errors } from 'jose'
import type { Fault } from './faults.ts'
import type { Key } from './keys.ts'

/** What is wrong with a token; undefined if nothing is. */
export function verify(token: string, key: Key, algorithm: string): Promise<Fault | undefined> {
  return compactVerify(token, key.verifiers.get(algorithm)!, { algorithms: [algorithm] }).then(nothing, faultOf)
}

function nothing(): undefined {
  return undefined
}

/** Whatever it is, it is no proof. */
function faultOf(error: unknown): Fault {
  return error instanceof errors.JWSSignatureVerificationFailed ? 'signature' : 'malformed'
}
