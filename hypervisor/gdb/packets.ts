/**
 * The packets of gdb's remote serial protocol: bytes of a stream come in, whole packets go out, and back.
 *
 * ```
 *             '$' '%'             '#'            hex digit         hex digit
 *  between ───────────▶ body ───────────▶ sum ───────────▶ sum ───────────▶ between (packet, or bad)
 *  '+' ack  '-' nack  0x03 interrupt      anything else between packets is line noise and is skipped
 * ```
 *
 * A payload is a string of bytes (each character 0–255): most packets are text, some hold binary data. It
 * is the payload proper, without escapes (`}` and the byte XOR 0x20) and run lengths (`*` and a count).
 * Source: gdb manual, appendix E.1 "Overview" of the Remote Serial Protocol.
 */
import { ProtocolError } from "../../lib/errors.ts";

/** What a stream holds. `bad` is a packet with a wrong checksum or form: the answer to it is `-`. */
export type RspItem =
  | { readonly kind: "packet" | "notification"; readonly payload: string }
  | { readonly kind: "ack" | "nack" | "interrupt" | "bad" };

/** gdb itself never asks for more than 16 KiB at once; QEMU's stub says 4 KiB. */
export const PACKET_BYTES_MAX = 64 * 1024;

const DOLLAR = 0x24;
const PERCENT = 0x25;
const HASH = 0x23;
const ESCAPE = 0x7d;
const STAR = 0x2a;
const ESCAPE_XOR = 0x20;
/** A repeat count is sent as a printable character: this much more than the number of repeats. */
const REPEAT_OFFSET = 29;
const REPEAT_MIN = 3;
const REPEAT_MAX = 126 - REPEAT_OFFSET;

const BETWEEN: Readonly<Record<number, RspItem>> = {
  0x2b: { kind: "ack" },
  0x2d: { kind: "nack" },
  0x03: { kind: "interrupt" },
};
const BAD: RspItem = { kind: "bad" };

/** Cuts a stream of bytes into its items, whatever the pieces it arrives in. */
export class PacketReader {
  #state: "between" | "body" | "sum" = "between";
  #kind: "packet" | "notification" = "packet";
  #body: number[] = [];
  #sum = "";

  /** @param bytesMax the longest packet accepted, on the wire and unpacked */
  constructor(private readonly bytesMax = PACKET_BYTES_MAX) {}

  /**
   * The items that `bytes` complete.
   * @throws {ProtocolError} where a packet is longer than accepted; the stream is of no use then
   */
  push(bytes: Uint8Array): RspItem[] {
    const items: RspItem[] = [];
    for (const byte of bytes) {
      const item = this.#take(byte);
      if (item !== undefined) items.push(item);
    }
    return items;
  }

  #take(byte: number): RspItem | undefined {
    if (this.#state === "between") {
      if (byte !== DOLLAR && byte !== PERCENT) return BETWEEN[byte];
      this.#begin(byte);
    } else if (this.#state === "sum") {
      this.#sum += String.fromCharCode(byte);
      if (this.#sum.length === 2) return this.#finish();
    } else if (byte === HASH) {
      this.#state = "sum";
      this.#sum = "";
    } else if (byte === DOLLAR) {
      this.#begin(byte); // never part of a body: the sender gave up the packet before and began anew
    } else {
      if (this.#body.length === this.bytesMax) throw this.#tooLong();
      this.#body.push(byte);
    }
    return undefined;
  }

  #begin(byte: number): void {
    this.#state = "body";
    this.#kind = byte === DOLLAR ? "packet" : "notification";
    this.#body = [];
  }

  #finish(): RspItem {
    this.#state = "between";
    const sum = /^[0-9a-fA-F]{2}$/.test(this.#sum) ? parseInt(this.#sum, 16) : -1;
    const payload = sum === checksum(this.#body) ? this.#unpack() : undefined;
    return payload === undefined ? BAD : { kind: this.#kind, payload };
  }

  /** Undoes escapes and run lengths; nothing where they are malformed. */
  #unpack(): string | undefined {
    const out: number[] = [];
    for (let i = 0; i < this.#body.length; i++) {
      const byte = this.#body[i]!;
      if (byte === ESCAPE || byte === STAR) {
        const next = this.#body[++i];
        if (next === undefined) return undefined;
        if (byte === ESCAPE) {
          out.push(next ^ ESCAPE_XOR);
          continue;
        }
        const repeats = next - REPEAT_OFFSET;
        if (out.length === 0 || repeats < REPEAT_MIN || repeats > REPEAT_MAX) return undefined;
        if (out.length + repeats > this.bytesMax) throw this.#tooLong();
        for (let n = 0; n < repeats; n++) out.push(out.at(-1)!);
      } else {
        out.push(byte);
      }
    }
    return bytesToText(out);
  }

  #tooLong(): ProtocolError {
    return new ProtocolError(`gdb protocol: a packet of more than ${this.bytesMax} bytes`);
  }
}

/**
 * A packet's bytes on the wire. Nothing is run-length encoded, which no reader asks for.
 * @throws {RangeError} where `payload` has a character that is no byte
 */
export function encodePacket(payload: string, start: "$" | "%" = "$"): Uint8Array {
  const body: number[] = [];
  for (let i = 0; i < payload.length; i++) {
    const byte = payload.charCodeAt(i);
    if (byte > 0xff) throw new RangeError(`character ${byte} in a gdb packet is no byte`);
    if (byte === HASH || byte === DOLLAR || byte === ESCAPE || byte === STAR) {
      body.push(ESCAPE, byte ^ ESCAPE_XOR);
    } else {
      body.push(byte);
    }
  }
  const sum = checksum(body).toString(16).padStart(2, "0");
  return Uint8Array.of(start.charCodeAt(0), ...body, HASH, sum.charCodeAt(0), sum.charCodeAt(1));
}

/** A text as gdb's console packets carry it: its UTF-8 bytes in hex. */
export function hexOfText(text: string): string {
  return [...new TextEncoder().encode(text)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/** The text behind {@link hexOfText}; what is no hex is left out. */
export function textOfHex(hex: string): string {
  const pairs = hex.match(/[0-9a-fA-F]{2}/g) ?? [];
  return new TextDecoder().decode(Uint8Array.from(pairs, (pair) => parseInt(pair, 16)));
}

function checksum(body: readonly number[]): number {
  let sum = 0;
  for (const byte of body) sum = (sum + byte) & 0xff;
  return sum;
}

function bytesToText(bytes: readonly number[]): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}
