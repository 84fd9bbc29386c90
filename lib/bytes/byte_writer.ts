/**
 * A growable buffer that binary formats are written into. Integers are little-endian.
 *
 * Made to be reused: `reset()` keeps the memory, so a writer in the hot path allocates only while it
 * grows. Values out of range are broken invariants of the caller and throw plain `Error`.
 */
export class ByteWriter {
  #buffer: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  constructor(initialBytes = 256) {
    this.#buffer = new Uint8Array(initialBytes);
    this.#view = new DataView(this.#buffer.buffer);
  }

  get length(): number {
    return this.#length;
  }

  /** Forgets the contents, keeps the memory. */
  reset(): void {
    this.#length = 0;
  }

  /** What was written so far; valid until the next write. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(0, this.#length);
  }

  u8(value: number): void {
    const at = this.#reserve(1, value, 0xff);
    this.#buffer[at] = value;
  }

  u16(value: number): void {
    const at = this.#reserve(2, value, 0xffff);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.#reserve(4, value, 0xffff_ffff);
    this.#view.setUint32(at, value, true);
  }

  u64(value: bigint): void {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new Error(`not a u64: ${value}`);
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value, true);
  }

  /** Unsigned LEB128 of an integer from 0 to 2^53 - 1. */
  varint(value: number): void {
    let at = this.#reserve(8, value, Number.MAX_SAFE_INTEGER);
    const buffer = this.#buffer;
    while (value > 0x7fff_ffff) {
      buffer[at++] = (value % 128) | 0x80;
      value = Math.floor(value / 128);
    }
    while (value > 0x7f) {
      buffer[at++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    buffer[at++] = value;
    this.#length = at;
  }

  /** Unsigned LEB128 of an unsigned 64-bit number. */
  bigVarint(value: bigint): void {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new Error(`not a u64: ${value}`);
    while (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      this.u8(Number(value & 0x7fn) | 0x80);
      value >>= 7n;
    }
    this.varint(Number(value));
  }

  /** A signed 64-bit number, zigzag-coded so that small magnitudes take few bytes. */
  zigzag(value: bigint): void {
    this.bigVarint(BigInt.asUintN(64, (value << 1n) ^ (value >> 63n)));
  }

  /** Appends `source[start, end)`. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    const at = this.#grow(end - start);
    this.#buffer.set(
      start === 0 && end === source.length ? source : source.subarray(start, end),
      at,
    );
  }

  /** Checks `value` against `max` and makes room; `#length` moves on by `size`. */
  #reserve(size: number, value: number, max: number): number {
    if (!Number.isInteger(value) || value < 0 || value > max) {
      throw new Error(`not an integer from 0 to ${max}: ${value}`);
    }
    return this.#grow(size);
  }

  /** Makes room; comes before any use of `#buffer` and `#view`, which it may replace. */
  #grow(size: number): number {
    const at = this.#length;
    if (at + size > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(this.#buffer.length * 2, at + size));
      larger.set(this.view());
      this.#buffer = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#length = at + size;
    return at;
  }
}
