/**
 * Where the runs of instructions of a log end: what tells at which counts a VM can be made to stand. One
 * pass over the log, 8 bytes a run; for a debugger, which asks about any count.
 */
import { countBelow, GrowingArray } from "../bytes/growing_array.ts";
import { IGNORE_ITEMS } from "../recording/hybrid_log.ts";
import type { LogBlocks } from "./log_census.ts";
import type { RunReader } from "./ports.ts";

/** The runs of one log. */
export class RunEnds {
  readonly #ends: Float64Array;
  /** Where its first run begins. */
  readonly #first: number;

  constructor(blocks: LogBlocks, readRuns: RunReader) {
    const ends = GrowingArray.numbers();
    let block: LogBlocks["block"];
    let first: number | undefined;
    let icount = 0;
    const visitor = {
      ...IGNORE_ITEMS,
      events: (bytes: Uint8Array) => {
        if (block !== blocks.block) icount = (block = blocks.block)!.firstIcount;
        first ??= icount;
        readRuns(bytes, (count) => ends.push(icount += count));
      },
    };
    while (blocks.nextBlock(visitor));
    this.#ends = ends.view();
    this.#first = first ?? 0;
  }

  /** Whether `icount` is strictly inside a run. */
  isInside(icount: number): boolean {
    const next = countBelow(this.#ends, icount);
    return icount > this.#first && next < this.#ends.length && this.#ends[next] !== icount;
  }

  /** The last count up to `icount` that is strictly inside a run, or `otherwise`. */
  insideBefore(icount: number, otherwise: number): number {
    let at = Math.min(icount, this.#ends.at(-1) ?? 0);
    while (at > otherwise && !this.isInside(at)) at--;
    return Math.max(at, otherwise);
  }

  /** The first count from `icount` on that is strictly inside a run; `undefined` at the end. */
  insideAfter(icount: number): number | undefined {
    const last = this.#ends.at(-1) ?? 0;
    for (let at = icount; at < last; at++) if (this.isInside(at)) return at;
    return undefined;
  }
}
