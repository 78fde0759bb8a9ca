/**
 * The shape of an HTTPRoute that splits a model's traffic (Gateway API v1). What the API knows and Penstock does not
 * carry out is in the schema too: with its own message, because a controller wrote it and somebody relies on it.
 */
import * as z from 'zod'

/** A field that would change who gets what. Empty, it asks for nothing. */
function unsupported(why: string) {
  return z
    .unknown()
    .refine(asksForNothing, { error: `is not carried out: ${why}` })
    .optional()
}

function asksForNothing(value: unknown): boolean {
  if (value === undefined || value === null) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

/** Says where something is and not who gets it; whoever serves the route reads it. */
const address = z.unknown().optional()

const onlyRoot = 'expected the prefix / (paths are routed by Penstock’s own routes)'
const path = z.strictObject({
  type: z.literal('PathPrefix', { error: onlyRoot }).default('PathPrefix'),
  value: z.literal('/', { error: onlyRoot }).default('/'),
})

const header = z.strictObject({
  type: z.literal('Exact', { error: 'expected Exact (a header is compared as a whole)' }).default('Exact'),
  name: z
    .string()
    .max(256)
    .regex(/^[\w!#$%&'*+.^`|~-]+$/, { error: 'expected the name of a header' }),
  value: z.string().min(1).max(4_096),
})

const match = z.strictObject({
  path: path.optional(),
  headers: z.array(header).max(16).default([]),
  queryParams: unsupported('rules look at headers only'),
  method: unsupported('inference requests all have the same method'),
})

const backend = {
  group: address,
  kind: z.string().default('Service'),
  name: z.string().min(1).max(253),
  namespace: address,
  port: address,
}

/** Numbers such as 5.0 are whole: controllers written in Go write them so. */
const backendRef = z.strictObject({
  ...backend,
  weight: z.int().min(0).max(1_000_000).default(1),
  filters: unsupported('nothing is changed on the way to one backend; callers keep their version without a cookie'),
})

const fraction = z
  .strictObject({ numerator: z.int().min(0), denominator: z.int().min(1).default(100) })
  .refine(({ numerator, denominator }) => numerator <= denominator, { error: 'expected at most 1' })

const requestMirror = z
  .strictObject({
    backendRef: z.strictObject(backend),
    percent: z.int().min(0).max(100).optional(),
    fraction: fraction.optional(),
  })
  .refine((mirror) => mirror.percent === undefined || mirror.fraction === undefined, {
    error: 'expected either `percent` or `fraction`',
  })

/** The type is looked at first: of another filter there is nothing more to say. */
const filter = z
  .looseObject({
    type: z.literal('RequestMirror', { error: 'expected RequestMirror (no other filter is carried out)' }),
  })
  .pipe(z.strictObject({ type: z.literal('RequestMirror'), requestMirror }))

/** The bounds are those of the API. */
const rule = z.strictObject({
  name: address,
  matches: z.array(match).max(64).default([]),
  filters: z.array(filter).max(16).default([]),
  backendRefs: z
    .array(backendRef)
    .max(16)
    .refine((list) => list.length > 0, { error: 'expected at least one backend' }),
  timeouts: unsupported('deadlines are set in Penstock’s own configuration'),
  retry: unsupported('retries are set in Penstock’s own configuration'),
  sessionPersistence: unsupported('which callers keep their version is set in Penstock’s own configuration'),
})

export const httpRoute = z.strictObject({
  apiVersion: z.literal('gateway.networking.k8s.io/v1', { error: 'expected "gateway.networking.k8s.io/v1"' }),
  kind: z.literal('HTTPRoute'),
  metadata: z.looseObject({ name: z.string().min(1) }),
  spec: z.strictObject({
    parentRefs: address,
    hostnames: address,
    useDefaultGateways: address,
    rules: z
      .array(rule)
      .max(16)
      .refine((list) => list.length > 0, { error: 'expected at least one rule' }),
  }),
  status: address,
})

export type HttpRoute = z.output<typeof httpRoute>
export type Rule = z.output<typeof rule>
export type Mirror = z.output<typeof requestMirror>
