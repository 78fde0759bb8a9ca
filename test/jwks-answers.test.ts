/** What servers of keys answer that are broken, hostile or somebody else's: nothing of it is believed. */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { suite, test } from 'node:test'
import { until } from './support/client.ts'
import { fetchFailed, issuer, KeyServer, keysSeen, nameOf, signingKey, startFrom } from './support/issuer.ts'

const alice = `${issuer}/alice`
const [one, two] = [signingKey('ES256', 'one'), signingKey('ES256', 'two')]

suite('an answer changes nothing and is reported once that', () => {
  const big = `{"keys":[${JSON.stringify(one.jwk)}],"filler":"${'x'.repeat(1_048_576)}"}`
  const many = Array.from({ length: 101 }, (_, i) => ({ ...two.jwk, kid: `${i}` }))
  const weak = signingKey('RS256', 'weak', 1_024).jwk
  const good = JSON.stringify({ keys: [two.jwk] })
  const answers: Readonly<Record<string, [(response: ServerResponse, elsewhere: string) => void, RegExp]>> = {
    'says there was an error': [(response) => response.writeHead(500).end(good), /answered with 500/],
    'says there is nothing': [(response) => response.writeHead(404).end(good), /answered with 404/],
    'sends elsewhere': [(response, location) => response.writeHead(302, { location }).end(), /answered with 302/],
    'is empty': [(response) => response.end(), /is not JSON/],
    'is a page': [(response) => response.end('<html>'), /is not JSON/],
    'is compressed': [
      (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('\u001f\u008b'),
      /not JSON/,
    ],
    'is no set': [(response) => response.end('[]'), /no JWK set/],
    'is null': [(response) => response.end('null'), /no JWK set/],
    'has no keys': [(response) => response.end('{"keys":[]}'), /no public key/],
    'has too many keys': [(response) => response.end(JSON.stringify({ keys: many })), /more than 100 keys/],
    'has broken keys only': [
      (response) => response.end(JSON.stringify({ keys: [weak, null, 7, { kty: 'EC' }] })),
      /no public key/,
    ],
    'has secrets only': [
      (response) => response.end('{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"two"}]}'),
      /no public key/,
    ],
    'is too long': [(response) => response.end(big), /longer than 1048576 bytes/],
    'is too long, bit by bit': [
      (response) => {
        response.write('{"keys":[')
        let left = 100
        const more = (error?: Error | null) => {
          if (!error && left-- > 0) response.write(' '.repeat(65_536), more)
        }
        more()
      },
      /longer than 1048576 bytes/,
    ],
    'breaks off': [(response) => response.write('{"keys":', () => response.destroy()), /cannot be fetched/],
    'is no HTTP': [(response) => response.socket!.end('SSH-2.0\r\n'), /cannot be fetched/],
  }
  for (const [name, [answer, problem]] of Object.entries(answers)) {
    test(name, async (t) => {
      const [server, elsewhere] = [await KeyServer.start(t, [one.jwk]), await KeyServer.start(t, [two.jwk])]
      const started = await startFrom(t, server)
      await keysSeen(started)
      server.answer = (response) => answer(response, elsewhere.url)
      started.clock.pass(300_000)
      await fetchFailed(started, 1)
      started.clock.pass(1_000)
      await fetchFailed(started, 2)
      assert.equal(started.problems.length, 1)
      assert.match(started.problems[0]!, problem)
      assert.equal(elsewhere.requests, 0)
      assert.equal(nameOf(await started.showNew(one)), alice)
      assert.equal(await started.showNew(two), 'key')
    })
  }

  test('never ends', async (t) => {
    const server = await KeyServer.start(t, [one.jwk])
    const started = await startFrom(t, server)
    await keysSeen(started)
    let gone = false
    server.answer = (response) => void response.on('close', () => (gone = true)).write('{"keys":')
    started.clock.pass(300_000)
    await until('it was asked', () => Promise.resolve(server.requests === 2))
    assert.equal(nameOf(await started.showNew(one)), alice, 'nobody waits for it')
    started.clock.pass(5_000)
    await fetchFailed(started, 1)
    assert.deepEqual(started.problems, ['cannot be fetched: the server took too long'])
    await until('the connection is closed', () => Promise.resolve(gone))
  })
})
