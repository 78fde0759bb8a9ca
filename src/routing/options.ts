import * as z from 'zod'
import { isReserved } from '../core/reserved-words.ts'

const host = z.string().regex(/^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, {
  error: 'expected a host name in lower case without a port, such as api.example.com or *.example.com',
})

const path = z
  .string()
  // Clients resolve "." and ".." themselves, and would never ask for them.
  .regex(/^(\/(?!\.{1,2}(\/|$))[A-Za-z0-9._~-]+)+$/, {
    error: 'expected a path such as /fraud, without a slash at its end',
  })
  .refine((value) => value !== '/v2' && !value.startsWith('/v2/'), {
    error: "/v2 is the protocol's own: take another path",
  })
  .refine((value) => !value.split('/').some(isReserved), {
    error: 'infer, ready, config, stats and versions have a meaning in paths: take another word',
  })

export const routeOptions = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: 'expected a name of letters, digits, . _ -' })
    .describe('In metrics and records.'),
  match: z
    .strictObject({
      host: host
        .optional()
        .describe('Only requests to this host; `*.example.com` stands for all below. Without it any host.'),
      path: path
        .optional()
        .describe(
          'What stands for `/v2/models/NAME`: with `/fraud` inference is at `/fraud/infer`. Without it, that itself.',
        ),
    })
    .refine((match) => match.host !== undefined || match.path !== undefined, {
      error: 'expected a host, a path or both',
    })
    .describe('What a client addresses.'),
  model: z.string().describe('The model that answers.'),
})

export type RouteOptions = z.output<typeof routeOptions>

/** Where a model is to be found by a route. */
export function pathOf({ match, model }: RouteOptions): string {
  return match.path ?? `/v2/models/${model}`
}
