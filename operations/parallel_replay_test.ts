/** Where a parallel replay is cut into slices. */
import assert from "node:assert/strict";
import type { LogCensus } from "../lib/roles/log_census.ts";
import { checksOfSlice, chooseSeams } from "./parallel_replay.ts";

/** Two VMs of 1000 instructions each; checkpoints at which both have executed so many. */
const censuses = new Map([1, 2].map((vm) => [vm, { icount: 1000 } as LogCensus]));
const at = (...counts: number[]) =>
  counts.map((icount) => ({
    states: new Map(
      [1, 2].map((vm) => [vm, { icount, registers: "", ramDigest: "xxh64:" as const }]),
    ),
  }));
const seams = (counts: number[], slices: number, firstIcount = 0) => {
  const vms = [1, 2].map(() => ({ firstIcount }));
  return chooseSeams({ censuses, manifest: { vms } }, at(...counts), slices)
    .map(({ states }) => states.get(1)!.icount);
};

Deno.test("seams: slices of about as many instructions each, no more than asked for", () => {
  const every50 = Array.from({ length: 19 }, (_, i) => 50 * (i + 1));
  assert.deepEqual(seams(every50, 4), [250, 500, 750]);
  assert.deepEqual(seams(every50, 2), [500]);
  assert.deepEqual(seams(every50, 1), []);
  assert.ok(seams(every50, 40).length <= 39);
});

Deno.test("seams: few checkpoints, or badly placed ones, make fewer slices", () => {
  assert.deepEqual(seams([], 4), []);
  assert.deepEqual(seams([600], 4), [600]);
  assert.deepEqual(seams([10, 20, 30], 4), [], "nearly all would be in the last slice");
  assert.deepEqual(seams([990, 995], 4), [], "nearly nothing would be in it");
  assert.deepEqual(seams([240, 260, 270, 900], 2), []);
});

Deno.test("seams: what came before a recording from a snapshot is nobody's work", () => {
  const every10 = Array.from({ length: 9 }, (_, i) => 900 + 10 * (i + 1));
  assert.deepEqual(seams(every10, 4, 900), [930, 950, 980]);
});

Deno.test("each check belongs to one slice, wherever the seam lies", () => {
  const halted = (icount: number) => ({ icount, registers: "HLT=1" });
  const busy = (icount: number) => ({ icount, registers: "HLT=0" });
  const checks = [halted(100), busy(200), halted(300)];
  const runEnds = new Set([100, 200, 300]);
  const isInside = (icount: number) => !runEnds.has(icount);
  const slice = (begins: number, ends: number) =>
    checksOfSlice(checks, begins, ends, isInside).map(({ icount }) => icount);
  for (let seam = 1; seam < 400; seam++) {
    if (!isInside(seam)) continue; // no VM is stopped there
    assert.deepEqual([...slice(-1, seam), ...slice(seam, Infinity)], [100, 200, 300], `${seam}`);
  }
  assert.deepEqual(slice(-1, 99), [100], "compared before its HLT, where the slice ends");
  assert.deepEqual(
    slice(199, Infinity),
    [200, 300],
    "one that is not halted is compared at itself",
  );
});
