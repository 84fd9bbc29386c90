/** Which recordings of a hunt are kept, what is said, and with which status it ends. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeRecording } from "../catalog/recording_fixture.ts";
import { commandLine, withDirectory } from "./command_fixture.ts";
import type { JudgeOptions, Operations, RecordReport } from "./ports.ts";

interface Ending {
  readonly failed: boolean;
  readonly endedBy?: RecordReport["endedBy"];
}

/** Operations whose recordings are real directories and end one after another as in `endings`. */
function runsOf(endings: readonly Ending[], judged: JudgeOptions[]): Partial<Operations> {
  let run = -1;
  return {
    async record(options): Promise<RecordReport> {
      const { endedBy = "poweroff" } = endings[++run]!;
      const directory = await makeRecording(options.out);
      const failure = endedBy === "failure" ? { message: "QEMU crashed" } : {};
      const id = "abcdef0123456789";
      const vms: RecordReport["vms"] = [];
      return { id, name: "n", directory, endedBy, ...failure, complete: true, recordS: 1.5, vms };
    },
    judge(options) {
      judged.push(options);
      return Promise.resolve({ failed: endings[run]!.failed, reason: `run ${run} says so` });
    },
  };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

interface Hunted {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly judged: readonly JudgeOptions[];
  readonly kept: boolean;
}

async function hunt(endings: readonly Ending[], ...flags: string[]): Promise<Hunted> {
  let hunted: Hunted | undefined;
  await withDirectory(async (dir) => {
    const judged: JudgeOptions[] = [];
    const out = join(dir, "r");
    const args = ["record", "c.yaml", "--out", out, ...flags];
    const { status, stdout, stderr } = await commandLine(dir, runsOf(endings, judged))(args);
    hunted = { status, stdout, stderr, judged, kept: await exists(out) };
  });
  return hunted!;
}

const PASSED = { failed: false };
const FAILED = { failed: true };

Deno.test("one run: kept if it failed, deleted if not; both are good ends", async () => {
  const failed = await hunt([FAILED], "--on-guest-failure");
  assert.deepEqual([failed.status, failed.kept], [0, true]);
  assert.match(failed.stderr, /^run 1: FAILED, run 0 says so \(1\.5 s\)$/m);
  assert.match(failed.stdout, /Replay it/);
  const passed = await hunt([PASSED], "--on-failure", "check it");
  assert.deepEqual([passed.status, passed.kept], [0, false]);
  assert.match(passed.stdout, /passed; its recording was deleted/);
  assert.deepEqual(passed.judged.map(({ command, guests }) => [command, guests]), [
    ["check it", false],
  ]);
});

Deno.test("until failure: the first that failed ends it, and only that is kept", async () => {
  const flags = ["--until-failure", "--on-guest-failure", "--on-failure", "x"];
  const { status, kept, judged, stderr } = await hunt([PASSED, PASSED, FAILED, PASSED], ...flags);
  assert.deepEqual([status, kept, judged.length], [0, true, 3]);
  assert.deepEqual([judged[0]!.command, judged[0]!.guests], ["x", true]);
  assert.match(stderr, /run 1: passed[^]*run 2: passed[^]*run 3: FAILED/);
});

Deno.test("until failure: none in --max-runs is status 1, and nothing is kept", async () => {
  const flags = ["--until-failure", "--max-runs", "2", "--on-guest-failure"];
  const { status, kept, judged, stderr } = await hunt([PASSED, PASSED, FAILED], ...flags);
  assert.deepEqual([status, kept, judged.length], [1, false, 2]);
  assert.match(stderr, /none of 2 runs failed; nothing is kept/);
});

Deno.test("until failure: a recording that fails itself ends it, unjudged and kept", async () => {
  const flags = ["--until-failure", "--on-guest-failure"];
  const broken: Ending = { failed: false, endedBy: "failure" };
  const { status, kept, judged, stderr } = await hunt([PASSED, broken, FAILED], ...flags);
  assert.deepEqual([status, kept, judged.length], [1, true, 1]);
  assert.match(stderr, /recording failed: QEMU crashed/);
});

Deno.test("until failure, --json: every run, and the recording or null", async () => {
  const flags = ["--until-failure", "--max-runs", "2", "--on-guest-failure", "--json"];
  const found = JSON.parse((await hunt([PASSED, FAILED], ...flags)).stdout);
  assert.deepEqual([found.failed, found.recording.name, found.runs.length], [true, "n", 2]);
  assert.deepEqual(found.runs[1], { run: 2, failed: true, reason: "run 1 says so", recordS: 1.5 });
  const none = JSON.parse((await hunt([PASSED, PASSED], ...flags)).stdout);
  assert.deepEqual([none.failed, none.recording], [false, null]);
});

Deno.test("until failure: the run that the user ends is judged by its guests alone", async () => {
  const ended: Ending = { failed: true, endedBy: "interrupt" };
  const byCommand = await hunt([PASSED, ended], "--until-failure", "--on-failure", "x");
  assert.deepEqual([byCommand.status, byCommand.kept, byCommand.judged.length], [1, false, 1]);
  assert.match(byCommand.stderr, /^run 2: interrupted, not judged, deleted$/m);
  const both = ["--until-failure", "--on-failure", "x", "--on-guest-failure"];
  const byGuests = await hunt([ended], ...both);
  assert.deepEqual([byGuests.status, byGuests.kept], [0, true]);
  assert.deepEqual(byGuests.judged.map(({ command, guests }) => [command, guests]), [
    [undefined, true],
  ]);
  const single = await hunt([ended], "--on-failure", "x");
  assert.deepEqual([single.status, single.kept, single.judged.length], [0, true, 1]);
});
