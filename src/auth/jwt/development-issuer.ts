/** An issuer for trying things: its key is made at the start, is in memory only, and is gone with the process. */
import { randomUUID } from 'node:crypto'
import { generateKeyPair, SignJWT } from 'jose'
import * as z from 'zod'
import { kind } from '../../core/kinds.ts'
import { SingleKey, type Issuer, type IssuerTools, type Minting, type OpenIssuer } from './issuer.ts'
import { ownTerms } from './terms.ts'

const algorithm = 'ES256'
export const developmentIssuer = 'penstock-development'
const audience = 'penstock'

const options = {
  lifetimeS: z
    .int()
    .min(1)
    .max(86_400)
    .default(3_600)
    .describe('How long its tokens are valid, unless they are asked for with another time.'),
}

export const development = kind('development', options, ({ lifetimeS }): OpenIssuer => {
  return (tools) => createDevelopmentIssuer(lifetimeS, tools)
})

/** Makes the key. `mint` makes tokens that only this process accepts. */
export async function createDevelopmentIssuer(
  lifetimeS: number,
  { clock }: Pick<IssuerTools, 'clock'>,
): Promise<Issuer & Required<Pick<Issuer, 'mint'>>> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm)
  const current = new SingleKey({ verifiers: new Map([[algorithm, publicKey]]) })
  return {
    terms: ownTerms(developmentIssuer, audience, algorithm),
    keys: { current, search: () => undefined, ageS: 0, failures: 0, close: () => undefined },
    mint: (minting) => {
      const now = Math.floor(clock.epoch() / 1_000)
      return new SignJWT({ ...claimsOf(minting), jti: randomUUID() })
        .setProtectedHeader({ alg: algorithm, typ: 'JWT' })
        .setIssuer(developmentIssuer)
        .setAudience(audience)
        .setIssuedAt(now)
        .setExpirationTime(now + (minting.lifetimeS ?? lifetimeS))
        .sign(privateKey)
    },
  }
}

/** Under the names that claims have by default. */
function claimsOf({ subject, tenant, scopes, profile }: Minting): Record<string, string> {
  const claims = { sub: subject, tenant, scope: scopes?.join(' '), profile }
  return Object.fromEntries(Object.entries(claims).filter((entry): entry is [string, string] => entry[1] !== undefined))
}
