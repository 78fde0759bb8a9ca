/** `npm run docs`: writes what can be derived from the code, so that it is never out of date: the reference and the schema. */
import { readFile, writeFile } from 'node:fs/promises'
import { editorSchemas } from '../config.ts'
import { refusals } from '../core/refusal.ts'
import { adminPaths } from '../edge/admin.ts'
import { describedFields } from '../edge/negotiation.ts'
import { metricsPaths } from '../edge/metrics.ts'
import { describedPaths } from '../edge/routes.ts'
import { describeMetrics } from '../gateway.ts'
import { failWith } from './report.ts'

interface Schema {
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly default?: unknown
  readonly description?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | false
  readonly oneOf?: readonly Schema[]
  readonly anyOf?: readonly Schema[]
  readonly items?: Schema
}

export async function docs({ check }: { readonly check: boolean }): Promise<void> {
  const { config, manifest, keys } = editorSchemas()
  const files = {
    'config/penstock.schema.json': `${JSON.stringify(config, null, 2)}\n`,
    'config/manifest.schema.json': `${JSON.stringify(manifest, null, 2)}\n`,
    'config/keys.schema.json': `${JSON.stringify(keys, null, 2)}\n`,
    'config/REFERENCE.md': reference(config as Schema, manifest as Schema, keys as Schema),
  }
  for (const [file, text] of Object.entries(files)) {
    const there = await readFile(file, 'utf8').catch(() => '')
    if (there === text) continue
    if (check) failWith(`${file} is out of date: run \`npm run docs\` and commit what it writes`)
    await writeFile(file, text)
  }
}

function reference(config: Schema, manifest: Schema, keys: Schema): string {
  const refusalRows = Object.entries(refusals).map(([code, { status, grpc, retryable, title }]) => {
    return [`\`${code}\``, `${status}`, `${grpc}`, retryable ? 'yes' : 'no', title]
  })
  const metricRows = describeMetrics().map(({ name, help }) => [`\`${name}\``, help])
  return [
    '# Reference',
    'Written by `npm run docs` from the code; do not edit.',
    '## Configuration',
    'A YAML file. Unknown keys are mistakes. Editors that know JSON Schema find `penstock.schema.json` by the first line of `penstock.yaml`.',
    table(['key', 'default', 'takes', 'meaning'], optionRows('', config)),
    '## Manifest',
    'What may stand in the `manifest.yaml` of a version. A version without one is served too.',
    table(['key', 'default', 'takes', 'meaning'], optionRows('', manifest)),
    '## API keys',
    'What may stand in the file that `auth.apiKeys.file` names. While it cannot be read, the keys stay as they were, those that were taken away too.',
    table(['key', 'default', 'takes', 'meaning'], optionRows('', keys)),
    '## Refusals',
    'The body is `{"error": "...", "code": "...", "request_id": "..."}`; `request_id` is left out where no request was understood. What may be tried again says when in `retry-after`. For inference requests the code is also the metric label.',
    table(['code', 'HTTP', 'gRPC', 'retry', 'meaning'], refusalRows),
    '## Paths',
    table(['method', 'path', 'what'], pathRows),
    'Header fields of inference:',
    table(['field', 'meaning'], sideRows(describedFields)),
    'Of the parameters of a request, `timeout` (microseconds, 0 as usual), `priority` (0 as usual, 1 interactive, 2 standard, 3 bulk) and `binary_data_output` mean something.',
    'On the metrics listener:',
    table(['path', 'what'], sideRows(metricsPaths)),
    'On the admin listener:',
    table(['path', 'what'], sideRows(adminPaths)),
    '## Metrics',
    'At `/metrics` on the metrics listener, with the process metrics of prom-client beside them.',
    table(['name', 'meaning'], metricRows),
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}

const pathRows = describedPaths.map(({ method, path, what }) => [method, `\`${path}\``, what])

function sideRows(paths: Readonly<Record<string, string>>): string[][] {
  return Object.entries(paths).map(([path, what]) => [`\`${path}\``, what])
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function optionRows(path: string, schema: Schema): string[][] {
  const alternatives = schema.oneOf ?? schema.anyOf ?? []
  const rows = Object.entries(schema.properties ?? {}).flatMap(([key, option]) => {
    const at = path === '' ? key : `${path}.${key}`
    return [optionRow(at, option), ...optionRows(at, option)]
  })
  const listed = schema.items ? optionRows(`${path}[]`, schema.items) : []
  const named = schema.additionalProperties ? optionRows(`${path}.NAME`, schema.additionalProperties) : []
  return [...rows, ...listed, ...named, ...alternatives.flatMap((each) => alternativeRows(path, each))]
}

/** The options of one of several alternatives; behind their names the kind, where there are kinds. */
function alternativeRows(path: string, schema: Schema): string[][] {
  const { kind, ...properties } = schema.properties ?? {}
  const rows = optionRows(path, { ...schema, properties })
  if (!kind) return rows
  return rows.map(([name = '', ...rest]) => [name.replace(/`$/, ` (${String(kind.const)})\``), ...rest])
}

function optionRow(path: string, { default: standard, description = '', ...rest }: Schema): string[] {
  const given = standard === undefined || JSON.stringify(standard) === '{}' ? '' : `\`${JSON.stringify(standard)}\``
  return [`\`${path}\``, given, taken(rest), description]
}

function taken({ type, const: only, enum: values, minimum, maximum, oneOf, anyOf, properties, items }: Schema): string {
  if (only !== undefined) return `\`${JSON.stringify(only)}\``
  if (values) return values.map((value) => `\`${JSON.stringify(value)}\``).join(', ')
  const alternatives = oneOf ?? anyOf
  if (alternatives) {
    return alternatives
      .map((each) => (each.properties?.['kind'] ? `kind ${taken(each.properties['kind'])}` : taken(each)))
      .join(' or ')
  }
  if (properties) return 'a mapping'
  if (type === 'array') return items?.enum ? `a list of ${taken(items)}` : 'a list'
  if (type === 'object') return 'a mapping by name'
  if (minimum === undefined || maximum === undefined) return type ?? ''
  return `${type} ${minimum} to ${maximum === Number.MAX_SAFE_INTEGER ? '…' : maximum}`
}
