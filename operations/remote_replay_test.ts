/** The results of several hosts as one report. */
import assert from "node:assert/strict";
import { unreached } from "../lib/cli/verification.ts";
import { type ReplayResult, replayResult } from "../lib/protocol/control.ts";
import { checksFromWire, checksToWire, verifyRunOf } from "./remote_replay.ts";

const equal = (at: number) => ({ at, icount: true, registers: true, ram: true });
const unequal = (at: number) => ({ ...equal(at), icount: false, registers: false, ram: false });

/** Of a replay of a recording that was cut off, with one VM. */
function cutOff(checks: ReplayResult["vms"][number]["checks"]): ReplayResult {
  return replayResult.parse({
    vms: [{
      number: 1,
      name: "left",
      framesRecorded: 8,
      framesMatched: 7,
      instructions: 5_000_000,
      consoleEqual: true,
      replayS: 5,
      endedBy: "the log of left ends early",
      checks,
    }],
    replayS: 5,
    recordS: 12.4,
    queueBytesMax: 0,
    incomplete: "the log of left ends early",
    links: [],
  });
}

Deno.test("the checks that a host's replay did not reach are the last ones, false in each", () => {
  for (
    const checks of [[], [equal(1), equal(2)], [equal(1), unreached(2), unreached(3)], [
      unreached(1),
    ]]
  ) {
    const [vm] = cutOff(checksToWire(checks)).vms;
    assert.deepEqual(checksFromWire(vm!.checks), checks);
  }
  const made = [unequal(1), equal(2)];
  assert.deepEqual(checksFromWire(made), made, "others came behind it");
});

Deno.test("over hosts too, a check that was made is not forgiven", () => {
  const reached = verifyRunOf([cutOff([equal(1), unequal(2)])]);
  assert.deepEqual([reached.ok, reached.vms[0]!.checks], [true, [equal(1), unreached(2)]]);
  const differs = { ...equal(1), registers: false };
  assert.equal(verifyRunOf([cutOff([differs, unequal(2)])]).ok, false);
});
