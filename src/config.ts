/**
 * The configuration: every concept's options under its own name, in one schema. Types, defaults, the reference table and
 * the JSON Schema for editors all come from it.
 */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import * as z from 'zod'
import { authOptions, keysSchema, withAuthFiles } from './auth/options.ts'
import { batchingOptions, fairnessOptions } from './batching/options.ts'
import { contradictions } from './contradictions.ts'
import { readDocument, type Locate, type Mistake } from './core/document.ts'
import { adminOptions, edgeOptions, metricsOptions, type TlsOptions } from './edge/options.ts'
import { signingOptions } from './experiments/feedback/options.ts'
import { experimentOptions } from './experiments/options.ts'
import { limitsOptions } from './limits/options.ts'
import { httpRouteOptions, meshOptions } from './mesh/options.ts'
import { manifestSchema, storeOptions } from './models/options.ts'
import { redisOptions, type RedisOptions } from './redis/options.ts'
import { routeOptions, serviceOptions } from './routing/options.ts'
import { splitOptions, unitOptions } from './routing/split-options.ts'
import { placementOptions, runtimeOptions } from './runtime/options.ts'
import { stateOptions } from './state/options.ts'
import { logOptions } from './telemetry/options.ts'

/** As the store has them. */
const versionName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: 'expected letters, digits, . _ -' })

const modelOptions = z.strictObject({
  // Not a number too: YAML would make 1.1 of the version 1.10.
  version: z
    .string({ error: 'expected a version in quotes' })
    .optional()
    .describe('Serves requests that name no version, if there is no `split`. Without it the newest does.'),
  aliases: z
    .record(versionName, z.string({ error: 'expected a version in quotes' }))
    .default({})
    .describe('Other names of versions, which clients and splits may use, such as `stable`.'),
  split: splitOptions.optional().describe('How requests that name no version are divided between versions.'),
  httpRoute: z
    .strictObject({ ...httpRouteOptions.shape, unit: unitOptions })
    .optional()
    .describe('Instead of `split`: a file with the HTTPRoute that gives it, which Argo Rollouts or Flagger may edit.'),
  experiment: experimentOptions
    .optional()
    .describe('What is found out about an arm of the split, and what follows from it.'),
  batching: batchingOptions.optional().describe('Instead of the common `batching`.'),
  ...placementOptions,
  ...serviceOptions,
})

const settings = z.strictObject({
  auth: authOptions,
  edge: edgeOptions.prefault({}).describe('The listener for clients.'),
  mesh: meshOptions.prefault({}).describe('Who stands in front of the gateway.'),
  metrics: metricsOptions.prefault({}).describe('The listener for probes and scrapes.'),
  admin: adminOptions.prefault({}).describe('The listener for administration.'),
  store: storeOptions.prefault({}).describe('Where the models are.'),
  routes: z
    .array(routeOptions)
    .default([])
    .describe('Addresses of models besides `/v2/models/NAME`. The narrowest host that fits decides.'),
  models: z.record(z.string(), modelOptions).default({}).describe('Settings of single models, by name.'),
  limits: limitsOptions.prefault({}).describe('How much callers may ask for.'),
  feedback: signingOptions.prefault({}).describe('What predictions are called, for feedback about them.'),
  state: stateOptions.prefault({}).describe('What is remembered over a restart: edits by hand, experiments.'),
  redis: redisOptions.optional().describe('What gateways have in common.'),
  batching: batchingOptions.prefault({}).describe('How requests share runs.'),
  fairness: fairnessOptions.prefault({}).describe('How callers share workers.'),
  runtime: runtimeOptions.prefault({}).describe('The workers.'),
  log: logOptions.prefault({}).describe('What is written to stderr.'),
})

/** What a configuration says, whether or not its parts go together. */
export type Settings = Readonly<z.output<typeof settings>>

const configSchema = settings.superRefine((config, context) => {
  contradictions(config, (path, message, input) => context.addIssue({ code: 'custom', path, message, input }))
})

export type Config = Settings

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
  return { config: freeze(withPaths(value, (named) => resolve(dirname(path), named))), locate }
}

/** The settings with every file in them as `fromConfig` finds it. */
function withPaths(value: Settings, fromConfig: FromConfig): Settings {
  const { store, edge, admin, auth, redis, state, feedback, models } = value
  return {
    ...value,
    store: { ...store, path: fromConfig(store.path) },
    edge: edge.tls ? { ...edge, tls: tlsFrom(edge.tls, fromConfig) } : edge,
    admin: { ...admin, auditFile: fromConfig(admin.auditFile) },
    auth: withAuthFiles(auth, fromConfig),
    redis: redis && redisFrom(redis, fromConfig),
    state: { ...state, path: fromConfig(state.path) },
    feedback: { ...feedback, keyFiles: feedback.keyFiles.map(fromConfig) },
    models: Object.fromEntries(
      Object.entries(models).map(([name, { httpRoute, ...model }]) => {
        return [name, { ...model, ...(httpRoute && { httpRoute: { ...httpRoute, file: fromConfig(httpRoute.file) } }) }]
      }),
    ),
  }
}

type FromConfig = (file: string) => string

function tlsFrom(tls: TlsOptions, fromConfig: FromConfig): TlsOptions {
  return {
    ...tls,
    certificates: tls.certificates.map(({ cert, key }) => ({ cert: fromConfig(cert), key: fromConfig(key) })),
    clientCa: tls.clientCa && fromConfig(tls.clientCa),
    crl: tls.crl && fromConfig(tls.crl),
  }
}

function redisFrom(redis: RedisOptions, fromConfig: FromConfig): RedisOptions {
  const { usernameFile, passwordFile, ca } = redis
  const files = { usernameFile, passwordFile, ca }
  return {
    ...redis,
    ...Object.fromEntries(Object.entries(files).map(([key, file]) => [key, file && fromConfig(file)])),
  }
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const each of Object.values(value)) freeze(each)
  }
  return value
}

/** With one kind of hash, a split's salt is what keeps clients from choosing their arm. */
const secretName = /secret|password|token|credential|private|^salt$/i

/** The configuration with the values of whatever sounds secret left out, for people to look at. */
export function redact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redact)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => {
      return [
        key,
        secretName.test(key) && (typeof each === 'string' || Array.isArray(each)) ? '[redacted]' : redact(each),
      ]
    }),
  )
}

/** JSON Schemas of what people write, for editors and for the reference. */
export function editorSchemas(): Readonly<Record<'config' | 'manifest' | 'keys', unknown>> {
  const asWritten = { io: 'input' } as const
  const [config, manifest, keys] = [configSchema, manifestSchema, keysSchema].map((each) =>
    z.toJSONSchema(each, asWritten),
  )
  return { config, manifest, keys }
}
