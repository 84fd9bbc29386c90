/**
 * Where the runs of instructions of a log end: what tells at which counts a VM can be made to stand. One
 * pass over the log, 8 bytes a run; for a debugger, which asks about any count.
 */
import { countBelow, GrowingArray } from "../bytes/growing_array.ts";
import { type HybridVisitor, IGNORE_ITEMS } from "../recording/hybrid_log.ts";
import type { LogBlocks } from "./log_census.ts";
import type { RunReader } from "./ports.ts";

/** The runs of one log. */
export class RunEnds {
  readonly #ends: Float64Array;
  /** Where its first run begins. */
  readonly #first: number;

  constructor(blocks: LogBlocks, readRuns: RunReader) {
    const ends = GrowingArray.numbers();
    let first: number | undefined;
    const visitor = runVisitor(blocks, readRuns, (begin, end) => {
      first ??= begin;
      ends.push(end);
    });
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

/**
 * Which of some instruction counts lie strictly inside a run, in one pass that keeps nothing else.
 * @param asked in rising order
 */
export function countsInside(
  blocks: LogBlocks,
  readRuns: RunReader,
  asked: readonly number[],
): ReadonlySet<number> {
  const inside = new Set<number>();
  let next = 0;
  const visitor = runVisitor(blocks, readRuns, (begin, end) => {
    while (next < asked.length && asked[next]! <= begin) next++;
    while (next < asked.length && asked[next]! < end) inside.add(asked[next++]!);
  });
  while (next < asked.length && blocks.nextBlock(visitor));
  return inside;
}

/** Visits every run: where it begins, and where it ends. */
function runVisitor(
  blocks: LogBlocks,
  readRuns: RunReader,
  visit: (begin: number, end: number) => void,
): HybridVisitor {
  let block: LogBlocks["block"];
  let icount = 0;
  return {
    ...IGNORE_ITEMS,
    events: (bytes) => {
      if (block !== blocks.block) icount = (block = blocks.block)!.firstIcount;
      readRuns(bytes, (count) => visit(icount, icount += count));
    },
  };
}
