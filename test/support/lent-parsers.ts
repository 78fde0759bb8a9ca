/** Whether the lean front gives its parsers back. */
import { Parser } from '../../src/edge/http1/lean/parser.ts'

/** Parsers of the lean front that are lent: each is to be given back once. */
export function watchParsers(): { readonly lent: () => number; readonly problems: readonly string[]; stop(): void } {
  const lent = new Set<Parser>()
  const problems: string[] = []
  // Put back as they were when the watch is over.
  // oxlint-disable-next-line typescript/unbound-method
  const [lend, giveBack] = [Parser.lend, Parser.prototype.giveBack]
  Parser.lend = () => {
    const parser = lend.call(Parser)
    if (lent.has(parser)) problems.push('a parser is lent twice')
    lent.add(parser)
    return parser
  }
  Parser.prototype.giveBack = function (this: Parser): void {
    if (!lent.delete(this)) problems.push('a parser is given back twice')
    giveBack.call(this)
  }
  const stop = () => {
    Parser.lend = lend
    Parser.prototype.giveBack = giveBack
  }
  return { lent: () => lent.size, problems, stop }
}
