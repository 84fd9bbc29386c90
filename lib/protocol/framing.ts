/**
 * Messages as bytes, "Framing" in PROTOCOL.md:
 *
 * ```
 * length u32 BE │ kind u8 │ body, `length` bytes
 * ```
 *
 * The decoder takes a connection's bytes in any portions. It holds one unfinished message at most, never
 * allocates by a length that was only announced, and refuses a length as soon as it has the five bytes that
 * tell it.
 */
import { concat } from "../bytes/concat.ts";
import { ProtocolError } from "../errors.ts";
import type { Message } from "./channel.ts";

/** The kind of JSON messages; all others are binary. */
export const JSON_KIND = 0;
export const JSON_BYTES_MAX = 1 << 20;
export const BINARY_BYTES_MAX = 256 << 10;
export const HEADER_BYTES = 5;

/** The most bytes that a body of this kind may have. */
export function bodyBytesMax(kind: number): number {
  return kind === JSON_KIND ? JSON_BYTES_MAX : BINARY_BYTES_MAX;
}

/** @throws {ProtocolError} where there is no such kind or the body is above its bound */
export function encodeMessage(kind: number, body: Uint8Array): Uint8Array {
  if (!Number.isInteger(kind) || kind < 0 || kind > 255) {
    throw new ProtocolError(`Cannot send a message of kind ${kind}: kinds are 0 to 255`);
  }
  checkLength(kind, body.length);
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length);
  bytes[4] = kind;
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/** Cuts a stream of bytes into messages. After an error it refuses everything. */
export class MessageDecoder {
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #parts: Uint8Array[] = [];
  /** Bytes of the body that are still to come; counts only once the header is whole. */
  #missing = 0;
  #failed: ProtocolError | undefined;

  /** @param bytesMax no body is longer, whatever its kind */
  constructor(private readonly bytesMax = Infinity) {}

  /**
   * Takes the next bytes and gives the messages that are whole now. Keeps no reference to `bytes`.
   * @throws {ProtocolError} on a length above the bound of its kind; `messages` then holds those before it
   */
  push(bytes: Uint8Array, messages: Message[] = []): Message[] {
    if (this.#failed) throw this.#failed;
    let at = 0;
    while (at < bytes.length || this.#complete) {
      if (this.#complete) {
        messages.push(this.#take());
      } else if (this.#headerBytes < HEADER_BYTES) {
        this.#header[this.#headerBytes++] = bytes[at++]!;
        if (this.#headerBytes === HEADER_BYTES) this.#begin();
      } else {
        // Not `slice`: of a Node Buffer that is no copy.
        const part = new Uint8Array(bytes.subarray(at, at + this.#missing));
        this.#parts.push(part);
        this.#missing -= part.length;
        at += part.length;
      }
    }
    return messages;
  }

  /** Whether the bytes so far end in the middle of a message. */
  get inMessage(): boolean {
    return this.#headerBytes > 0;
  }

  get #complete(): boolean {
    return this.#headerBytes === HEADER_BYTES && this.#missing === 0;
  }

  #begin(): void {
    const length = new DataView(this.#header.buffer).getUint32(0);
    try {
      checkLength(this.#header[4]!, length, this.bytesMax);
    } catch (error) {
      this.#failed = error as ProtocolError;
      throw error;
    }
    this.#missing = length;
  }

  #take(): Message {
    const parts = this.#parts;
    this.#parts = [];
    this.#headerBytes = 0;
    return { kind: this.#header[4]!, body: parts.length === 1 ? parts[0]! : concat(parts) };
  }
}

function checkLength(kind: number, length: number, bytesMax = Infinity): void {
  const max = Math.min(bodyBytesMax(kind), bytesMax);
  if (length > max) {
    throw new ProtocolError(
      `A message of kind ${kind} with ${length} bytes is above the bound of ${max} bytes`,
    );
  }
}
