/**
 * What clients are told of limits: the fields RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers), and
 * refusals. The draft speaks of quotas in windows. A bucket is told as the window in which the whole of it comes back, and
 * the quota that comes in such a window: `q` units in any `w` seconds is what a client may count on. `r` is what is left.
 * `t` is when there will be more: for who is refused, when the same would be let in; for others, when all is there again.
 */
import type { Bucket } from '../core/gcra.ts'
import { Refusal } from '../core/refusal.ts'
import type { CapRule } from './caps.ts'
import type { Cost, RateRule } from './quota.ts'

const unitNames: Readonly<Record<Cost, string>> = {
  request: 'requests',
  row: 'rows',
  computeMs: 'compute-milliseconds',
}

export function ratePolicy(name: string, cost: Cost, { msPerUnit, burst }: Bucket): string {
  const windowS = seconds(burst * msPerUnit)
  const quota = Math.floor((windowS * 1_000) / msPerUnit + 1e-6)
  // Requests are what is counted unless something else is named.
  const unit = cost === 'request' ? '' : `;qu="${unitNames[cost]}"`
  return `"${name}";q=${whole(quota)};w=${windowS}${unit}`
}

export function capPolicy(name: string, most: number): string {
  return `"${name}";q=${most};qu="concurrent-requests"`
}

/** Where a limit stands: its name, what is left of it, and in how many milliseconds there is more, if time brings it. */
export interface Standing {
  readonly name: string
  readonly left: number
  readonly waitMs: number | undefined
}

function limitFields(policies: string, { name, left, waitMs }: Standing): readonly string[] {
  return fieldsOf(policies, name, unitsOf(left), waitOf(waitMs))
}

/** The fields of answers under the same policies: made anew only where they say something else than the last. */
export class LimitFields {
  readonly #policies: string
  #name = ''
  #units = -1
  #waitS: number | undefined
  #fields: readonly string[] = []

  constructor(policies: string) {
    this.#policies = policies
  }

  of({ name, left, waitMs }: Standing): readonly string[] {
    const units = unitsOf(left)
    const waitS = waitOf(waitMs)
    if (name === this.#name && units === this.#units && waitS === this.#waitS) return this.#fields
    this.#name = name
    this.#units = units
    this.#waitS = waitS
    this.#fields = fieldsOf(this.#policies, name, units, waitS)
    return this.#fields
  }
}

function fieldsOf(policies: string, name: string, units: number, waitS: number | undefined): readonly string[] {
  const time = waitS === undefined ? '' : `;t=${waitS}`
  return ['ratelimit-policy', policies, 'ratelimit', `"${name}";r=${units}${time}`]
}

function unitsOf(left: number): number {
  return whole(Math.max(0, left))
}

function waitOf(waitMs: number | undefined): number | undefined {
  return waitMs === undefined || waitMs === 0 ? waitMs : seconds(waitMs)
}

export function reached({ name, shown }: RateRule, policies: string, left: number, waitMs: number): Refusal {
  const retryS = seconds(waitMs)
  const message = `the limit "${name}" of ${shown} is reached: try again in ${retryS} s`
  return new Refusal('rate_limited', message, retryS, limitFields(policies, { name, left, waitMs }))
}

/** More than there ever is at once. */
export function tooMuch({ name, cost, bucket: { burst } }: RateRule, policies: string, left: number): Refusal {
  const most = `the limit "${name}" lets a request have at most ${burst} ${unitNames[cost]}: ask for less in one request`
  return new Refusal('rate_limited', most, Infinity, limitFields(policies, { name, left, waitMs: undefined }))
}

export function unchecked({ name }: RateRule, policies: string): Refusal {
  const message = `the limit "${name}" cannot be checked at the moment: try again in 1 s`
  return new Refusal('rate_limited', message, 1, ['ratelimit-policy', policies])
}

export function crowded({ name, most }: CapRule, policies: string): Refusal {
  const message = `the limit "${name}" of ${most} requests at once is reached: wait for an answer before sending more`
  return new Refusal('rate_limited', message, 1, limitFields(policies, { name, left: 0, waitMs: undefined }))
}

/** The largest whole number that a field may hold (RFC 9651 section 3.3.1). */
const mostDigits = 999_999_999_999_999

function whole(value: number): number {
  return Math.min(mostDigits, Math.floor(value))
}

function seconds(ms: number): number {
  return whole(Math.max(1, Math.ceil(ms / 1_000)))
}
