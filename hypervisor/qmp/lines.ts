/** Cuts what a QMP socket delivers into lines: bytes in any portions come in, JSON texts go out. */
import { ProtocolError } from "../../lib/errors.ts";

/** A line is a whole QMP message; the longest ones are texts of the human monitor (`info mtree`). */
export const LINE_BYTES_MAX = 16 << 20;

const NEWLINE = 0x0a;

/** Reads lines; holds at most one line and one portion. */
export class LineReader {
  readonly #source: Pick<Deno.Conn, "read">;
  readonly #portion = new Uint8Array(64 << 10);
  readonly #ready: string[] = [];
  #parts: Uint8Array[] = [];
  #partBytes = 0;

  constructor(source: Pick<Deno.Conn, "read">) {
    this.#source = source;
  }

  /**
   * The next line without its end; `undefined` at the end of the stream. A last line that was cut
   * off is dropped: it is no message.
   * @throws {ProtocolError} on a line above {@link LINE_BYTES_MAX}
   */
  async next(): Promise<string | undefined> {
    while (true) {
      const line = this.#ready.shift();
      if (line !== undefined) return line;
      const n = await this.#source.read(this.#portion);
      if (n === null) return undefined;
      this.#cut(this.#portion.subarray(0, n));
    }
  }

  #cut(bytes: Uint8Array): void {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      this.#keep(bytes.slice(start, end));
      const text = this.#take().trim();
      if (text !== "") this.#ready.push(text);
      start = end + 1;
    }
    if (start < bytes.length) this.#keep(bytes.slice(start));
  }

  #keep(part: Uint8Array): void {
    this.#partBytes += part.length;
    if (this.#partBytes > LINE_BYTES_MAX) {
      throw new ProtocolError(`QMP: a line longer than ${LINE_BYTES_MAX} bytes`);
    }
    this.#parts.push(part);
  }

  #take(): string {
    const decoder = new TextDecoder();
    const text = this.#parts.map((part) => decoder.decode(part, { stream: true })).join("");
    this.#parts = [];
    this.#partBytes = 0;
    return text + decoder.decode();
  }
}
