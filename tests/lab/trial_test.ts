import assert from "node:assert/strict";
import type { VerifyRun } from "../../lib/cli/ports.ts";
import { summarizeRuns } from "../../lib/cli/verification.ts";
import { recording, replay } from "./results_fixture.ts";
import { isGood, replayOf } from "./trial.ts";

const CHECK = { at: 5, icount: true, registers: true, ram: true };
const USE = { cpuS: 1, rssBytesMax: 1 };

function sampleOf(change: Partial<VerifyRun["vms"][number]>, ok = true) {
  const vm = {
    name: "left",
    ...{ frames: { recorded: 10, matched: 10 }, checks: [CHECK], console: true },
    ...{ replayS: 2, recordS: 4 },
    ...change,
  };
  const report = summarizeRuns([{ ok, replayS: 2, recordS: 4, vms: [vm] }]);
  return replayOf({ report, wholeS: 3, use: USE });
}

Deno.test("a replay counts as identical only if everything was", () => {
  const good = sampleOf({});
  assert.equal(good.identical, true);
  assert.equal(good.difference, undefined);
  assert.deepEqual(good.checks, { recorded: 1, equal: 1 });
  // Whatever the verdict says: the parts decide as well.
  assert.match(sampleOf({ console: false }).difference!, /the console of left/);
  assert.equal(
    sampleOf({ frames: { recorded: 10, matched: 9 } }).difference,
    "9 of 10 frames, 1 of 1 checks",
  );
  assert.equal(sampleOf({ checks: [{ ...CHECK, ram: false }] }).identical, false);
  assert.equal(sampleOf({}, false).identical, false);
});

Deno.test("a trial is good where the work was done and every replay identical", () => {
  assert.equal(isGood(recording("trio", 1, [replay(1), replay(1)])), true);
  assert.equal(isGood(recording("trio", 1, [replay(1), replay(1, "x")])), false);
  assert.equal(isGood(recording("trio", 1, [], { failure: "x" })), false);
  assert.equal(isGood(recording("trio", 1, [], { unfinishedWork: ["x"] })), false);
  assert.equal(isGood(recording("trio", 1, [], { unfinishedWork: ["x"], mayFail: true })), true);
});
