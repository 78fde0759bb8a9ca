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
  '/admin/tokens':
    'POST: mints a token, where there is a development issuer: `{"subject", "tenant", "scopes", "profile", "lifetimeS"}`, each of which may be left out',
}

export function createAdminServer(administration: Administration, { host, names }: AdminOptions): SideServer {
  const own = new Set([host, ...names])
  const isOwn = (name: string | undefined) => isOwnName(name, own)
  return new SideServer(async (request) => {
    const foreign = admitOwn(request.headers, isOwn)
    if (foreign) return foreign
    const { path, method } = request
    const read = Object.hasOwn(readers, path) ? readers[path as keyof typeof readers] : undefined
    if (!read && path !== '/admin/tokens') return nothingElse(adminPaths)
    if (read ? !isRead(method) : method !== 'POST') return onlyTakes(read ? 'GET, HEAD' : 'POST')
    const operation = read ? 'admin.read' : 'admin.write'
    const caller = await administration.admit(request, operation, isLoopback(host))
    if (isRefusal(caller)) return caller
    return read ? json(read(administration)) : mint(administration, caller, request)
  })
}

const readers = {
  '/admin/status': (administration: Administration) => administration.status(),
  '/admin/config': (administration: Administration) => administration.config(),
}

const word = z.string().min(1).max(256)
const wishSchema = z.strictObject({
  subject: word.default('developer'),
  tenant: word.optional(),
  scopes: z.array(word).max(100).default(['models']),
  profile: word.optional(),
  lifetimeS: z.int().min(1).max(86_400).optional(),
})

async function mint(administration: Administration, caller: Caller, request: SideRequest): Promise<Shown | Refusal> {
  // Anything else a page of another site may send without asking first.
  if (!/^application\/json\s*(;|$)/i.test(String(request.headers['content-type'])))
    return refuse('unsupported_media', 'the body must be application/json')
  const body = await request.read()
  if (isRefusal(body)) return body
  const { data: wish, error } = wishSchema.safeParse(body)
  if (!wish) {
    const [issue] = error.issues
    return refuse('invalid', `${issue!.path.join('.') || 'the body'}: ${issue!.message}`)
  }
  const token = await administration.mint(wish, caller)
  return isRefusal(token) ? token : json({ token })
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
