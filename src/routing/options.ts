import * as z from 'zod'
import { priorities } from '../core/priority.ts'
import { isReserved } from '../core/reserved-words.ts'
import { fallbackOptions } from './fallback.ts'

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

/** What a route promises to its clients. */
export const serviceOptions = {
  sla: z
    .strictObject({
      deadlineMs: z
        .number()
        .positive()
        .max(24 * 3_600_000)
        .optional()
        .describe('Time from arrival to answer. What cannot keep to it is refused, the sooner the better.'),
    })
    .prefault({})
    .describe('What is promised to clients.'),
  priority: z
    .enum(priorities)
    .default('standard')
    .describe('Whose requests go first when not all can be answered in time. A client may step back, not ahead.'),
  fallback: fallbackOptions
    .default({ kind: 'refuse' })
    .describe(
      'What answers when the deadline passes, or could not be kept, or no worker is alive: nothing, another version, or a constant. Requests that name a version get none.',
    ),
}

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
  ...serviceOptions,
})

export type RouteOptions = z.output<typeof routeOptions>

/** Of a model about which the configuration says nothing. */
export const serviceDefaults = z.strictObject(serviceOptions).parse({})

/** Where a model is to be found by a route. */
export function pathOf({ match, model }: RouteOptions): string {
  return match.path ?? `/v2/models/${model}`
}
