/**
 * An adaptive binary range coder: decisions with estimated probabilities in, bytes out, and back.
 *
 * ```
 * model ─▶ bit(table, slot, decision) ─▶ RangeEncoder ─▶ bytes ─▶ RangeDecoder ─▶ the same decisions
 * ```
 * The interval arithmetic is that of LZMA's coder (range of 32 bits, carried into what is written);
 * probabilities have 16 bits and learn fast at first. A model is written once, against {@link BitCoder}:
 * it asks for each decision, and gives what an encoder is to write. Exact rules: `FORMAT.md`.
 */
import { FormatError } from "../errors.ts";

/** A slot holds the probability of a 0, in 1/65536, above {@link COUNT_BITS} bits of its age. */
const COUNT_BITS = 5;
const AGE_MAX = (1 << COUNT_BITS) - 1;
const PROBABILITY_HALF = 1 << 15;
/** How far a probability moves towards what came, by its age, in 1/16384. */
const RATES = Int32Array.from({ length: AGE_MAX + 1 }, (_, age) => Math.round(16384 / (age + 1.5)));
const RATE_BITS = 14;
const PROBABILITY_BITS = 16;
/** Below this the range is multiplied by 256, and a byte moves. */
const RANGE_MIN = 1 << 24;
/** The most bits that one step of equal probabilities takes. */
const DIRECT_BITS_MAX = 16;
const FLUSH_BYTES = 4;

/** `slots` probabilities that have seen nothing yet. */
export function newProbabilities(slots: number): Int32Array {
  return new Int32Array(slots).fill(PROBABILITY_HALF << COUNT_BITS);
}

/** Takes `table` back to what {@link newProbabilities} made. */
export function resetProbabilities(table: Int32Array): void {
  table.fill(PROBABILITY_HALF << COUNT_BITS);
}

/** A slot's `state` once its decision has been `bit`: nearer to what came, and older. */
function learned(state: number, bit: number): number {
  const probability = state >>> COUNT_BITS;
  const age = state & AGE_MAX;
  const older = age < AGE_MAX ? 1 : 0;
  if (bit === 0) {
    const step = (0xffff - probability) * RATES[age]! >> RATE_BITS;
    return state + (step << COUNT_BITS) + older;
  }
  const step = (probability - 1) * RATES[age]! >> RATE_BITS;
  return state - (step << COUNT_BITS) + older;
}

/** What a model talks to. An encoder returns what it was given, a decoder what it read. */
export interface BitCoder {
  readonly decoding: boolean;
  /** One decision, 0 or 1, whose probability is `table[slot]`. */
  bit(table: Int32Array, slot: number, bit: number): number;
  /** `bits` (0–32) decisions of equal probability: a number below 2^bits. */
  direct(value: number, bits: number): number;
}

export class RangeEncoder implements BitCoder {
  readonly decoding = false;
  #bytes = new Uint8Array(1 << 12);
  #length = 0;
  /** 32 bits each, kept as signed integers, which V8 stores without allocating. */
  #low = 0;
  #range = -1;

  bit(table: Int32Array, slot: number, bit: number): number {
    const state = table[slot]!;
    const probability = state >>> COUNT_BITS;
    const range = this.#range;
    const bound = Math.imul(range >>> PROBABILITY_BITS, probability);
    table[slot] = learned(state, bit);
    if (bit === 0) this.#range = bound;
    else {
      this.#add(bound);
      this.#range = range - bound | 0;
    }
    while (this.#range >>> 0 < RANGE_MIN) this.#shift();
    return bit;
  }

  direct(value: number, bits: number): number {
    if (bits > DIRECT_BITS_MAX) {
      this.#equal(value >>> DIRECT_BITS_MAX, bits - DIRECT_BITS_MAX);
      this.#equal(value & 0xffff, DIRECT_BITS_MAX);
    } else if (bits > 0) this.#equal(value, bits);
    return value;
  }

  /** What was coded since the last call; valid until the next one. The coder starts over. */
  finish(): Uint8Array {
    this.#reserve(FLUSH_BYTES);
    for (let i = 0; i < FLUSH_BYTES; i++) {
      this.#bytes[this.#length++] = this.#low >>> 24;
      this.#low <<= 8;
    }
    const coded = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    this.#low = 0;
    this.#range = -1;
    return coded;
  }

  #equal(value: number, bits: number): void {
    const part = this.#range >>> bits;
    this.#add(Math.imul(part, value));
    this.#range = part;
    while (this.#range >>> 0 < RANGE_MIN) this.#shift();
  }

  #add(bound: number): void {
    const sum = (this.#low >>> 0) + (bound >>> 0);
    if (sum > 0xffff_ffff) {
      for (let at = this.#length - 1; ++this.#bytes[at]! === 256; at--); // wraps to 0 and carries on
    }
    this.#low = sum | 0;
  }

  #shift(): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = this.#low >>> 24;
    this.#low <<= 8;
    this.#range <<= 8;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(this.#bytes.length * 2);
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}

/** Reads what {@link RangeEncoder.finish} returned. */
export class RangeDecoder implements BitCoder {
  readonly decoding = true;
  readonly #bytes: Uint8Array;
  #at = 0;
  #code = 0;
  #range = -1;

  /** @param file what errors name @param baseOffset of `bytes` in it */
  constructor(bytes: Uint8Array, readonly file: string, readonly baseOffset = 0) {
    this.#bytes = bytes;
    for (let i = 0; i < FLUSH_BYTES; i++) this.#code = this.#code << 8 | this.#next();
  }

  bit(table: Int32Array, slot: number, _bit: number): number {
    const state = table[slot]!;
    const probability = state >>> COUNT_BITS;
    const range = this.#range;
    const bound = Math.imul(range >>> PROBABILITY_BITS, probability);
    const bit = this.#code >>> 0 < bound >>> 0 ? 0 : 1;
    table[slot] = learned(state, bit);
    if (bit === 0) this.#range = bound;
    else {
      this.#code = this.#code - bound | 0;
      this.#range = range - bound | 0;
    }
    while (this.#range >>> 0 < RANGE_MIN) this.#shift();
    return bit;
  }

  direct(_value: number, bits: number): number {
    if (bits <= DIRECT_BITS_MAX) return bits === 0 ? 0 : this.#equal(bits);
    const high = this.#equal(bits - DIRECT_BITS_MAX);
    return (high << DIRECT_BITS_MAX | this.#equal(DIRECT_BITS_MAX)) >>> 0;
  }

  /** Refuses bytes that nothing was coded into. */
  end(): void {
    if (this.#at === this.#bytes.length && this.#code === 0) return;
    throw new FormatError(
      this.file,
      this.baseOffset + this.#at,
      "the coded columns do not end where they should",
    );
  }

  #equal(bits: number): number {
    const part = this.#range >>> bits;
    const value = (this.#code >>> 0) / (part >>> 0) >>> 0;
    if (value >= 2 ** bits) {
      throw new FormatError(this.file, this.baseOffset + this.#at, "no such code");
    }
    this.#code = this.#code - Math.imul(part, value) | 0;
    this.#range = part;
    while (this.#range >>> 0 < RANGE_MIN) this.#shift();
    return value;
  }

  #shift(): void {
    this.#code = this.#code << 8 | this.#next();
    this.#range <<= 8;
  }

  #next(): number {
    if (this.#at >= this.#bytes.length) {
      throw new FormatError(
        this.file,
        this.baseOffset + this.#at,
        "the coded columns are cut off",
      );
    }
    return this.#bytes[this.#at++]!;
  }
}
