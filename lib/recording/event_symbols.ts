/**
 * Rr events as symbols: what the event model codes, and what it is turned back into.
 *
 * ```
 * 00 0007a0f5 │ 1f │ 1d 00000002e53a6f11        bytes of events
 * 0           │ 31 │ 29                         symbols: the kind bytes
 * 500981      │    │ 2 and 0xe53a6f11           values of those that have one
 * ```
 * This module knows how long QEMU's frequent events are and nothing else of them, and that only to
 * compress well: bytes that it does not understand become literals, so any bytes come back as they were.
 */
import { FormatError } from "../errors.ts";

/** The symbol of one byte that belongs to no event known here; its value is the byte. */
export const LITERAL = 63;
export const SYMBOL_BITS = 6;

/** What stands behind a kind byte. */
export const Shape = { none: 0, u32: 1, u64: 2, literal: 3 } as const;

/** By symbol; FORMAT.md has the list. Symbols that are missing here become literals. */
export const SHAPES = new Uint8Array(64).fill(Shape.literal);
/** Bytes of an event by symbol, 1 for a literal. */
const BYTES = new Uint8Array(64).fill(1);

const INSTRUCTION = 0;
const FIRST_KINDS_WITHOUT_BODY = [1, 2, 6, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];
const LAST_KINDS_WITHOUT_BODY = [30, 31, 32, 33, 34, 35, 36, 37, 38, 39];
const KINDS_WITH_U64 = [3, 4, 8, 22, 25, 28, 29];
SHAPES[INSTRUCTION] = Shape.u32;
BYTES[INSTRUCTION] = 5;
for (const kind of [...FIRST_KINDS_WITHOUT_BODY, ...LAST_KINDS_WITHOUT_BODY]) {
  SHAPES[kind] = Shape.none;
}
for (const kind of KINDS_WITH_U64) {
  SHAPES[kind] = Shape.u64;
  BYTES[kind] = 9;
}

/** Where the u32 length of an event with an array stands, by kind: CHAR_READ, READ_ALL, RANDOM. */
const ARRAY_LENGTH_AT = new Map([[7, 2], [23, 1], [27, 5]]);

/** The most symbols that are coded together. */
export const SYMBOLS_MAX = 1 << 14;

/** The symbols of a part of a block's events. Made to be reused. */
export class EventSymbols {
  /** Of all arrays only the first `count` elements mean anything. */
  count = 0;
  readonly symbols = new Uint8Array(SYMBOLS_MAX);
  /** The value, or its lower 32 bits. */
  readonly low = new Int32Array(SYMBOLS_MAX);
  /** The upper 32 bits of a u64. */
  readonly high = new Int32Array(SYMBOLS_MAX);

  /** Takes the symbols of `bytes` from `at` on, as many as there is room for. Returns where they end. */
  parse(bytes: Uint8Array, at: number): number {
    const { symbols, low, high } = this;
    const end = bytes.length;
    let count = 0;
    /** Before this all bytes are literals. */
    let literalEnd = 0;
    for (; at < end && count < SYMBOLS_MAX; count++) {
      const kind = bytes[at]!;
      const shape = kind < LITERAL && at >= literalEnd ? SHAPES[kind]! : Shape.literal;
      if (shape === Shape.literal || BYTES[kind]! > end - at) {
        symbols[count] = LITERAL;
        low[count] = kind;
        if (at >= literalEnd) literalEnd = at + arrayBytes(bytes, at);
        at++;
        continue;
      }
      symbols[count] = kind;
      if (shape === Shape.u32) low[count] = bigEndian(bytes, at + 1);
      else if (shape === Shape.u64) {
        high[count] = bigEndian(bytes, at + 1);
        low[count] = bigEndian(bytes, at + 5);
      }
      at += BYTES[kind]!;
    }
    this.count = count;
    return at;
  }

  /**
   * Puts the bytes of the symbols into `bytes` from `at` on. Returns where they end.
   * @throws {FormatError} naming `file` where there is no room for them
   */
  join(bytes: Uint8Array, at: number, file: string): number {
    const { symbols, low, high, count } = this;
    for (let i = 0; i < count; i++) {
      const symbol = symbols[i]!;
      if (BYTES[symbol]! > bytes.length - at) {
        throw new FormatError(file, at, `more events than ${bytes.length} bytes hold`);
      }
      const shape = SHAPES[symbol]!;
      bytes[at] = shape === Shape.literal ? low[i]! : symbol;
      if (shape === Shape.u32) putBigEndian(bytes, at + 1, low[i]!);
      else if (shape === Shape.u64) {
        putBigEndian(bytes, at + 1, high[i]!);
        putBigEndian(bytes, at + 5, low[i]!);
      }
      at += BYTES[symbol]!;
    }
    return at;
  }
}

/** Bytes of the event with an array at `bytes[at]`; 1 where it is none. */
function arrayBytes(bytes: Uint8Array, at: number): number {
  const lengthAt = ARRAY_LENGTH_AT.get(bytes[at]!);
  if (lengthAt === undefined || at + lengthAt + 4 > bytes.length) return 1;
  return lengthAt + 4 + (bigEndian(bytes, at + lengthAt) >>> 0);
}

function bigEndian(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!;
}

function putBigEndian(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
