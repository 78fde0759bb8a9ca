/**
 * What a version's author says about it. Nothing in it is needed to serve a graph; what it says is shown to people, and
 * what it maps lets versions from different exporters share one contract.
 */
import { readFile } from 'node:fs/promises'
import type * as z from 'zod'
import { readDocument, type Mistake } from '../core/document.ts'
import { manifestSchema } from './options.ts'

export type Manifest = z.output<typeof manifestSchema>

/** The manifest of a version that has none. */
export const noManifest: Manifest = manifestSchema.parse({})

export async function readManifest(file: string): Promise<{ value: Manifest } | { mistakes: Mistake[] }> {
  return readDocument(file, await readFile(file, 'utf8'), manifestSchema)
}
