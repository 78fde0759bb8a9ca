import { createSecureContext } from 'node:tls'
import * as z from 'zod'
import { http1Option } from './http1/options.ts'

const port = z.int().min(0).max(65_535)
const milliseconds = z
  .int()
  .min(1)
  .max(24 * 3_600_000)
const count = z.int().min(1)
const addresses = z.array(
  z.union([z.cidrv4(), z.cidrv6(), z.ipv4(), z.ipv6()], {
    error: 'expected an address or a network such as 10.0.0.0/8',
  }),
)

const connectionOptions = z.strictObject({
  max: count.default(16_384).describe('Most connections at once. Beyond it a new one is refused with 503 and closed.'),
  maxPerAddress: count.default(1_024).describe('Most connections at once from one address. Beyond it likewise.'),
  shared: addresses
    .default([])
    .describe(
      'Proxies and balancers, behind which many clients share an address: `maxPerAddress` does not hold for them.',
    ),
  maxRequests: count
    .default(100_000)
    .describe(
      'Requests on one connection. The last one is answered with `connection: close`, or with GOAWAY in HTTP/2.',
    ),
  maxPipelined: z
    .int()
    .min(0)
    .default(16)
    .describe(
      'With `http1: node`, requests that wait on a connection because they were sent ahead of the answers before them; beyond it the connection ends when those are answered. `lean` parses nothing ahead, and stops reading instead.',
    ),
  maxTurnMs: milliseconds
    .default(10)
    .describe(
      'Time that the requests of one turn of the event loop may take. Beyond it some connections are not read from for a while.',
    ),
  idleMs: milliseconds.default(75_000).describe('Time a connection may stay open without a request.'),
  stallMs: milliseconds
    .default(30_000)
    .describe('Time a client may take none of its answer. Beyond it the connection is cut.'),
})

const headOptions = z.strictObject({
  maxBytes: z
    .int()
    .min(1_024)
    .default(16_384)
    .describe('Largest request head, line ends included; trailers as well, for themselves. Beyond it: 431.'),
  maxFields: z
    .int()
    .min(8)
    .max(1_000)
    .default(100)
    .describe('Most fields in a request head, and in trailers. Beyond it: 431.'),
  timeoutMs: milliseconds.default(10_000).describe('Time to send a request head. Beyond it: 408.'),
})

const bodyOptions = z.strictObject({
  maxBytes: count.default(16_777_216).describe('Largest body of one request, as it is sent. Beyond it: 413.'),
  maxInflatedBytes: count.default(67_108_864).describe('Largest body once it is decompressed. Beyond it: 413.'),
  maxInflation: z
    .number()
    .min(1)
    .default(20)
    .describe('Most bytes for each compressed one, once there are more than a mebibyte. Beyond it: 413.'),
  maxHeldBytes: count
    .default(268_435_456)
    .describe('Most memory for bodies and tensors that are read, wait or run, over all requests. Beyond it: 503.'),
  maxUnreadBytes: z
    .int()
    .min(0)
    .default(65_536)
    .describe(
      'What is read of a body that was refused, so that the connection can go on. Beyond it the connection closes.',
    ),
  timeoutMs: milliseconds.default(30_000).describe('Time to send a body. Beyond it: 408.'),
})

const jsonOptions = z.strictObject({
  maxDepth: z.int().min(4).max(1_000).default(32).describe('Deepest nesting, tensor data aside. Beyond it: 400.'),
  maxValues: z.int().min(16).default(10_000).describe('Most keys and values, tensor data aside. Beyond it: 400.'),
  nonFinite: z
    .enum(['refuse', 'literal'])
    .default('refuse')
    .describe(
      'NaN and Infinity, which JSON does not have. `refuse` takes none and answers 500 where an output holds one; `literal` takes and writes the bare words, as Python and Triton do. Binary tensors carry them anyway.',
    ),
})

const tensorOptions = z.strictObject({
  maxRows: count.default(1_024).describe('Most rows in one request. Beyond it: 413.'),
  maxElements: count
    .max(2 ** 31 - 1)
    .default(4_194_304)
    .describe('Most elements in one input. Beyond it: 413.'),
  maxStrings: count
    .max(2 ** 24)
    .default(262_144)
    .describe('Most elements in one input of BYTES. Beyond it: 413.'),
  maxRank: z.int().min(1).max(8).default(8).describe('Most dimensions of one input. Beyond it: 413.'),
})

const http2Options = z.strictObject({
  cleartext: z
    .boolean()
    .default(false)
    .describe(
      'Whether clients may begin with HTTP/2 without TLS (h2c, by prior knowledge). With TLS they choose by ALPN.',
    ),
  maxStreams: count.max(10_000).default(128).describe('Most requests at once on one connection.'),
  maxResets: count
    .default(128)
    .describe('Requests that a client may cancel in a burst. Beyond it the connection ends.'),
  resetsPerSecond: count.default(50).describe('How many of those come free again each second.'),
  maxSessionBytes: count
    .min(1_000_000)
    .default(64_000_000)
    .describe(
      'Memory for frames and for answers that are not taken yet, on one connection. Beyond it new requests on it are reset.',
    ),
  maxBadFrames: count.default(100).describe('Frames without sense on one connection. Beyond it the connection ends.'),
  maxControlFrames: count
    .default(1_000)
    .describe('PING and SETTINGS frames in ten seconds on one connection. Beyond it the connection ends.'),
  maxStrayBytes: count
    .default(1_048_576)
    .describe('Bytes in ten seconds on one connection that belong to no request. Beyond it the connection ends.'),
})

const path = z.string().min(1)

function areCiphers(ciphers: string): boolean {
  try {
    createSecureContext({ ciphers })
    return ciphers !== ''
  } catch {
    return false
  }
}

const tlsFields = z.strictObject({
  certificates: z
    .array(
      z.strictObject({
        cert: path.describe(
          'PEM file: the certificate, and those up to the root behind it. Relative to the configuration.',
        ),
        key: path.describe('PEM file of its private key.'),
      }),
    )
    .min(1)
    .describe('One is chosen by the name that the client asks for; the first one serves all other names.'),
  clientCa: path
    .optional()
    .describe(
      'PEM file of authorities, each with its root. With it only clients get in that show a certificate of one of them.',
    ),
  clientAuth: z
    .enum(['required', 'optional'])
    .default('required')
    .describe(
      'Whether clients must show a certificate of `clientCa`. With `optional` they may come without, but not with one that is not good.',
    ),
  crl: path
    .optional()
    .describe(
      'PEM file of revocation lists: one, whole and with a next update, of every authority in a chain, its root included. A chain that lacks one, or whose list has expired, is refused. Open connections are looked at again after a change.',
    ),
  minVersion: z.enum(['1.2', '1.3']).default('1.2').describe('Oldest version of TLS.'),
  ciphers: z
    .string()
    .default(
      'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305',
    )
    .refine(areCiphers, { error: 'none of these is a cipher that OpenSSL knows' })
    .describe("In OpenSSL's notation. The default has forward secrecy and authenticated encryption only."),
  maxHandshakes: count.default(64).describe('Most handshakes at once; others wait for their turn.'),
  handshakeMs: milliseconds
    .default(10_000)
    .describe('Time for a handshake, waiting included. Beyond it the connection is cut.'),
  reloadMs: milliseconds
    .default(10_000)
    .describe('How often the files are looked at. New ones are used for new connections; broken ones change nothing.'),
  ticketMs: milliseconds
    .default(12 * 3_600_000)
    .describe('How long session tickets are good for. A change of `clientCa` or `crl` ends them at once.'),
})

const tlsOptions = tlsFields.superRefine(({ clientCa, clientAuth, crl }, context) => {
  if (clientCa !== undefined) return
  const message = 'is about certificates of clients: set `clientCa` too'
  if (crl !== undefined) context.addIssue({ code: 'custom', path: ['crl'], message, input: crl })
  if (clientAuth === 'optional') context.addIssue({ code: 'custom', path: ['clientAuth'], message, input: clientAuth })
})

export type TlsOptions = z.output<typeof tlsOptions>

const corsOptions = z.strictObject({
  origins: z
    .array(z.union([z.literal('*'), z.url()]))
    .min(1)
    .describe('Whose pages may call from a browser, such as https://app.example.com; `*` for all.'),
  maxAgeS: z.int().min(0).max(86_400).default(600).describe('How long a browser may remember that it may.'),
})

export type CorsOptions = z.output<typeof corsOptions>

export const edgeOptions = z.strictObject({
  host: z.string().default('127.0.0.1').describe('Address to listen on.'),
  port: port.default(8080).describe('Port to listen on; 0 takes a free one.'),
  tls: tlsOptions.optional().describe('Serves HTTPS. Without it HTTP is served.'),
  proxyProtocol: addresses
    .default([])
    .describe(
      'Balancers that put a PROXY header (version 1 or 2) in front of each connection. From others none is taken.',
    ),
  deadlineMs: milliseconds.default(30_000).describe('Time from arrival to answer. Beyond it: 504.'),
  connections: connectionOptions.prefault({}).describe('Connections.'),
  head: headOptions.prefault({}).describe('Request heads.'),
  body: bodyOptions.prefault({}).describe('Request bodies.'),
  json: jsonOptions.prefault({}).describe('JSON in bodies and answers.'),
  tensors: tensorOptions.prefault({}).describe('Tensors in bodies.'),
  compressBytes: z
    .int()
    .min(0)
    .default(4_096)
    .describe(
      'Answers to inference from this size on are compressed for clients that accept gzip or zstd; 0 leaves all as they are.',
    ),
  http1: http1Option,
  http2: http2Options.prefault({}).describe('HTTP/2.'),
  cors: corsOptions.optional().describe('Lets pages of other origins call from a browser. Without it none may.'),
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

export const metricsOptions = z.strictObject({
  host: z.string().default('127.0.0.1').describe('Address of the listener for probes and scrapes.'),
  port: port.default(9090).describe('Its port; 0 takes a free one.'),
})

const host = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, { error: 'expected a host name in lower case without a port' })

export const adminOptions = z.strictObject({
  host: z
    .string()
    .default('127.0.0.1')
    .describe(
      'Address of the listener for administration. On loopback whoever is on this machine may ask; elsewhere callers need `admin.read` or `admin.write` by `auth.access`.',
    ),
  port: port.default(9091).describe('Its port; 0 takes a free one.'),
  names: z
    .array(host)
    .default([])
    .describe('Further names it is called by. Requests with another `host` or `origin` are not answered.'),
  auditFile: path
    .default('audit.jsonl')
    .describe(
      'Where every change is written down, one JSON object a line, before it is made: who, when, what, before, after. Where it cannot be written nothing is changed. Relative to the configuration.',
    ),
})

export type AdminOptions = z.output<typeof adminOptions>
