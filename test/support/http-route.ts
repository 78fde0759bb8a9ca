/** HTTPRoutes as controllers write them, and short ones. */
import assert from 'node:assert/strict'
import { showMistake } from '../../src/core/document.ts'
import { readHttpRoutes, type HttpRouteOptions, type SplitIntent } from '../../src/mesh/http-route.ts'

export const versions = { 'iris-stable': '3', 'iris-canary': '4', 'iris-primary': '3', old: '2' }

export function read(text: string, options: Partial<HttpRouteOptions> = {}): SplitIntent {
  const made = readHttpRoutes([{ file: 'route.yaml', text }], { versions, ...options })
  assert.ok('intent' in made, 'mistakes' in made ? made.mistakes.map(showMistake).join('\n') : '')
  return made.intent
}

export function complaints(text: string, options: Partial<HttpRouteOptions> = {}): string[] {
  const made = readHttpRoutes([{ file: 'route.yaml', text }], { versions, ...options })
  return 'mistakes' in made ? made.mistakes.map(showMistake) : []
}

/** A route of rules given as JavaScript, on one line each, beginning at line 8. */
export function routeOf(...rules: unknown[]): string {
  const lines = rules.map((rule) => `    - ${typeof rule === 'string' ? rule : JSON.stringify(rule)}\n`).join('')
  return `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: iris
spec:
  parentRefs: [{ name: inference }]
  rules:
${lines}`
}

export const stable = { name: 'iris-stable', port: 80, weight: 90 }
export const canary = { name: 'iris-canary', port: 80, weight: 10 }
export const split = { backendRefs: [stable, canary] }
export const onlyCanary = { backendRefs: [{ name: 'iris-canary' }] }
export const headers = (...pairs: [string, string][]) => [{ headers: pairs.map(([name, value]) => ({ name, value })) }]
export const mirrorTo = (name: string, more: object = {}) => ({
  type: 'RequestMirror',
  requestMirror: { backendRef: { name }, ...more },
})

/** As `kubectl get -o yaml` shows it in the middle of a rollout. */
export const argo = (
  canaryWeight: number,
  generation: number,
  managed = '',
) => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","spec":{"rules":[{"timeouts":{"request":"1s"}}]}}
    rollouts.argoproj.io/gatewayapi-active-rollouts: models/iris
  creationTimestamp: "2026-03-02T09:14:51Z"
  generation: ${generation}
  labels:
    rollouts.argoproj.io/gatewayapi-canary: in-progress
  name: iris
  namespace: models
  resourceVersion: "88123"
  uid: 5c7e0f0e-0f8a-4c43-9bd2-0b9fbb1a1d0e
spec:
  hostnames:
  - iris.example.com
  parentRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: inference
  rules:
  - backendRefs:
    - group: ""
      kind: Service
      name: iris-stable
      port: 80
      weight: ${100 - canaryWeight}
    - group: ""
      kind: Service
      name: iris-canary
      port: 80
      weight: ${canaryWeight}
    matches:
    - path:
        type: PathPrefix
        value: /
${managed}status:
  parents:
  - conditions:
    - observedGeneration: ${generation}
      reason: Accepted
      status: "True"
      type: Accepted
    controllerName: example.com/inference-gateway
    parentRef:
      name: inference
`

export const argoHeaderRule = `  - name: iris-testers
    filters: []
    matches:
    - headers:
      - name: X-Canary
        type: Exact
        value: "yes"
      path:
        type: PathPrefix
        value: /
    backendRefs:
    - group: ""
      kind: Service
      name: iris-canary
      port: 80
      weight: 1
`

/** As Flagger makes it, which writes every field of a reference out. */
export function flagger(primary: number, canaryWeight: number, filters: object[] = []) {
  const service = { group: '', kind: 'Service', port: 9898 }
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: {
      name: 'iris',
      annotations: { 'helm.toolkit.fluxcd.io/driftDetection': 'disabled' },
      ownerReferences: [{ apiVersion: 'flagger.app/v1beta1', kind: 'Canary', name: 'iris', controller: true }],
      resourceVersion: '4711',
    },
    spec: {
      parentRefs: [{ name: 'inference', namespace: 'models' }],
      hostnames: ['iris.example.com'],
      rules: [
        {
          matches: [{ path: { type: 'PathPrefix', value: '/' } }],
          ...(filters.length > 0 ? { filters } : {}),
          backendRefs: [
            { ...service, name: 'iris-primary', weight: primary },
            { ...service, name: 'iris-canary', weight: canaryWeight },
          ],
        } as Record<string, unknown>,
      ],
    },
  }
}
