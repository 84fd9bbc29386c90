/**
 * Numbers of 32 bits as decisions: how many bits they have, in a context, then those below the highest.
 * Rules: `FORMAT.md`, at the end of "Events".
 */
import { hash, hash32 } from "./context_hash.ts";
import { type BitCoder, newProbabilities, resetProbabilities } from "./range_coder.ts";

const CLASS_BITS = 6;
const CLASS_CONTEXTS = 1 << 10;
const DETAIL_BITS = 15;
/** Numbers of so many bits or fewer have all their bits estimated. */
const ESTIMATED_CLASS_MAX = 14;
/** Of larger ones so many behind the highest; the rest has equal probabilities. */
const ESTIMATED_BITS = 4;
const DISTANCE_CLASS_BITS = 4;
const DISTANCE_DETAIL = 1 << DISTANCE_CLASS_BITS;

/** Codes `value` as the path through a binary tree of probabilities at `base`, highest bit first. */
export function codeTree(
  coder: BitCoder,
  table: Int32Array,
  base: number,
  value: number,
  bits: number,
): number {
  let node = 1;
  for (let i = bits - 1; i >= 0; i--) {
    node = node << 1 | coder.bit(table, base + node, value >>> i & 1);
  }
  return node - (1 << bits);
}

export class NumberModel {
  /** The class of what is no number of 32 bits. */
  static readonly WIDE = 33;

  readonly #classes = newProbabilities(CLASS_CONTEXTS << CLASS_BITS);
  readonly #details = newProbabilities(1 << DETAIL_BITS);
  readonly #distances = newProbabilities(DISTANCE_DETAIL + (1 << 13));

  reset(): void {
    for (const table of [this.#classes, this.#details, this.#distances]) resetProbabilities(table);
  }

  /** @param value 32 bits, signed or not; comes back signed */
  code(coder: BitCoder, context: number, detail: number, value: number): number {
    return this.codeRest(coder, detail, this.codeClass(coder, context, value, false), value);
  }

  /** How many bits `value` has, 0 to 32; {@link WIDE} where it is `wide`. */
  codeClass(coder: BitCoder, context: number, value: number, wide: boolean): number {
    const size = wide ? NumberModel.WIDE : 32 - Math.clz32(value);
    const coded = codeTree(coder, this.#classes, context << CLASS_BITS, size, CLASS_BITS);
    // A decoder may read what no encoder writes; any number will do then.
    return Math.min(coded, NumberModel.WIDE);
  }

  /** The bits below the highest one of a number of `size` bits. */
  codeRest(coder: BitCoder, detail: number, size: number, value: number): number {
    if (size <= 1) return size;
    const below = size - 1;
    const estimated = size <= ESTIMATED_CLASS_MAX ? below : ESTIMATED_BITS;
    const context = hash32(detail << CLASS_BITS | size);
    let node = 1;
    for (let i = below - 1; i >= below - estimated; i--) {
      const slot = hash(context + node | 0, DETAIL_BITS);
      node = node << 1 | coder.bit(this.#details, slot, value >>> i & 1);
    }
    const left = below - estimated;
    if (left === 0) return node;
    const rest = coder.direct(value & (1 << left) - 1, left);
    return node << left | rest;
  }

  /** A number below 2^12, most often small. */
  codeDistance(coder: BitCoder, value: number): number {
    const size = codeTree(
      coder,
      this.#distances,
      0,
      32 - Math.clz32(value),
      DISTANCE_CLASS_BITS,
    );
    if (size <= 1) return size;
    let node = 1;
    for (let i = size - 2; i >= 0; i--) {
      const slot = DISTANCE_DETAIL + (node + (1 << size - 1) - 1 & 0x1fff);
      node = node << 1 | coder.bit(this.#distances, slot, value >>> i & 1);
    }
    return node;
  }
}
