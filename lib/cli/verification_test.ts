import assert from "node:assert/strict";
import type { VerifyRun } from "./ports.ts";
import { isIdentical, summarizeRuns, unreached } from "./verification.ts";
import { verification } from "./verification_fixture.ts";

const run = (ok: boolean, ...vms: VerifyRun["vms"]): VerifyRun => ({
  ok,
  replayS: 5,
  recordS: 12.4,
  vms,
});

Deno.test("runs that are all equal make a good report", () => {
  const runs = [run(true, verification("a"), verification("b")), run(true, verification("a"))];
  runs[1] = run(true, verification("a", { replayS: 7 }), verification("b"));
  const report = summarizeRuns(runs);
  assert.deepEqual(report, {
    ok: true,
    runs: 2,
    vms: [verification("a", { replayS: 7 }), verification("b")],
    perRun: runs,
  });
});

Deno.test("the worst of each VM's runs counts", () => {
  const check = { at: 1_000_000, icount: true, registers: true, ram: true };
  const report = summarizeRuns([
    run(true, verification("a", { checks: [check, { ...check, at: 2_000_000 }] })),
    run(
      false,
      verification("a", {
        frames: { recorded: 1364, matched: 17 },
        checks: [{ ...check, registers: false }], // the second was not reached
        console: false,
        replayS: 2,
      }),
    ),
  ], "cut off at block 7");
  assert.equal(report.ok, false);
  assert.equal(report.incomplete, "cut off at block 7");
  assert.deepEqual(report.vms, [verification("a", {
    frames: { recorded: 1364, matched: 17 },
    checks: [
      { at: 1_000_000, icount: true, registers: false, ram: true },
      unreached(2_000_000),
    ],
    console: false,
    replayS: 5,
  })]);
});

Deno.test("no run is no proof, and a VM cannot be missing from one", () => {
  assert.equal(summarizeRuns([]).ok, false);
  assert.throws(() => summarizeRuns([run(true, verification("a")), run(true)]), /VM a is missing/);
});

Deno.test("of a recording that was cut off, only what a replay did not reach is forgiven", () => {
  const equal = { at: 1_000_000, icount: true, registers: true, ram: true };
  const notReached = verification("a", {
    frames: { recorded: 1364, matched: 17 },
    checks: [equal, unreached(2_000_000)],
  });
  assert.equal(isIdentical(notReached, true), true);
  assert.equal(isIdentical(notReached, false), false);
  for (const differs of [{ icount: false }, { registers: false }, { ram: false }]) {
    const made = verification("a", { checks: [{ ...equal, ...differs }, unreached(2_000_000)] });
    assert.equal(isIdentical(made, true), false, JSON.stringify(differs));
  }
  assert.equal(isIdentical(verification("a", { console: false }), true), false);
});

Deno.test("a check that differs in one run and was not reached in another differs", () => {
  const differs = { at: 1_000_000, icount: true, registers: false, ram: true };
  const runs = [differs, unreached(differs.at)]
    .map((check) => run(false, verification("a", { checks: [check] })));
  assert.deepEqual(summarizeRuns(runs).vms[0]!.checks, [differs]);
});
