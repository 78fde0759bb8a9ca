/** `penstock check --as CALLER`: what a caller may do, and which rule has it so. */
import { identityMethods, operations, type Caller, type IdentityMethod, type Operation } from '../core/caller.ts'
import type { Gateway } from '../gateway.ts'
import { failWith } from './report.ts'

/** What is asked about; all of what is left out. */
export interface Questions {
  readonly operation?: string
  readonly model?: string
  readonly modelVersion?: string
}

export function explain(gateway: Gateway, caller: Caller, { operation, model, modelVersion }: Questions): void {
  if (operation !== undefined && !operations.includes(operation as Operation))
    failWith(`--operation ${operation}: expected one of ${operations.join(', ')}`)
  const models = [...gateway.models.values()].filter(({ name }) => model === undefined || name === model)
  if (models.length === 0)
    failWith(`--model ${model}: no such model; there are ${[...gateway.models.keys()].join(', ')}`)
  const versions = models.flatMap(({ name, versions: own }) => [...own.keys()].map((version) => ({ name, version })))
  const asked = versions.filter(({ version }) => modelVersion === undefined || version === modelVersion)
  if (asked.length === 0) failWith(`--model-version ${modelVersion}: no such version of ${model ?? 'any model'}`)
  for (const each of operations.filter((one) => operation === undefined || one === operation)) {
    const isAdmin = each.startsWith('admin.')
    const lines = isAdmin
      ? [`${each}: ${gateway.explain(caller, each, '', '')}`]
      : asked.map(({ name, version }) => `${each} ${name} ${version}: ${gateway.explain(caller, each, name, version)}`)
    process.stdout.write(lines.map((line) => `${line}\n`).join(''))
  }
}

const keys = ['name', 'method', 'issuer', 'tenant', 'subject', 'scopes', 'spiffe', 'peer', 'profile'] as const
const example =
  'such as "subject=alice,issuer=https://login.example.com,tenant=acme,scopes=models admin", or anyone, or a full name such as key:robot'

/** A caller as it is written in a command: its full name, if the configuration says all about it, or what it has shown. */
export function readCaller(text: string, gateway: Gateway): Caller {
  if (!/^(key|mtls|mesh):/.test(text)) return readShown(text)
  return gateway.callerNamed(text) ?? failWith(`--as ${text}: no such caller by \`auth\` of this configuration`)
}

/** Of who shows a token, the issuer is a part of the name. */
function readShown(text: string): Caller {
  const given = new Map<string, string>(text === 'anyone' ? [['method', 'none']] : [])
  for (const pair of text === 'anyone' ? [] : text.split(',')) {
    const [, key = '', value = ''] = /^\s*(\w+)=(.*)$/s.exec(pair) ?? []
    if (!keys.includes(key as (typeof keys)[number])) failWith(`--as ${text}: expected ${keys.join(', ')}, ${example}`)
    given.set(key, value)
  }
  const method = (given.get('method') ?? 'jwt') as IdentityMethod
  if (!identityMethods.includes(method))
    failWith(`--as ${text}: expected as a method one of ${identityMethods.join(', ')}`)
  const subject = given.get('subject') ?? given.get('spiffe') ?? ''
  return {
    name: given.get('name') ?? nameOf(method, subject, given.get('issuer')),
    method,
    tenant: given.get('tenant') ?? '',
    subject,
    scopes: (given.get('scopes') ?? '').split(' ').filter((scope) => scope !== ''),
    claims: {},
    spiffe: given.get('spiffe'),
    peer: given.get('peer'),
    profile: given.get('profile'),
  }
}

/** As identification would call it. */
function nameOf(method: IdentityMethod, subject: string, issuer: string | undefined): string {
  if (method === 'jwt') return issuer === undefined ? subject : `${issuer}/${subject}`
  return method === 'none' ? subject : `${method === 'api-key' ? 'key' : method}:${subject}`
}
