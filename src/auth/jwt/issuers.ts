/** Every kind of issuer there is. To add one: write its file, add its name here. */
import { kinds } from '../../core/kinds.ts'
import { development } from './development-issuer.ts'
import { jwks } from './jwks-issuer.ts'
import { secret } from './secret-issuer.ts'

export const issuers = kinds(jwks, secret, development)
