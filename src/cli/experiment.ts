/** `penstock experiment`: how far the experiment on a model has got, what is known, and what may be concluded, in words. */
import { askAdmin } from './admin-client.ts'

export interface ExperimentCommandOptions {
  readonly json: boolean
  readonly admin: string
}

export async function experiment(model: string, { json, admin }: ExperimentCommandOptions): Promise<void> {
  const path = `/admin/models/${encodeURIComponent(model)}/experiment`
  const { json: report } = await askAdmin(admin, { method: 'GET', path })
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : `${words(report as Report).join('\n')}\n`)
}

interface Counts {
  readonly control: number
  readonly treatment: number
}

interface Report {
  readonly model: string
  readonly kind: 'canary' | 'ab'
  readonly control: string
  readonly treatment: string
  readonly phase: string
  readonly step: number
  readonly steps: number
  readonly share: number
  readonly sinceMs: number
  readonly why: string
  readonly waitsFor: readonly string[]
  readonly sounding: readonly { readonly guard: string; readonly action: string; readonly words: string }[]
  readonly evidence: {
    readonly units: Counts
    readonly failed: Counts
    readonly failures: { readonly evidence: number; readonly soundsAt: number }
    readonly slowness: {
      readonly evidence: number
      readonly soundsAt: number
      readonly tolerate: number
      readonly medianRatios: { readonly control: number | null; readonly treatment: number | null }
    }
    readonly sampleRatio: {
      readonly treatment: number
      readonly expected: number
      readonly evidence: number
      readonly soundsAt: number
    }
    readonly proved: readonly number[]
    readonly isRare: boolean
  }
  readonly shadow: {
    readonly pairs: number
    readonly agreement?: number
    readonly low: number
    readonly samples: readonly { readonly requestId: string; readonly output: string }[]
  }
  readonly metrics: readonly { readonly words: string }[]
}

function words(report: Report): string[] {
  const { model, kind, control, treatment, phase, share, why, waitsFor, sounding, metrics } = report
  const what = kind === 'canary' ? 'canary' : 'A/B test'
  const gets = phase === 'steady' ? '' : `, ${treatment} gets ${percent(share)} of what it shares with ${control}`
  const since = new Date(report.sinceMs).toISOString().replace(/\.\d+Z$/, 'Z')
  return [
    `${model}: ${what} of ${treatment} against ${control}, ${phase} since ${since} (${why})${gets}`,
    ...(phase === 'ramping' ? [`  step ${report.step + 1} of ${report.steps}; waits for ${list(waitsFor)}`] : []),
    ...(phase === 'paused' || phase === 'frozen'
      ? [`  it stays where it is until \`penstock split ${model} --action resume\`, or promote, or rollback`]
      : []),
    ...(phase === 'rolled-back'
      ? ['  it stays so until the versions or the experiment change, or `penstock split --action release`']
      : []),
    ...failureWords(report),
    ...slownessWords(report),
    ...ratioWords(report),
    ...shadowWords(report),
    ...metrics.map((metric) => `  ${metric.words}`),
    ...sounding.map((alarm) => `  ALARM (${alarm.guard}, ${alarm.action}): ${alarm.words}`),
  ]
}

function failureWords({ evidence, control, treatment }: Report): string[] {
  const { units, failed, failures, proved, isRare } = evidence
  const rate = (arm: keyof Counts) =>
    units[arm] === 0 ? 'none yet' : `${failed[arm]} of ${units[arm]} (${percent(failed[arm] / units[arm])})`
  const good = isRare
    ? ' It is proved that the treatment hardly ever fails.'
    : proved.length > 0
      ? ` It is proved that the treatment does not fail ${Math.min(...proved)} times as often.`
      : ''
  return [
    `  failures: ${control} ${rate('control')}, ${treatment} ${rate('treatment')}. ${level(failures, 'the treatment fails more')}.${good}`,
  ]
}

function slownessWords({ evidence }: Report): string[] {
  const { slowness } = evidence
  const { control, treatment } = slowness.medianRatios
  if (control === null || treatment === null) return ['  compute time: too few runs to compare yet']
  const seen = `${(treatment / control).toFixed(2)} times the control's for batches of the same size (median)`
  const times = `${seen}, where ${slowness.tolerate} times and half a millisecond are put up with`
  return [`  compute time: ${times}. ${level(slowness, 'the treatment is slower')}.`]
}

function ratioWords({ evidence }: Report): string[] {
  const { treatment, expected } = evidence.sampleRatio
  const counts = `${treatment} units of the treatment where ${Math.round(expected)} were expected`
  return [`  sample ratio: ${counts}. ${level(evidence.sampleRatio, 'the arms do not get what they should')}.`]
}

function shadowWords({ shadow }: Report): string[] {
  if (shadow.pairs === 0 || shadow.agreement === undefined) return []
  const worst = shadow.samples.slice(0, 3).map(({ requestId, output }) => `${requestId} (${output})`)
  const samples = worst.length > 0 ? `; the worst were ${worst.join(', ')}` : ''
  return [
    `  shadow: ${percent(shadow.agreement)} of ${shadow.pairs} pairs agree (at least ${percent(shadow.low)} at 95 %)${samples}`,
  ]
}

/** How far evidence has got on its way to what is called proof here. */
function level({ evidence, soundsAt }: { readonly evidence: number; readonly soundsAt: number }, what: string): string {
  const part = Math.max(0, evidence / soundsAt)
  if (part >= 1) return `The evidence that ${what} is conclusive`
  if (part < 0.2) return `There is no evidence that ${what}`
  return `The evidence that ${what} is at ${Math.round(100 * part)} % of what it takes`
}

function list(parts: readonly string[]): string {
  return parts.length === 0 ? 'nothing: it goes on within a second' : parts.join(' and ')
}

function percent(part: number): string {
  return `${Number((100 * part).toFixed(2))} %`
}
