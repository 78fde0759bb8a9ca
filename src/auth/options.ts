import * as z from 'zod'
import { ruleOptions } from './access-options.ts'
import { apiKeyOptions, keysSchema } from './api-keys.ts'
import { jwtOptions, withFiles } from './jwt/options.ts'
import { workloadOptions } from './workload.ts'

const methods = z.strictObject({
  jwt: jwtOptions.optional().describe('Takes tokens, as `authorization: Bearer TOKEN`.'),
  apiKeys: apiKeyOptions.optional().describe('Takes API keys.'),
  mtls: workloadOptions
    .optional()
    .describe('Takes client certificates of `edge.tls.clientCa` as an identity. `{}` is enough to do so.'),
  mesh: workloadOptions
    .optional()
    .describe('Takes the identity of the workload that a proxy of the mesh has verified, where `mesh.mode` allows.'),
  access: z
    .array(ruleOptions)
    .default([])
    .describe('What callers may do: the first rule that fits decides, and what none fits is denied.'),
  unseen: z
    .enum(['not_found', 'forbidden'])
    .default('not_found')
    .describe(
      'What a caller is told of a model with which it may do nothing: `not_found` says the same as for a model that does not exist.',
    ),
})

export { keysSchema }

export const authOptions = z
  .union([z.literal('none'), methods])
  .prefault({
    jwt: { issuers: [{ kind: 'development' }] },
    access: [{ who: { scopes: ['models'] }, operations: ['infer', 'metadata', 'stats'] }],
  })
  .describe(
    'Who may call, and what they may do. Without it there is an issuer for development, whose tokens `penstock token` mints. `none` lets everybody in, and therefore serves on loopback addresses only, or clients with a certificate.',
  )

export type AuthOptions = z.output<typeof authOptions>

/** The options with every file name as `fromConfig` makes it. */
export function withAuthFiles(auth: AuthOptions, fromConfig: (file: string) => string): AuthOptions {
  if (auth === 'none') return auth
  const { jwt, apiKeys } = auth
  return {
    ...auth,
    jwt: jwt && withFiles(jwt, fromConfig),
    apiKeys: apiKeys && { ...apiKeys, file: fromConfig(apiKeys.file) },
  }
}
