/** Bytes that come as they like, in the lengths that are asked for. */
import { FormatError } from "../errors.ts";

/** Reads a stream in order. The owner calls {@link close}. */
export class ExactSource {
  /** Bytes that have been taken. */
  offset = 0;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  /** @param name what errors call the stream */
  constructor(chunks: AsyncIterable<Uint8Array>, readonly name: string) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /**
   * At least one byte, at most `most`; valid until the next call.
   * @param what is being read
   * @throws {FormatError} where there are no more
   */
  async some(most: number, what: string): Promise<Uint8Array> {
    if (await this.atEnd()) {
      const detail = `the pack is cut off here, in ${what}. Copy the pack again`;
      throw new FormatError(this.name, this.offset, detail);
    }
    const bytes = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(bytes.length);
    this.offset += bytes.length;
    return bytes;
  }

  /** `length` bytes, a copy. @throws {FormatError} where there are fewer */
  async take(length: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      const some = await this.some(length - filled, what);
      bytes.set(some, filled);
      filled += some.length;
    }
    return bytes;
  }

  /** The next bytes without taking them: `length`, or all that there are. */
  async peek(length: number): Promise<Uint8Array> {
    const chunks = [this.#rest];
    let gathered = this.#rest.length;
    while (gathered < length) {
      const next = await this.#chunks.next();
      if (next.done) break;
      chunks.push(next.value);
      gathered += next.value.length;
    }
    const bytes = new Uint8Array(gathered);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    this.#rest = bytes;
    return bytes.subarray(0, length);
  }

  /** Whether there is nothing more. */
  async atEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return true;
      this.#rest = next.value;
    }
    return false;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
