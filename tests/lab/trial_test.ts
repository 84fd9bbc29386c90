import assert from "node:assert/strict";
import type { VerifyRun } from "../../lib/cli/ports.ts";
import { summarizeRuns } from "../../lib/cli/verification.ts";
import { Commands } from "../bench/commands.ts";
import { recording, replay } from "./results_fixture.ts";
import type { RecordingSample } from "./samples.ts";
import { isGood, replayOf, runTrial } from "./trial.ts";

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

const RECORD_REPORT = {
  ...{ id: "00", name: "one", directory: "", endedBy: "poweroff", complete: true, recordS: 4 },
  vms: [{
    ...{ name: "left", instructions: 1e9, checks: 1 },
    bytes: { rrLog: 3e6, hybrid: 2e5, stored: 1e5 },
    frames: { internal: 7, external: 2, stored: 3, sent: 9 },
  }],
};

/**
 * Runs a trial with a stand-in for clusterrr: a script that makes a recording's directory whose console ends
 * with `status`, and says `verdict` of its replay.
 */
async function trialWith(
  { status = 0, ok = true, recordStatus = 0, replays = 2, signal }: {
    readonly status?: number;
    readonly ok?: boolean;
    readonly recordStatus?: number;
    readonly replays?: number;
    readonly signal?: AbortSignal;
  },
  work: (sample: RecordingSample, recording: string) => void,
): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "clusterrr-test-" });
  try {
    const vm = {
      ...{ name: "left", frames: { recorded: 9, matched: ok ? 9 : 3 }, checks: [CHECK] },
      ...{ console: true, replayS: 2, recordS: 4 },
    };
    const verify = summarizeRuns([{ ok, replayS: 2, recordS: 4, vms: [vm] }]);
    Deno.writeTextFileSync(`${folder}/record.json`, JSON.stringify(RECORD_REPORT));
    Deno.writeTextFileSync(`${folder}/verify.json`, JSON.stringify(verify));
    Deno.writeTextFileSync(`${folder}/replay.json`, JSON.stringify({ ok, replayS: 1, vms: [] }));
    Deno.writeTextFileSync(
      `${folder}/clusterrr.sh`,
      `case $1 in verify | replay) cat ${folder}/$1.json; exit ${ok ? 0 : 1} ;; esac
      mkdir -p $4/vms/left; echo "GUEST role=left status=${status}" >$4/vms/left/console.log
      [ ${recordStatus} = 0 ] || { echo "no tap" >&2; exit ${recordStatus}; }
      cat ${folder}/record.json`,
    );
    const recording = `${folder}/recording`;
    const sample = await runTrial(
      { name: "one", folder, spec: `${folder}/cluster.yaml`, mayFail: false },
      {
        commands: new Commands(folder, signal ?? NEVER, [], ["sh", `${folder}/clusterrr.sh`]),
        ...{ recording, replays, load: "full", piece: 0, signal: signal ?? NEVER },
      },
    );
    work(sample, recording);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const NEVER = new AbortController().signal;

Deno.test("a good trial leaves its figures and no recording", () =>
  trialWith({}, (sample, recording) => {
    assert.equal(isGood(sample), true);
    assert.equal(sample.replays.length, 2);
    assert.equal(sample.kept, undefined);
    assert.equal("replayS" in sample.replayTime! && sample.replayTime.replayS, 1);
    assert.deepEqual(sample.recorded!.frames, {
      ...{ sent: 9, internal: 7, external: 2, storedWhole: 1 },
    });
    assert.equal(sample.recorded!.bytes.stored, 1e5);
    assert.throws(() => Deno.statSync(recording), Deno.errors.NotFound);
  }));

Deno.test("a replay that differs keeps the recording, and the others are made all the same", () =>
  trialWith({ ok: false }, (sample, recording) => {
    assert.equal(isGood(sample), false);
    assert.deepEqual(sample.replays.map(({ difference }) => difference), [
      "3 of 9 frames, 1 of 1 checks",
      "3 of 9 frames, 1 of 1 checks",
    ]);
    assert.deepEqual(sample.replayTime, { failure: "not equal" });
    assert.equal(sample.kept, recording);
    assert.equal(Deno.statSync(`${recording}/vms/left`).isDirectory, true);
  }));

Deno.test("a guest that failed is named; its recording is replayed and kept", () =>
  trialWith({ status: 1 }, (sample, recording) => {
    assert.deepEqual(sample.unfinishedWork, ["VM left ended with status 1"]);
    assert.equal(sample.replays.every(({ identical }) => identical), true);
    assert.equal(sample.kept, recording);
  }));

Deno.test("a recording that fails says why", () =>
  trialWith({ recordStatus: 1 }, (sample) => {
    assert.match(sample.failure!, /no tap/);
    assert.deepEqual(sample.replays, []);
    assert.equal(isGood(sample), false);
  }));

Deno.test("an interruption ends the trial", async () => {
  const controller = new AbortController();
  controller.abort(new Error("enough"));
  await assert.rejects(trialWith({ signal: controller.signal }, () => {}), /enough/);
});
