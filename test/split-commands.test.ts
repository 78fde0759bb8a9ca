/** `penstock split` and `penstock experiment` against a gateway: what they say in words and in JSON, and of what cannot be. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { suite, test, type TestContext } from 'node:test'
import { askMany, bad, canaryWith, good, onTrial, phaseOf, splitOf, startTrial } from './support/canary.ts'
import { wholeFile } from './support/client.ts'
import type { TestGateway } from './support/gateway.ts'
import { identity } from './support/onnx.ts'
import { penstock } from './support/process.ts'

const longStep = { share: 0.5, holdS: 600, minRequests: 1_000, below: 2 }
const store = { ...onTrial, 'lone/1/model.onnx': identity('INT64', ['n']) }
const plain = {
  models: {
    m: { split: { arms: { stable: { version: '1', weight: 90 }, canary: { version: '2', weight: 10 } } } },
  },
}
const shadows = [{ version: '2', share: 0.25 }]
const { models } = canaryWith({ steps: [longStep] })
const onRamp = { models: { m: { ...models.m, split: { ...models.m.split, shadows } } } }
const still = await startTrial(wholeFile, { store, settings: plain })

/** What a command says, and whether it is content. */
async function run(t: TestContext, gateway: Pick<TestGateway, 'adminUrl'>, ...args: readonly string[]) {
  const { code, stdout, stderr } = await penstock(t, [...args, '--admin', gateway.adminUrl]).finished
  return { code, stdout, stderr }
}

async function told(t: TestContext, gateway: TestGateway, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(t, gateway, ...args)
  assert.deepEqual([code, stderr], [0, ''], args.join(' '))
  return stdout
}

suite('penstock split', { concurrency: 2 }, () => {
  test('shows arms, shares, shadows and the experiment; and the same as JSON', async (t) => {
    const gateway = await startTrial(t, { store, settings: onRamp })
    const { generation } = await splitOf(gateway)
    assert.equal(
      await told(t, gateway, 'split', 'm'),
      `m, generation ${generation}
  stable: version 1, 50 %, weight 50 (configured 80)
  canary: version 2, 50 %, weight 50 (configured 20)
  shadow: version 2 on 25 %
  experiment: ramping, step 1 of 1
`,
    )
    assert.deepEqual(JSON.parse(await told(t, gateway, 'split', 'm', '--json')), await splitOf(gateway))
    assert.equal(
      await told(t, gateway, 'split', 'lone'),
      'lone has no split: version 1 answers requests that name none\n',
    )
  })

  test('sets weights by arm or version, and takes them back', async (t) => {
    const gateway = await startTrial(t, { store, settings: plain })
    const set = await told(t, gateway, 'split', 'm', 'stable=60', '2=20')
    const [plan, head, ...rest] = set.trimEnd().split('\n')
    assert.equal(plan, 'done: stable 90 % -> 75 %, canary 10 % -> 25 %; 15 % of all units change their arm.')
    assert.match(head!, /^m, generation \d+, weights set by hand$/)
    assert.deepEqual(rest, [
      '  stable: version 1, 75 %, weight 60 (configured 90)',
      '  canary: version 2, 25 %, weight 20 (configured 10)',
    ])
    const taken = JSON.parse(await told(t, gateway, 'split', 'm', '--reset', '--json'))
    assert.deepEqual([taken.split.setByHand, taken.split.arms[0].weight, taken.plan.arms.length], [null, 90, 2])
    const again = await run(t, gateway, 'split', 'm', '--reset')
    assert.deepEqual([again.code, again.stdout], [1, ''])
    assert.equal(again.stderr, 'penstock: 409: no weights were set by hand: there is nothing to take back\n')
  })

  test('gives a share to one arm, for which the others make room in proportion', async (t) => {
    const arms = { a: 60, b: 20, c: 20 }
    const weighed = Object.fromEntries(Object.entries(arms).map(([arm, weight]) => [arm, { version: '1', weight }]))
    const settings = { models: { m: { split: { arms: { ...weighed, d: { version: '2', weight: 0 } } } } } }
    const gateway = await startTrial(t, { store, settings })
    const shares = async (...args: readonly string[]) => {
      await told(t, gateway, 'split', 'm', ...args)
      return (await splitOf(gateway)).arms.map(({ share }: any) => Number(share.toFixed(6)))
    }
    assert.deepEqual(await shares('2=12.5%'), [0.525, 0.175, 0.175, 0.125])
    assert.deepEqual(await shares('a=100%'), [1, 0, 0, 0])
    const lost = await run(t, gateway, 'split', 'm', 'a=50%')
    assert.match(lost.stderr, /a=50%: the other arms have no weight to share the rest: set theirs too/)
  })

  test('only says what would follow, if that is wished', async (t) => {
    const before = await splitOf(still)
    const words = await told(t, still, 'split', 'm', 'canary=40%', '--dry-run')
    assert.equal(
      words,
      'this would follow: stable 90 % -> 60 %, canary 10 % -> 40 %; 30 % of all units change their arm.\n',
    )
    assert.deepEqual(await splitOf(still), before)
  })

  test('leads an experiment, and says why where it cannot', async (t) => {
    const gateway = await startTrial(t, { store, settings: onRamp })
    const words = await told(t, gateway, 'split', 'm', '--action', 'promote')
    assert.match(words, /^done: stable 50 % -> 0 %.*experiment: promoted, somebody said so\n$/s)
    assert.equal(await phaseOf(gateway), 'promoted')
    const refused = await run(t, gateway, 'split', 'm', '--action', 'release')
    assert.deepEqual([refused.code, refused.stderr], [1, 'penstock: 409: it is promoted, and not rolled back\n'])
  })

  test('tells what is wrong with what it was given, and changes nothing', async (t) => {
    const before = await splitOf(still)
    const table: readonly (readonly [readonly string[], RegExp])[] = [
      [
        ['m', 'stable=5', 'canary=-5'],
        /canary=-5: expected an arm or version and its weight from 0, such as canary=5, or/,
      ],
      [['m', 'canary=101%'], /there is no more than 100 %/],
      [['m', 'canary=5', 'stable=5%'], /one share at a time, or weights for all/],
      [['m', 'canary=5', 'canary=6'], /canary has a weight already/],
      [['m', 'nobody=5'], /400: there is no arm nobody, nor one with that version: the arms are stable, canary/],
      [['../status'], /404: there is no model \.\.\/status: there are lone, m/],
    ]
    const replies = table.map(async ([args, words]) => {
      const { code, stdout, stderr } = await run(t, still, 'split', ...args)
      assert.deepEqual([code, stdout], [1, ''], args.join(' '))
      assert.match(stderr, words)
      assert.match(stderr, /^penstock: [^\n]+\n$/, 'one line')
    })
    await Promise.all(replies)
    assert.deepEqual(await splitOf(still), before)
  })

  test('says so where nobody answers, or not what it should', async (t) => {
    const asked = (adminUrl: string) => run(t, { adminUrl }, 'split', 'm')
    assert.match(
      (await asked('http://127.0.0.1:1')).stderr,
      /no answer from http:\/\/127\.0\.0\.1:1\/\S+ \(ECONNREFUSED\)/,
    )
    assert.match((await asked('file:///etc')).stderr, /--admin file:\/\/\/etc: this is no URL of http or https/)
    const server = createServer((_, response) => response.writeHead(502).end('<html>'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.after(() => server.close())
    const { port } = server.address() as { port: number }
    assert.match((await asked(`http://127.0.0.1:${port}/`)).stderr, /502: no answer that makes sense/)
  })
})

suite('penstock experiment', { concurrency: 2 }, () => {
  test('says how it stands and what it waits for, and gives the same as JSON', async (t) => {
    const gateway = await startTrial(t, { store, settings: canaryWith({ steps: [longStep] }) })
    await askMany(gateway, good, 30)
    const words = await told(t, gateway, 'experiment', 'm')
    const { evidence, ...report } = JSON.parse(await told(t, gateway, 'experiment', 'm', '--json'))
    const { control, treatment } = evidence.units
    assert.deepEqual([control + treatment, report.phase, report.model], [30, 'ramping', 'm'])
    const lines = words.trimEnd().split('\n')
    assert.match(
      lines[0]!,
      /^m: canary of canary against stable, ramping since \S+Z \(step 1 of 1\), canary gets 50 % of what it shares with stable$/,
    )
    assert.match(
      lines[1]!,
      /^ {2}step 1 of 1; waits for \d+ s more and \d+ units more and proof that it does not fail 2 times as often as the control$/,
    )
    assert.equal(
      lines[2],
      `  failures: stable 0 of ${control} (0 %), canary 0 of ${treatment} (0 %). There is no evidence that the treatment fails more.`,
    )
    assert.match(
      lines[3]!,
      /^ {2}compute time: (too few runs to compare yet|[\d.]+ times the control's for batches of )/,
    )
    assert.equal(
      lines[4],
      `  sample ratio: ${treatment} units of the treatment where 15 were expected. There is no evidence that the arms do not get what they should.`,
    )
    assert.equal(lines.length, 5)
  })

  test('says of one that was rolled back why, and how it begins anew', async (t) => {
    const gateway = await startTrial(t, { store, settings: canaryWith({ steps: [longStep] }) })
    await askMany(gateway, bad, 500, async () => (await phaseOf(gateway)) === 'rolled-back')
    const words = await told(t, gateway, 'experiment', 'm')
    assert.match(
      words,
      /^m: canary of canary against stable, rolled-back since \S+ \(it fails more often than the control: /,
    )
    assert.match(
      words,
      /\n {2}it stays so until the versions or the experiment change, or `penstock split --action release`\n/,
    )
    assert.match(words, /The evidence that the treatment fails more is conclusive\.\n/)
    assert.match(words, /\n {2}ALARM \(failures, rollback\): it fails more often/)
  })

  test('says of a test that it is one', async (t) => {
    const gateway = await startTrial(t, {
      store,
      settings: canaryWith({ kind: 'ab', failures: { action: 'alert' } }),
    })
    const words = await told(t, gateway, 'experiment', 'm')
    assert.match(words, /^m: A\/B test of canary against stable, steady since \S+ \(the test began\)\n/)
  })

  test('tells where there is none', async (t) => {
    const { code, stdout, stderr } = await run(t, still, 'experiment', 'm')
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(stderr, /404: there is no experiment on this model: give it one in the configuration/)
  })
})
