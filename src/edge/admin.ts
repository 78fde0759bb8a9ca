/**
 * The admin listener: what the gateway is doing, and why. It has no way to ask who is calling yet, so it listens on
 * loopback only, and answers no page of a browser that was lured here: Host and Origin must be this machine's.
 */
import type { IncomingMessage } from 'node:http'
import { isLoopback } from '../core/address.ts'
import { refuse, type Refusal } from '../core/refusal.ts'
import type { Administration } from './serving.ts'
import { json, nothingElse, SideServer } from './side-server.ts'

export const adminPaths = {
  '/admin/status':
    'models, versions and their batching as they are. `runMs` is what was learnt: a run of b rows takes `baseMs + rowMs * b`, and hardly ever more than `margin` times that',
  '/admin/config': 'the configuration, with every default in it',
}

export function createAdminServer(administration: Administration): SideServer {
  return new SideServer((path) => {
    if (path === '/admin/status') return json(administration.status())
    if (path === '/admin/config') return json(administration.config())
    return nothingElse(adminPaths)
  }, admitOwn)
}

function admitOwn({ headers: { host, origin } }: IncomingMessage): Refusal | undefined {
  const isOwn = isOwnName(host) && (origin === undefined || isOwnName(origin.replace(/^https?:\/\//, '')))
  return isOwn ? undefined : refuse('not_found', 'the admin listener answers to the names of this machine only')
}

/** Whether a Host header (or an Origin without its scheme) means this machine, whatever the port. */
function isOwnName(host: string | undefined): boolean {
  return host !== undefined && isLoopback(host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'))
}
