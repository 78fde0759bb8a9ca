/** An issuer of tokens for benches: its keys in a file, and tokens as large as those of an identity provider. */
import { exportJWK, generateKeyPair, SignJWT, type JWK } from 'jose'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const issuer = 'https://login.example.com'
const audience = 'penstock'
export const terms = { issuer, audience }

export interface BenchIssuer extends AsyncDisposable {
  readonly jwk: JWK
  /** What `auth.jwt.issuers` is to say of it. */
  readonly option: object
  mint(claims: Readonly<Record<string, unknown>>): Promise<string>
}

export async function makeIssuer(algorithm: string): Promise<BenchIssuer> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm)
  const jwk = { ...(await exportJWK(publicKey)), kid: 'bench', alg: algorithm }
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-'))
  const file = join(folder, 'keys.json')
  await writeFile(file, JSON.stringify({ keys: [jwk] }))
  return {
    jwk,
    option: { kind: 'jwks', issuer, audiences: [audience], file },
    mint: (claims) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: algorithm, kid: 'bench', typ: 'JWT' })
        .setIssuer(issuer)
        .setAudience(audience)
        .setSubject('8f14e45f-ceea-467f-a0e6-d3b2a9c1e0aa')
        .setIssuedAt()
        .setExpirationTime('8h')
        .sign(privateKey),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  }
}
