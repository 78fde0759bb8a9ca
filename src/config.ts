/**
 * The configuration: every concept's options under its own name, in one schema. Types, defaults, the reference table and
 * the JSON Schema for editors all come from it.
 */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import * as z from 'zod'
import { authOptions } from './auth/options.ts'
import { batchingOptions, fairnessOptions } from './batching/options.ts'
import { isLoopback } from './core/address.ts'
import { readDocument, type Locate, type Mistake } from './core/document.ts'
import { adminOptions, edgeOptions, metricsOptions, type TlsOptions } from './edge/options.ts'
import { manifestSchema, storeOptions } from './models/options.ts'
import { pathOf, routeOptions, serviceOptions } from './routing/options.ts'
import { defaultPool, placementOptions, runtimeOptions } from './runtime/options.ts'
import { logOptions } from './telemetry/options.ts'

const modelOptions = z.strictObject({
  // Not a number too: YAML would make 1.1 of the version 1.10.
  version: z
    .string({ error: 'expected a version in quotes' })
    .optional()
    .describe('Serves requests that name no version. Without it the newest does.'),
  batching: batchingOptions.optional().describe('Instead of the common `batching`.'),
  ...placementOptions,
  ...serviceOptions,
})

const configSchema = z
  .strictObject({
    auth: authOptions,
    edge: edgeOptions.prefault({}).describe('The listener for clients.'),
    metrics: metricsOptions.prefault({}).describe('The listener for probes and scrapes.'),
    admin: adminOptions.prefault({}).describe('The listener for administration.'),
    store: storeOptions.prefault({}).describe('Where the models are.'),
    routes: z
      .array(routeOptions)
      .default([])
      .describe('Addresses of models besides `/v2/models/NAME`. The narrowest host that fits decides.'),
    models: z.record(z.string(), modelOptions).default({}).describe('Settings of single models, by name.'),
    batching: batchingOptions.prefault({}).describe('How requests share runs.'),
    fairness: fairnessOptions.prefault({}).describe('How callers share workers.'),
    runtime: runtimeOptions.prefault({}).describe('The workers.'),
    log: logOptions.prefault({}).describe('What is written to stderr.'),
  })
  .superRefine((config, context) => {
    const complain = (path: (string | number)[], message: string, input: unknown) => {
      context.addIssue({ code: 'custom', path, message, input })
    }
    const { edge, metrics, admin, routes, models, runtime } = config
    if (!isLoopback(edge.host) && edge.tls?.clientCa === undefined) {
      const message = '`auth: none` lets everybody in, so it serves on loopback only, or clients with a certificate'
      complain(['edge', 'host'], `${message}: set 127.0.0.1, or \`edge.tls.clientCa\``, edge.host)
    }
    if (!isLoopback(admin.host)) {
      const message = 'the admin listener asks nobody who they are, so it listens on loopback only: set 127.0.0.1'
      complain(['admin', 'host'], message, admin.host)
    }
    const ports = Object.entries({ edge, metrics, admin }).map(([name, { port }]) => ({ name, port }))
    for (const [i, { name, port }] of ports.entries()) {
      const taken = ports.slice(0, i).find((other) => other.port === port && port !== 0)
      if (taken) complain([name, 'port'], `${taken.name}.port is ${port} too: set another`, port)
    }
    if (runtime.pools[defaultPool])
      complain(['runtime', 'pools', defaultPool], 'this pool has `runtime.executors`: take another name', undefined)
    for (const [name, { pool }] of Object.entries(models)) {
      const pools = [defaultPool, ...Object.keys(runtime.pools)]
      if (!pools.includes(pool)) complain(['models', name, 'pool'], `expected one of ${pools.join(', ')}`, pool)
    }
    for (const [i, { name, match }] of routes.entries()) {
      const before = routes.slice(0, i)
      if (before.some((other) => other.name === name))
        complain(['routes', i, 'name'], `"${name}" is the name of two routes`, name)
      const twin = before.find((other) => other.match.host === match.host && pathOf(other) === pathOf(routes[i]!))
      if (twin)
        complain(
          ['routes', i, 'match'],
          `"${twin.name}" takes the same requests: give one of them another host or path`,
          match,
        )
    }
  })

export type Config = Readonly<z.output<typeof configSchema>>

/** A configuration, and where in its file each key is. */
export interface ConfigFile {
  readonly config: Config
  readonly locate: Locate
}

/** Reads a configuration file. Paths in it are taken from its own folder. */
export async function loadConfig(path: string): Promise<ConfigFile | { mistakes: Mistake[] }> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => error)
  if (typeof text !== 'string') {
    const why = text.code === 'ENOENT' ? 'no such file' : `cannot be read (${text.code})`
    return { mistakes: [{ file: path, message: why }] }
  }
  const read = readDocument(path, text, configSchema)
  if ('mistakes' in read) return read
  const { value, locate } = read
  const fromConfig = (file: string) => resolve(dirname(path), file)
  const store = { ...value.store, path: fromConfig(value.store.path) }
  const { tls } = value.edge
  const edge = tls ? { ...value.edge, tls: tlsFrom(tls, fromConfig) } : value.edge
  return { config: freeze({ ...value, store, edge }), locate }
}

function tlsFrom(tls: TlsOptions, fromConfig: (file: string) => string): TlsOptions {
  return {
    ...tls,
    certificates: tls.certificates.map(({ cert, key }) => ({ cert: fromConfig(cert), key: fromConfig(key) })),
    clientCa: tls.clientCa === undefined ? undefined : fromConfig(tls.clientCa),
  }
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const each of Object.values(value)) freeze(each)
  }
  return value
}

const secretName = /secret|password|token|credential|private/i

/** The configuration with the values of whatever sounds secret left out, for people to look at. */
export function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => {
      const isGroup = typeof each === 'object' && each !== null && !Array.isArray(each)
      return [key, secretName.test(key) && !isGroup ? '[redacted]' : redact(each)]
    }),
  )
}

/** JSON Schemas of what people write, for editors and for the reference. */
export function editorSchemas(): { readonly config: unknown; readonly manifest: unknown } {
  const asWritten = { io: 'input' } as const
  return { config: z.toJSONSchema(configSchema, asWritten), manifest: z.toJSONSchema(manifestSchema, asWritten) }
}
