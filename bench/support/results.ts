/** bench/RESULTS.md: a section for each bench, replaced whenever that bench has run. */
import { readFile, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import type { Report, Table } from './bench.ts'
import { outputOf, repository } from './processes.ts'

export interface Ran {
  readonly name: string
  /** What `commit` said before the run: colleagues and editors go on while it lasts. */
  readonly commit: string
  readonly question: string
  readonly report: Report
}

const file = join(repository, 'bench/RESULTS.md')
const preface = `# Results

Written by the benches (\`npm run bench\`); edits are lost. Every ratio is between two things measured in turns in one run,
the median of neighbours with quartiles and extremes, because machines are noisy: absolute figures do not travel.
`

export async function record(ran: Ran): Promise<void> {
  const before = await readFile(file, 'utf8').catch(() => '')
  const sections = new Map(
    before
      .split(/^(?=## )/m)
      .filter((text) => text.startsWith('## '))
      .map((text) => [nameOf(text), text]),
  )
  sections.set(ran.name, sectionOf(ran))
  await writeFile(file, `${[preface, ...sections.values()].map((text) => text.trimEnd()).join('\n\n')}\n`)
}

function nameOf(section: string): string {
  return section.slice(3, section.indexOf('\n')).trim()
}

function sectionOf({ name, commit, question, report }: Ran): string {
  const { targets, pass, table, tables = [], notes } = report
  const titled = tables.map((each) => `${each.title}:\n\n${tableText(each.table)}`)
  const goals = Object.entries(targets).map(([figure, target]) => `${figure} ${target}`)
  return `## ${name}

${question}

- Command: \`npm run bench -- ${name}\`
- Commit: ${commit}
- Date: ${new Date().toISOString().slice(0, 16)}Z
- Machine: ${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} cores, Node ${process.versions.node}
- Target: ${goals.length === 0 ? 'none' : `${goals.join('; ')}: **${pass ? 'hit' : 'missed'}**`}

${[tableText(table), ...titled, ...notes].join('\n\n')}
`
}

function tableText({ head, rows }: Table): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** The commit in the working tree, and whether anything differs from it. */
export function commitNow(): string {
  // What the benches write themselves does not make the code another.
  const dirty = outputOf('git', 'status', '--porcelain', '--', '.', ':!bench/RESULTS.md') !== ''
  return `${outputOf('git', 'rev-parse', '--short', 'HEAD')}${dirty ? '-dirty' : ''}`
}
