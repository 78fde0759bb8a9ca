import * as z from 'zod'

const isolations = ['thread', 'process'] as const
export type Isolation = (typeof isolations)[number]

const providers = ['cpu', 'webgpu', 'cuda', 'tensorrt'] as const
export type Provider = (typeof providers)[number]

export const defaultPool = 'default'
/** Where versions run as shadows, whichever pool they answer from. */
export const shadowPool = 'shadows'

const executors = z.union([z.literal('auto'), z.int().min(1).max(256)])

/** What a worker is; each holds one version of one model. */
export const workerOptions = z
  .strictObject({
    isolation: z
      .enum(isolations)
      .default('thread')
      .describe(
        '`thread` shares memory with the gateway and is fastest; it survives exceptions and a full heap, but a native crash ends the gateway, as does a heap full of the strings of an output, and a run that hangs cannot be ended. `process` survives those too, and its memory can be capped.',
      ),
    providers: z
      .array(z.enum(providers))
      .min(1)
      .default(['cpu'])
      .describe(
        'What runs the model, in order of preference: the next is taken where one cannot be had, and without a next the model is not loaded. `webgpu` is any GPU through Vulkan; `cuda` and `tensorrt` need libraries of NVIDIA.',
      ),
    deviceId: z.int().min(0).max(255).default(0).describe('Which GPU, for `cuda` and `tensorrt`.'),
    threads: z.int().min(1).max(256).default(1).describe('Threads inside one run.'),
    spinning: z
      .boolean()
      .default(false)
      .describe('Whether these threads wait for work in a busy loop: a little faster, at the price of their cores.'),
    heapMb: z
      .int()
      .min(32)
      .max(65_536)
      .default(512)
      .describe('JavaScript heap of a worker, in MiB. Weights are not in it.'),
    memoryMb: z
      .int()
      .min(64)
      .max(1_048_576)
      .optional()
      .describe(
        'Most memory of a worker process, in MiB, weights and heap included; Linux only. A run beyond it fails.',
      ),
  })
  .superRefine(({ isolation, providers: wanted, memoryMb }, context) => {
    if (isolation === 'process') return
    const complain = (path: string, message: string, input: unknown) =>
      context.addIssue({ code: 'custom', path: [path], message, input })
    if (wanted.includes('webgpu'))
      complain(
        'providers',
        'two threads that use webgpu crash the process they are in: set `isolation: process`',
        wanted,
      )
    if (memoryMb !== undefined)
      complain('memoryMb', 'a thread shares the memory of the gateway: set `isolation: process`', memoryMb)
  })

export type WorkerOptions = z.output<typeof workerOptions>
export type SessionOptions = Pick<WorkerOptions, 'providers' | 'deviceId' | 'threads' | 'spinning'>

/** Of a model: where and how it is run. */
export const placementOptions = {
  pool: z.string().default(defaultPool).describe('Whose executors run it: one of `runtime.pools`, or `default`.'),
  worker: workerOptions.optional().describe('Instead of the common `runtime.worker`.'),
  unloadAfterS: z.number().positive().optional().describe('Instead of the common `runtime.unloadAfterS`.'),
}

export const runtimeOptions = z.strictObject({
  executors: executors
    .default('auto')
    .describe(
      'How many runs may be under way at once in the pool `default`. `auto` is one less than the cores, at least one: the edge needs a core too. Each version has a worker for each executor of its pool.',
    ),
  shadowExecutors: executors
    .default(1)
    .describe(
      'How many runs of shadows may be under way at once: they have workers of their own, so that nobody who waits for an answer waits for one.',
    ),
  pools: z
    .record(
      z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: 'expected a name of letters, digits, . _ -' }),
      z.strictObject({ executors: executors.default(1).describe('How many runs may be under way at once.') }),
    )
    .default({})
    .describe('Executors of their own, for models that must not wait for the others: on a GPU, or slow ones.'),
  worker: workerOptions.prefault({}).describe('The workers of models that have no `worker` of their own.'),
  watchdog: z
    .strictObject({
      factor: z.number().min(2).max(1_000).default(10).describe('How many times the expected time of its run.'),
      leastMs: z.number().min(100).max(600_000).default(1_000).describe('But never after less.'),
      mostMs: z
        .number()
        .min(100)
        .max(24 * 3_600_000)
        .default(60_000)
        .describe('And never after more; also for a run of which nothing is known yet.'),
      loadMs: z
        .number()
        .min(1_000)
        .max(24 * 3_600_000)
        .default(600_000)
        .describe('How long a worker may take to load its model and warm up.'),
      hungThreads: z
        .int()
        .min(0)
        .max(256)
        .default(2)
        .describe('So many threads of a version may hang before it is given no new ones: each holds a core.'),
    })
    .prefault({})
    .describe(
      'When a worker counts as hung. A process is killed then, and its batch tried once more; a thread is left alone, and its batch refused.',
    ),
  warmUpMs: z
    .number()
    .min(0)
    .max(600_000)
    .default(2_000)
    .describe('How long a worker may try batches of all sizes before it is given requests. 0 for not at all.'),
  unloadAfterS: z
    .number()
    .positive()
    .optional()
    .describe('Versions without requests for so long are unloaded, and loaded again when one comes. Without it never.'),
  memoryMb: z
    .int()
    .min(1)
    .max(16_777_216)
    .optional()
    .describe(
      'Memory for the models of all workers together, in MiB. Beyond it the version without requests for longest is unloaded. Without it there is no limit.',
    ),
})

export type RuntimeOptions = z.output<typeof runtimeOptions>
