/**
 * JSON being written: into one piece of memory that all answers share, because none leaves it half full for another to
 * find, and from there into pieces of its own.
 */
const roomBytes = 131_072
/** So much is never written at once without asking. */
const reserveBytes = 32_768

/** In characters; what is longer is no faster so. */
const mostPlain = 64
const quote = 0x22
const backslash = 0x5c

const room = Buffer.allocUnsafeSlow(roomBytes)

export class JsonText {
  readonly memory: Buffer = room
  /** From here on it is time to stop. What is written without asking fits behind it. */
  readonly fullAt: number = roomBytes - reserveBytes
  /** Where in the memory the next byte goes. */
  at = 0
  readonly #pieces: (string | Uint8Array)[] = []
  /** Whether what is in the memory is ASCII. */
  #isAscii = true

  /** Something short, as UTF-8. */
  put({ bytes, isAscii }: Phrase): void {
    room.set(bytes, this.at)
    this.at += bytes.length
    this.#isAscii &&= isAscii
  }

  /** Something short of ASCII. */
  ascii(text: string): void {
    this.at += room.write(text, this.at, 'latin1')
  }

  /** A text of any length. */
  text(text: string): void {
    // UTF-8 has three bytes at most for each unit.
    if (3 * text.length > reserveBytes) {
      this.flush()
      this.#pieces.push(Buffer.from(text))
      return
    }
    const bytes = room.write(text, this.at, 'utf8')
    this.at += bytes
    this.#isAscii &&= bytes === text.length
  }

  /** A text as JSON has it, in quotes. */
  quoted(text: string): void {
    if (text.length > mostPlain || !this.#putPlain(text)) this.text(JSON.stringify(text))
  }

  /** Writes a short text of printable ASCII, which is its own form in JSON; says whether it is one. */
  #putPlain(text: string): boolean {
    let at = this.at
    room[at++] = quote
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit < 0x20 || unit > 0x7e || unit === quote || unit === backslash) return false
      room[at++] = unit
    }
    room[at++] = quote
    this.at = at
    return true
  }

  byte(byte: number): void {
    room[this.at++] = byte
  }

  /** Makes a piece of what is in the memory, so that others may have it. */
  flush(): void {
    if (this.at > 0) this.#pieces.push(Buffer.from(room.subarray(0, this.at)))
    this.at = 0
    this.#isAscii = true
  }

  /** All pieces. A small one is a string, because it leaves with the head in one write then. */
  finish(): (string | Uint8Array)[] {
    if (this.#pieces.length === 0 && this.#isAscii && this.at < this.fullAt)
      return [room.toString('latin1', 0, this.at)]
    this.flush()
    return this.#pieces
  }
}

/** What is written again and again. */
export interface Phrase {
  readonly bytes: Uint8Array
  readonly isAscii: boolean
}

export function phrase(text: string): Phrase {
  const bytes = Buffer.from(text)
  return { bytes, isAscii: bytes.length === text.length }
}
