/** The signature algorithms of tokens (RFC 7518 section 3.1, RFC 8037, RFC 9864), and which key can be used with which. */
export const asymmetric = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const
export const symmetric = ['HS256', 'HS384', 'HS512'] as const

export type Algorithm = (typeof asymmetric)[number]
export type SymmetricAlgorithm = (typeof symmetric)[number]

const curves: Partial<Record<Algorithm, string>> = {
  ES256: 'P-256',
  ES384: 'P-384',
  ES512: 'P-521',
  EdDSA: 'Ed25519',
  Ed25519: 'Ed25519',
}

/** Whether a public key of this type and curve (RFC 7517 section 4.1) is one for the algorithm. */
export function suits(algorithm: Algorithm, { kty, crv }: { readonly kty: unknown; readonly crv: unknown }): boolean {
  const curve = curves[algorithm]
  if (curve === undefined) return kty === 'RSA'
  return crv === curve && kty === (algorithm.startsWith('ES') ? 'EC' : 'OKP')
}

/** Length of what the hash of an HMAC gives, which its secret must not be shorter than (RFC 7518 section 3.2). */
export function hashBytes(algorithm: SymmetricAlgorithm): number {
  return Number(algorithm.slice(2)) / 8
}
