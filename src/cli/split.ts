/** `penstock split`: shows the split of a model, and changes it. */
import { askAdmin } from './admin-client.ts'
import { failWith } from './report.ts'

export interface SplitCommandOptions {
  readonly dryRun: boolean
  readonly reset: boolean
  readonly action?: string
  readonly json: boolean
  readonly admin: string
}

interface View {
  readonly model: string
  readonly generation: number
  readonly version: string
  readonly arms: readonly {
    readonly arm: string
    readonly version: string
    readonly weight: number
    readonly share: number
    readonly configured: number
  }[]
  readonly shadows: readonly { readonly version: string; readonly share: number }[]
  readonly setByHand: object | null
  readonly experiment: { readonly phase: string; readonly why: string } | null
}

export async function split(model: string, edits: readonly string[], options: SplitCommandOptions): Promise<void> {
  const { dryRun, reset, action, admin } = options
  const path = `/admin/models/${encodeURIComponent(model)}/split`
  const { json: before, etag } = await askAdmin(admin, { method: 'GET', path })
  const isEdit = edits.length > 0 || reset || action !== undefined
  if (!isEdit) return show(before as View, options)
  if ((before as View).arms.length === 0) failWith(`${model} has no split to change: give it one in the configuration`)
  const weights = edits.length > 0 ? weightsOf(edits, before as View) : undefined
  const body = { weights, reset: reset || undefined, action, dryRun: dryRun || undefined }
  const headers: Record<string, string> = etag === undefined ? {} : { 'if-match': etag }
  const { json } = await askAdmin(admin, { method: 'PATCH', path, headers, body })
  if (options.json) return print(JSON.stringify(json))
  print(`${dryRun ? 'this would follow' : 'done'}: ${json.plan.words}`)
  if (!dryRun) show(json.split as View, options)
}

/** `v2=10` is a weight, `v2=10%` a share of all, for which the others make room. */
function weightsOf(edits: readonly string[], { arms }: View): Record<string, number> {
  const sum = arms.reduce((total, { weight }) => total + weight, 0)
  const weights: Record<string, number> = {}
  for (const edit of edits) {
    const [, name = '', amount = '', percent] = /^([^=]+)=(\d+(?:\.\d+)?)(%?)$/.exec(edit) ?? []
    if (name === '')
      failWith(`${edit}: expected an arm or version and its weight from 0, such as canary=5, or canary=5%`)
    if (Object.hasOwn(weights, name)) failWith(`${edit}: ${name} has a weight already`)
    if (percent !== '%') weights[name] = Number(amount)
    else {
      const share = Number(amount) / 100
      const others = arms.filter(({ arm, version }) => arm !== name && version !== name)
      const rest = others.reduce((total, { weight }) => total + weight, 0)
      if (share > 1) failWith(`${edit}: there is no more than 100 %`)
      if (edits.length > 1) failWith(`${edit}: one share at a time, or weights for all`)
      if (share < 1 && rest === 0) failWith(`${edit}: the other arms have no weight to share the rest: set theirs too`)
      weights[name] = share * sum
      for (const { arm, weight } of others) weights[arm] = rest === 0 ? 0 : (weight / rest) * (1 - share) * sum
    }
  }
  return weights
}

function show(view: View, { json }: SplitCommandOptions): void {
  if (json) return print(JSON.stringify(view))
  const { model, generation, version, arms, shadows, setByHand, experiment } = view
  if (arms.length === 0) return print(`${model} has no split: version ${version} answers requests that name none`)
  print(`${model}, generation ${generation}${setByHand ? ', weights set by hand' : ''}`)
  for (const arm of arms) {
    const weight = `weight ${short(arm.weight)}${arm.weight === arm.configured ? '' : ` (configured ${short(arm.configured)})`}`
    print(`  ${arm.arm}: version ${arm.version}, ${short(100 * arm.share)} %, ${weight}`)
  }
  for (const shadow of shadows) print(`  shadow: version ${shadow.version} on ${short(100 * shadow.share)} %`)
  if (experiment) print(`  experiment: ${experiment.phase}, ${experiment.why}`)
}

function short(value: number): string {
  return String(Number(value.toFixed(2)))
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
