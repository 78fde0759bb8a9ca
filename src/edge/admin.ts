/**
 * The admin listener: what the gateway is doing, and why, and the changes that may be made to it. On loopback whoever is on
 * this machine may ask; elsewhere callers identify themselves as on the listener for clients. It answers no page of a
 * browser that was lured here: Host and Origin must be names of its own. Every change is written down before it is made.
 */
import * as z from 'zod'
import { isLoopback } from '../core/address.ts'
import type { Caller } from '../core/caller.ts'
import type { Headers } from '../core/origin.ts'
import { isRefusal, refuse, type Refusal } from '../core/refusal.ts'
import type { AdminOptions } from './options.ts'
import type { Administration } from './serving.ts'
import { isRead, json, nothingElse, onlyTakes, SideServer, type Shown, type SideRequest } from './side-server.ts'

export const adminPaths = {
  '/admin/status':
    'GET: models, versions and their batching as they are. `runMs` is what was learnt: a run of b rows takes `baseMs + rowMs * b`, and hardly ever more than `margin` times that',
  '/admin/config': 'GET: the configuration, with every default in it',
  '/admin/models/NAME/split':
    'GET: the split that is in force. PATCH: changes it, with `if-match` and the generation that you have seen: `{"weights": {"ARM": 5}}`, `{"reset": true}` or `{"action": "pause"}` (or resume, promote, rollback, release); with `"dryRun": true` it only says what would follow',
  '/admin/models/NAME/experiment': 'GET: how far the experiment has got, the evidence, and what may be concluded',
  '/admin/store': 'POST: looks at the store at once, for new versions and for such as are gone',
  '/admin/tokens':
    'POST: mints a token, where there is a development issuer: `{"subject", "tenant", "scopes", "profile", "lifetimeS"}`, each of which may be left out',
}

type Handler = (
  administration: Administration,
  request: SideRequest,
  caller: Caller,
) => Promise<Shown | Refusal> | Shown | Refusal

/** What may be done at a path, by method. */
type Resource = Readonly<Partial<Record<'GET' | 'POST' | 'PATCH', Handler>>>

export function createAdminServer(administration: Administration, { host, names }: AdminOptions): SideServer {
  const own = new Set([host, ...names])
  const isOwn = (name: string | undefined) => isOwnName(name, own)
  return new SideServer(async (request) => {
    const foreign = admitOwn(request.headers, isOwn)
    if (foreign) return foreign
    const resource = resourceOf(request.path)
    if (!resource) return nothingElse(adminPaths)
    const method = isRead(request.method) ? 'GET' : request.method
    const handle = resource[method as keyof Resource]
    if (!handle) return onlyTakes(allowOf(resource))
    const caller = await administration.admit(
      request,
      method === 'GET' ? 'admin.read' : 'admin.write',
      isLoopback(host),
    )
    return isRefusal(caller) ? caller : handle(administration, request, caller)
  })
}

function allowOf(resource: Resource): string {
  return Object.keys(resource)
    .map((method) => (method === 'GET' ? 'GET, HEAD' : method))
    .join(', ')
}

const resources: Readonly<Record<string, Resource>> = {
  '/admin/status': { GET: (administration) => json(administration.status()) },
  '/admin/config': { GET: (administration) => json(administration.config()) },
  '/admin/store': { POST: async (administration) => json(await administration.refresh()) },
  '/admin/tokens': { POST: mint },
}

function resourceOf(path: string): Resource | undefined {
  if (Object.hasOwn(resources, path)) return resources[path]
  const [, name = '', what] = /^\/admin\/models\/([^/]+)\/(split|experiment)$/.exec(path) ?? []
  if (what === 'experiment') return { GET: (administration) => shown(administration.experiment(decoded(name))) }
  if (what !== 'split') return undefined
  return {
    GET: (administration) => shownSplit(administration.split(decoded(name))),
    PATCH: (administration, request, caller) => edit(administration, request, { name: decoded(name), caller }),
  }
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}

function shown(found: unknown): Shown | Refusal {
  return isRefusal(found) ? found : json(found)
}

function shownSplit(split: { readonly generation: number } | Refusal): Shown | Refusal {
  return isRefusal(split) ? split : json(split, 200, ['etag', `"${split.generation}"`])
}

const editSchema = z.strictObject({
  weights: z.record(z.string().max(128), z.number().min(0).max(1e6)).optional(),
  reset: z.literal(true).optional(),
  action: z.enum(['pause', 'resume', 'promote', 'rollback', 'release']).optional(),
  dryRun: z.boolean().optional(),
})

async function edit(
  administration: Administration,
  request: SideRequest,
  { name, caller }: { readonly name: string; readonly caller: Caller },
): Promise<Shown | Refusal> {
  const wish = await readBody(request, editSchema)
  if (isRefusal(wish)) return wish
  const seen = request.headers['if-match']
  const made = await administration.editSplit(name, wish, seen === undefined ? undefined : String(seen), caller)
  return isRefusal(made) ? made : json(made, 200, ['etag', `"${made.split.generation}"`])
}

const word = z.string().min(1).max(256)
const wishSchema = z.strictObject({
  subject: word.default('developer'),
  tenant: word.optional(),
  scopes: z.array(word).max(100).default(['models']),
  profile: word.optional(),
  lifetimeS: z.int().min(1).max(86_400).optional(),
})

async function mint(administration: Administration, request: SideRequest, caller: Caller): Promise<Shown | Refusal> {
  const wish = await readBody(request, wishSchema)
  if (isRefusal(wish)) return wish
  const token = await administration.mint(wish, caller)
  return isRefusal(token) ? token : json({ token })
}

async function readBody<S extends z.ZodType>(request: SideRequest, schema: S): Promise<z.output<S> | Refusal> {
  // Anything else a page of another site may send without asking first.
  if (!/^application\/(merge-patch\+)?json\s*(;|$)/i.test(String(request.headers['content-type'])))
    return refuse('unsupported_media', 'the body must be application/json')
  const body = await request.read()
  if (isRefusal(body)) return body
  const read = schema.safeParse(body)
  if (read.success) return read.data
  const [issue] = read.error.issues
  return refuse('invalid', `${issue!.path.map(String).join('.') || 'the body'}: ${issue!.message}`)
}

/** Pages of other sites, whatever name they have found for this address, get nothing. */
function admitOwn(headers: Headers, isOwn: (name: string | undefined) => boolean): Refusal | undefined {
  const { host, origin, 'sec-fetch-site': site } = headers as Readonly<Record<string, string | undefined>>
  const isForeign = site !== undefined && site !== 'same-origin' && site !== 'none'
  const isGood = !isForeign && isOwn(host) && (origin === undefined || isOwn(origin.replace(/^https?:\/\//, '')))
  return isGood ? undefined : refuse('not_found', 'the admin listener answers to its own names only: see `admin.names`')
}

/** Whether a Host header (or an Origin without its scheme) means this listener, whatever the port. */
function isOwnName(host: string | undefined, names: ReadonlySet<string>): boolean {
  const name = host?.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return name !== undefined && (isLoopback(name) || names.has(name))
}
