import assert from "node:assert/strict";
import fc from "fast-check";
import type { LogBlocks } from "./log_census.ts";
import type { RunReader } from "./ports.ts";
import { countsInside, RunEnds } from "./run_ends.ts";

/** A log whose blocks begin at `first` and behind one another; each byte is a run of so many instructions. */
function logOf(blocks: readonly Uint8Array[], first: number): LogBlocks {
  let firstIcount = first;
  let next = 0;
  let block: LogBlocks["block"];
  return {
    get block() {
      return block;
    },
    nextBlock: (visitor) => {
      const bytes = blocks[next++];
      if (bytes === undefined) return false;
      block = { firstIcount, sends: 0, receives: 0 };
      for (const count of bytes) firstIcount += count;
      visitor.events(bytes);
      return true;
    },
  };
}

const readRuns: RunReader = (bytes, visit) => bytes.forEach((count, i) => void visit(count, i + 1));

Deno.test("property: a count is inside where it is between the ends of a run", () =>
  fc.assert(fc.property(
    fc.array(fc.uint8Array({ maxLength: 6, max: 3 }), { maxLength: 5 }),
    fc.nat(5),
    (blocks, first) => {
      const inside = new Set<number>();
      let icount = first;
      for (const count of blocks.flatMap((block) => [...block])) {
        for (let i = 1; i < count; i++) inside.add(icount + i);
        icount += count;
      }
      const asked = Array.from({ length: icount + 3 }, (_, i) => i);
      assert.deepEqual(countsInside(logOf(blocks, first), readRuns, asked), inside);
      const ends = new RunEnds(logOf(blocks, first), readRuns);
      assert.deepEqual(new Set(asked.filter((count) => ends.isInside(count))), inside);
      const even = asked.filter((count) => count % 2 === 0);
      assert.deepEqual(
        countsInside(logOf(blocks, first), readRuns, even),
        new Set(even.filter((count) => inside.has(count))),
      );
    },
  )));
