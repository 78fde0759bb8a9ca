/** What is remembered of a connection's last token saves a hash, and nothing else. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRefusal } from '../src/core/refusal.ts'
import {
  claimsAt,
  fromServer,
  goodToken,
  issuer,
  KeyServer,
  keysSeen,
  signingKey,
  startTokens,
} from './support/issuer.ts'

test('on one connection each token counts by itself, and no longer than it is good', async (t) => {
  const key = signingKey('ES256', 'ec')
  const started = await startTokens(t, fromServer(await KeyServer.start(t, [key.jwk])))
  await keysSeen(started)
  const { tokens, clock } = started
  const origin = { address: '192.0.2.1', certificate: undefined }
  const shown = async (token: string) => {
    const found = await tokens.identify(`Bearer ${token}`, 'a', origin)
    return isRefusal(found) ? found.code : found.name
  }
  const [a = '', b = ''] = ['alice', 'bob'].map((sub) => goodToken(key, claimsAt(clock, { sub })))
  const names = []
  for (const token of [a, a, b, a, b, b]) names.push(await shown(token))
  assert.deepEqual(
    names,
    ['alice', 'alice', 'bob', 'alice', 'bob', 'bob'].map((name) => `${issuer}/${name}`),
  )
  assert.equal(await shown(`${b}x`), 'unauthenticated')
  clock.step(24 * 3_600_000)
  assert.equal(await shown(b), 'unauthenticated')
})
