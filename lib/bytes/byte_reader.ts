/**
 * Bounds-checked reading of binary formats. Integers are little-endian.
 *
 * Every failure is a {@link FormatError} that names the file and the offset in it, so that arbitrary
 * bytes can be fed in: nothing here reads outside its bytes, loops without consuming or allocates by
 * a length that was read.
 */
import { FormatError } from "../errors.ts";

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  /**
   * @param file what errors name
   * @param baseOffset offset in `file` of the first of `bytes`
   */
  constructor(bytes: Uint8Array, readonly file: string, readonly baseOffset = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Offset in the file of the next byte. */
  get offset(): number {
    return this.baseOffset + this.#at;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** A 64-bit number that must be at most 2^53 - 1. */
  safeU64(): number {
    const at = this.offset;
    return this.#safe(this.u64(), at);
  }

  /** Unsigned LEB128, at most 2^53 - 1, in its shortest form. */
  varint(): number {
    const first = this.#bytes[this.#at];
    if (first !== undefined && first < 0x80) {
      this.#at++;
      return first;
    }
    const at = this.offset;
    return this.#safe(this.bigVarint(), at);
  }

  /** Unsigned LEB128, at most 64 bits, in its shortest form. */
  bigVarint(): bigint {
    const at = this.offset;
    let low = 0; // bits 0–48: seven groups, exact in a double
    let scale = 1;
    for (let i = 0; i < 7; i++) {
      const byte = this.u8();
      low += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) return BigInt(this.#shortest(low, byte, i, at));
    }
    let value = BigInt(low);
    for (let i = 7; i < 10; i++) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) {
        if (value > 0xffff_ffff_ffff_ffffn) break;
        return this.#shortest(value, byte, i, at);
      }
    }
    throw new FormatError(this.file, at, "a varint of more than 64 bits");
  }

  /** A signed 64-bit number in zigzag coding. */
  zigzag(): bigint {
    const value = this.bigVarint();
    return (value >> 1n) ^ -(value & 1n);
  }

  /** The next `n` bytes, as a view of the source. */
  bytes(n: number): Uint8Array {
    const at = this.#take(n);
    return this.#bytes.subarray(at, at + n);
  }

  /** Refuses bytes behind the last field of `what`. */
  end(what: string): void {
    if (this.remaining > 0) {
      throw new FormatError(this.file, this.offset, `${this.remaining} bytes too many in ${what}`);
    }
  }

  #take(n: number): number {
    const at = this.#at;
    if (n > this.#bytes.length - at) {
      throw new FormatError(
        this.file,
        this.offset,
        `${n} bytes expected, ${this.#bytes.length - at} left`,
      );
    }
    this.#at = at + n;
    return at;
  }

  #safe(value: bigint, at: number): number {
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new FormatError(this.file, at, `number too large: ${value}`);
    }
    return Number(value);
  }

  #shortest<T>(value: T, lastByte: number, index: number, at: number): T {
    if (lastByte === 0 && index > 0) {
      throw new FormatError(this.file, at, "a varint that is not in its shortest form");
    }
    return value;
  }
}
