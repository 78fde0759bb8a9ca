import { isIP } from 'node:net'
import * as z from 'zod'
import { isSpiffeId } from '../core/spiffe.ts'

const network = z.string().refine(isNetwork, { error: 'expected an address or a network such as `10.0.0.0/8`' })
const spiffeId = z.string().refine(isSpiffeId, {
  error: 'expected a SPIFFE id such as `spiffe://cluster.local/ns/team/sa/gateway`',
})

/** What asks for a proxy, and in which modes it means nothing. */
const idleIn = {
  proxies: ['none', 'ambient', 'sidecar'],
  trustedProxies: ['none', 'ambient'],
  hops: ['none', 'ambient'],
  self: ['none', 'ambient'],
  waypointXfcc: ['none', 'ambient', 'sidecar', 'gateway'],
} as const

export const meshOptions = z
  .strictObject({
    mode: z
      .enum(['none', 'sidecar', 'ambient', 'ambient-waypoint', 'gateway'])
      .default('none')
      .describe(
        'Who stands in front, and so what headers may claim: `none` and `ambient` (ztunnel alone, which passes whatever clients send) nobody; `sidecar` Envoy in the pod; `ambient-waypoint` a waypoint; `gateway` an ingress that reaches a pod without sidecar.',
      ),
    proxies: z
      .array(network)
      .max(1_000)
      .default([])
      .describe(
        'Addresses and networks of the proxies that are believed. With `gateway` and `ambient-waypoint` only; a sidecar is believed from 127.0.0.6, ::6 and loopback.',
      ),
    trustedProxies: z
      .array(spiffeId)
      .max(1_000)
      .default([])
      .describe(
        'SPIFFE ids of proxies that say who was at their other end, as an ingress in front of a sidecar does. With `gateway`, one that shows such a certificate to `edge.tls` is believed from any address.',
      ),
    hops: z
      .int()
      .min(0)
      .max(16)
      .default(0)
      .describe(
        'How many trusted proxies stand in front of the mesh’s own gateway (Istio: `numTrustedProxies`): so many addresses of `x-forwarded-for` are passed over, from the right.',
      ),
    self: spiffeId
      .optional()
      .describe(
        'The SPIFFE id that the nearest proxy has to name as its own (`By`). Behind a sidecar that is the pod’s.',
      ),
    waypointXfcc: z
      .boolean()
      .default(false)
      .describe(
        'With `ambient-waypoint`: the waypoint has `ambient.istio.io/xfcc-include-client-identity: "true"`, and an L4 policy admits nobody but the waypoint.',
      ),
    maxBytes: z
      .int()
      .min(256)
      .max(65_536)
      .default(65_536)
      .describe(
        'The longest `x-forwarded-client-cert` that is read, in bytes. `edge.head.maxBytes` has to be larger where certificates with their chains are sent.',
      ),
  })
  .superRefine((options, context) => {
    const { mode, proxies, trustedProxies, waypointXfcc } = options
    const complain = (path: string, message: string) => {
      context.addIssue({ code: 'custom', path: [path], message, input: options })
    }
    for (const [name, modes] of Object.entries(idleIn)) {
      const value = options[name as keyof typeof idleIn]
      const isSet = Array.isArray(value) ? value.length > 0 : Boolean(value)
      if (isSet && (modes as readonly string[]).includes(mode)) {
        complain(name, `means nothing with \`mode: ${mode}\`: leave it out, or set another mode`)
      }
    }
    if (mode === 'gateway' && proxies.length + trustedProxies.length === 0)
      complain(
        'proxies',
        'with `mode: gateway`, list the addresses of the gateway here, or its SPIFFE id in `trustedProxies`',
      )
    if (mode === 'ambient-waypoint' && proxies.length === 0 && !waypointXfcc) {
      const message =
        'with `mode: ambient-waypoint`, list the addresses of the waypoint; or set `waypointXfcc` if a policy admits nobody else'
      complain('proxies', message)
    }
  })

export const httpRouteOptions = z.strictObject({
  file: z
    .string()
    .min(1)
    .describe('YAML with the HTTPRoute, relative to the configuration; may be mounted from a ConfigMap.'),
  name: z.string().optional().describe('Its `metadata.name`. Without it there must be just one in the file.'),
  versions: z
    .record(z.string(), z.string({ error: 'expected a version or an alias, in quotes' }))
    .default({})
    .describe('The version that each backend stands for, by the name of the backend.'),
  stable: z
    .string()
    .optional()
    .describe('The backend that is the default arm. Without it the first one of the rule that divides.'),
})

export type MeshOptions = z.output<typeof meshOptions>

function isNetwork(text: string): boolean {
  const [, address = '', prefix] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = isIP(address)
  return family !== 0 && (prefix === undefined || Number(prefix) <= (family === 4 ? 32 : 128))
}
