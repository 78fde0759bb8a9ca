import * as z from 'zod'

export const redisOptions = z
  .strictObject({
    url: z
      .string()
      .regex(/^(rediss?:\/\/[^\s@/?#]+(\/\d+)?|\/[^\s?#]+)$/, {
        error:
          'expected redis://HOST:PORT or rediss://HOST:PORT, with /NUMBER for another database, or the path of a socket; name and password belong into files',
      })
      .describe('Where it is: `redis://HOST:PORT`, with TLS `rediss://HOST:PORT`, or the path of a Unix socket.'),
    usernameFile: z.string().min(1).optional().describe('File with the name to log in with. Read at each connection.'),
    passwordFile: z.string().min(1).optional().describe('File with the password. Read at each connection.'),
    ca: z
      .string()
      .min(1)
      .optional()
      .describe('PEM file with the authorities to trust, with `rediss`. Without it those of Node.'),
    prefix: z
      .string()
      .regex(/^[A-Za-z0-9:._-]{0,64}$/, { error: 'expected letters, digits, : . _ -' })
      .default('penstock:')
      .describe('What all keys begin with. Gateways with the same prefix share their limits.'),
    budgetMs: z
      .int()
      .min(1)
      .max(10_000)
      .default(20)
      .describe('Longest time that anything waits for Redis. Beyond it, what is to hold without it holds.'),
  })
  .refine(({ url, ca }) => ca === undefined || url.startsWith('rediss:'), {
    path: ['ca'],
    error: 'is for TLS: set a `url` that begins with rediss://, or leave it out',
  })

export type RedisOptions = z.output<typeof redisOptions>
