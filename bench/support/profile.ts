/** Where the CPU of a gateway's main thread goes, by what the functions are for. Sampled by Node's own profiler. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What belongs together, by file; the first that fits counts. */
const rooms: readonly (readonly [name: string, fits: RegExp])[] = [
  [
    'socket: reading, writing, streams',
    /^(writeLatin1String|writeUtf8String|writeBuffer|writev|readStart|readStop) |node:(net|internal\/(stream|streams|js_stream|tls))|node:_?tls/,
  ],
  [
    'front of HTTP/1.1: heads, bodies, answers',
    /wasm|src\/edge\/(http1|http2|transport|flaws|exchange)|node:_http|node:internal\/http/,
  ],
  ['decoding and encoding', /src\/edge\/codecs/],
  ['rest of the edge', /src\/edge/],
  ['pipeline', /src\/pipeline|src\/core/],
  ['identification, access, limits', /src\/(auth|limits|mesh|security)/],
  ['routing and experiments', /src\/(routing|experiments|live|gateway|create-gateway)/],
  ['batching', /src\/batching/],
  ['workers, seen from here', /src\/runtime/],
  ['metrics', /src\/telemetry/],
  ['promises, timers, ticks', /node:internal\/(process|timers|async)|^(runMicrotasks|now|performance)/],
  ['garbage collection', /^\(garbage collector\)/],
  ['the rest, and the kernel', /./],
]

interface Profile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string }
  }[]
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
  readonly startTime: number
}

/** Parts of the time in which there was something to do, in the second half of a profile: the first is warming up. */
export function partsOf({ nodes, samples, timeDeltas }: Profile): ReadonlyMap<string, number> {
  const roomOf = new Map(
    nodes.map(({ id, callFrame: { functionName, url } }) => [
      id,
      functionName === '(idle)' ? undefined : rooms.find(([, fits]) => fits.test(`${functionName} ${url}`))![0],
    ]),
  )
  const parts = new Map<string, number>(rooms.map(([name]) => [name, 0]))
  let total = 0
  for (let i = samples.length >> 1; i < samples.length; i++) {
    const room = roomOf.get(samples[i]!)
    if (room === undefined) continue
    parts.set(room, parts.get(room)! + timeDeltas[i]!)
    total += timeDeltas[i]!
  }
  for (const [name, us] of parts) parts.set(name, us / total)
  return parts
}

/** Runs something that starts one Node with threads of its own; the profile of its main thread. */
export async function profiled(run: () => Promise<void>): Promise<Profile> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-profile-'))
  process.env['BENCH_NODE_FLAGS'] = `--cpu-prof --cpu-prof-interval=250 --cpu-prof-dir=${folder}`
  try {
    await run()
  } finally {
    delete process.env['BENCH_NODE_FLAGS']
  }
  // The number of the thread is the last but one.
  const name = (await readdir(folder)).find((each) => /\.0\.\d+\.cpuprofile$/.test(each))
  const profile = JSON.parse(await readFile(join(folder, name!), 'utf8')) as Profile
  await rm(folder, { recursive: true })
  return profile
}
