import * as z from 'zod'

const port = z.int().min(0).max(65_535)
const milliseconds = z
  .int()
  .min(1)
  .max(24 * 3_600_000)

export const edgeOptions = z.strictObject({
  host: z.string().default('127.0.0.1').describe('Address to listen on.'),
  port: port.default(8080).describe('Port to listen on; 0 takes a free one.'),
  maxBodyBytes: z.int().min(1).default(16_777_216).describe('Largest body of one request. Beyond it: 413.'),
  maxBufferedBytes: z
    .int()
    .min(1)
    .default(268_435_456)
    .describe('Most bytes of bodies held at once, over all requests. Beyond it: 503.'),
  maxHeaderBytes: z.int().min(1024).default(16_384).describe('Largest request head. Beyond it: 431.'),
  headTimeoutMs: milliseconds.default(10_000).describe('Time to send a request head. Beyond it: 408.'),
  requestTimeoutMs: milliseconds.default(30_000).describe('Time to send head and body. Beyond it: 408.'),
  idleTimeoutMs: milliseconds.default(75_000).describe('Time a connection may stay open without a request.'),
  deadlineMs: milliseconds.default(30_000).describe('Time from arrival to answer. Beyond it: 504.'),
  drain: z
    .strictObject({
      idleMs: z
        .int()
        .min(0)
        .default(1_000)
        .describe(
          'After SIGTERM, how long to go on accepting, and how long an idle connection may still send a request.',
        ),
      timeoutMs: milliseconds.default(30_000).describe('Most time from SIGTERM to the end of the process.'),
    })
    .prefault({})
    .describe('How to shut down without losing requests.'),
})

export type EdgeOptions = z.output<typeof edgeOptions>

export const adminOptions = z.strictObject({
  host: z.string().default('127.0.0.1').describe('Address of the listener for metrics and administration.'),
  port: port.default(9090).describe('Its port; 0 takes a free one.'),
})

export type AdminOptions = z.output<typeof adminOptions>
