/**
 * Bytes of a column as decisions: the byte that followed the last four where they stood before, else any
 * byte, by the two before it. For all columns that are neither events nor heads of frames; most are short.
 * Rules: `FORMAT.md`, "Bytes".
 */
import { hash, hash32 } from "./context_hash.ts";
import { type BitCoder, newProbabilities, resetProbabilities } from "./range_coder.ts";

const TREE_BITS = 15;
const POSITION_BITS = 13;
/** What is remembered of all columns, the oldest first to be overwritten. */
const HISTORY_BYTES = 1 << 16;
const MATCH_BYTES_MAX = 15;
const COLUMN_SHIFT = 16;

export class ByteModel {
  readonly #trees = newProbabilities(1 << TREE_BITS);
  readonly #follows = newProbabilities(16 << 4);
  readonly #history = new Uint8Array(HISTORY_BYTES);
  /** Where the last four bytes of a hash ended, plus 1. */
  readonly #positions = new Int32Array(1 << POSITION_BITS);
  #end = 0;

  reset(): void {
    resetProbabilities(this.#trees);
    resetProbabilities(this.#follows);
    this.#history.fill(0);
    this.#positions.fill(0);
    this.#end = 0;
  }

  /** Codes all of `bytes`, the contents of column number `column`. */
  code(coder: BitCoder, column: number, bytes: Uint8Array): void {
    let lastFour = 0;
    let position = 0;
    let matched = 0;
    for (let i = 0; i < bytes.length; i++) {
      let byte = bytes[i]!;
      let right = false;
      if (matched > 0) {
        const expected = this.#history[position & HISTORY_BYTES - 1]!;
        const slot = column << 4 | Math.min(matched, MATCH_BYTES_MAX);
        right = coder.bit(this.#follows, slot, expected === byte ? 0 : 1) === 0;
        if (right) byte = expected;
      }
      if (right) matched++;
      else {
        byte = this.codeByte(coder, (column + 1) << COLUMN_SHIFT | lastFour & 0xffff, byte);
        matched = 0;
      }
      bytes[i] = byte;
      this.#history[this.#end++ & HISTORY_BYTES - 1] = byte;
      position++;
      lastFour = lastFour << 8 | byte;
      const slot = hash(hash32(lastFour) + column | 0, POSITION_BITS);
      if (matched === 0 && this.#positions[slot]! > 0) {
        position = this.#positions[slot]! - 1;
        matched = 1;
      }
      this.#positions[slot] = (this.#end & 0x3fff_ffff) + 1;
    }
  }

  /** One byte, as a path of eight decisions. */
  codeByte(coder: BitCoder, context: number, value: number): number {
    const mixed = hash32(context + 1);
    let node = 1;
    for (let i = 7; i >= 0; i--) {
      const slot = hash(mixed + Math.imul(node, 0x2545f491) | 0, TREE_BITS);
      node = node << 1 | coder.bit(this.#trees, slot, value >>> i & 1);
    }
    return node & 0xff;
  }
}
