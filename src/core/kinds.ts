/**
 * The mechanism behind every closed list of alternatives (batching policies now; others as they come): a kind is a name
 * in the configuration, the options that go with it, and the function that builds it. One list yields the schema, the
 * type and the constructor, so to add a kind is to write its file and to add its name to the list.
 */
import * as z from 'zod'

type Options<N extends string, S extends z.ZodRawShape> = z.ZodObject<S & { kind: z.ZodLiteral<N> }, z.core.$strict>
interface AnyKind {
  readonly name: string
  readonly options: z.ZodObject
  readonly create: (options: never) => unknown
}

/** One way of doing something: its name in the configuration, its options, and how it is built. */
export function kind<const N extends string, S extends z.ZodRawShape, T>(
  name: N,
  shape: S,
  create: (options: z.output<Options<N, S>>) => T,
) {
  return { name, options: z.strictObject({ kind: z.literal(name), ...shape }) as Options<N, S>, create }
}

/** A closed list of kinds: one schema for the configuration, one function that builds the kind it names. */
export function kinds<const L extends readonly [AnyKind, ...AnyKind[]]>(...list: L) {
  type Chosen = z.output<L[number]['options']> & { kind: string }
  type Built = ReturnType<L[number]['create']>
  const byName = new Map(list.map((each) => [each.name, each.create as (options: Chosen) => Built]))
  const options = z.discriminatedUnion('kind', list.map((each) => each.options) as never)
  return {
    options: options as unknown as z.ZodType<Chosen, Chosen>,
    create: (chosen: Chosen): Built => byName.get(chosen.kind)!(chosen),
  }
}
