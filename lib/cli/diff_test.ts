/** `clusterrr diff` as its users see it; `operations/diff_test.ts` tests what it finds. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeRecording } from "../catalog/recording_fixture.ts";
import type { Difference, DiffReport, VmDiff } from "../diff/observation.ts";
import { commandLine, withDirectory } from "./command_fixture.ts";

const EQUAL = {
  instructions: 1_234_567,
  events: 2_000,
  received: 17,
  sent: 20,
  checks: 1,
  logBytes: 12_000,
  unproven: 0,
};
const DIFFERENCE: Difference = {
  kind: "receive",
  what: "another received frame: VM server sent other bytes",
  epoch: 3,
  lamport: { a: 3n << 40n, b: (3n << 40n) + 1n },
  icount: 1_234_567,
  a: { icount: 1_234_567, kind: "RECEIVE", text: "60 bytes, frame 4 of VM server", bytes: "0001" },
  b: { icount: 1_234_567, kind: "RECEIVE", text: "60 bytes, frame 4 of VM server", bytes: "0002" },
  context: [{ icount: 1_234_000, kind: "INTERRUPT", text: "" }],
};

const vm = (name: string, more: Partial<VmDiff> = {}): VmDiff => ({
  vm: name,
  equal: EQUAL,
  console: { result: "equal" },
  cutOff: {},
  damage: [],
  ...more,
});

function report(changes: Partial<DiffReport> = {}): DiffReport {
  const vms = [vm("server"), vm("client", { difference: DIFFERENCE })];
  return {
    identical: false,
    a: { kind: "recording", path: "/a", name: "good", id: "0011223344" },
    b: { kind: "recording", path: "/b", name: "bad", id: "5566778899" },
    first: { vm: "client", difference: DIFFERENCE },
    vms,
    setup: ["client: another kernel"],
    notCompared: [],
    seconds: 1.5,
    ...changes,
  };
}

Deno.test("diff: a file is a trace, anything else a recording", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const trace = join(dir, "t.trace");
    await Deno.writeTextFile(trace, "");
    const run = commandLine(dir);
    assert.equal((await run(["add", recording])).status, 0);
    const { status, calls, stderr } = await run(["diff", "trio", trace]);
    assert.equal(status, 0, stderr);
    assert.deepEqual(calls, [["diff", {
      a: { kind: "recording", path: recording },
      b: { kind: "trace", path: trace },
      guestOnly: false,
      context: 5,
    }]]);
    const more = await run(["diff", recording, "trio", "--guest-only", "--context", "0"]);
    assert.deepEqual(more.calls.map(([, options]) => options), [{
      a: { kind: "recording", path: recording },
      b: { kind: "recording", path: recording },
      guestOnly: true,
      context: 0,
    }]);
  });
});

Deno.test("diff: what is wrong with the arguments", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    const cases: [string[], RegExp][] = [
      [["diff"], /A/],
      [["diff", recording], /B/],
      [["diff", recording, recording, "third"], /"third"/],
      [["diff", recording, recording, "--context", "-1"], /--context/],
      [["diff", recording, recording, "--context", "1001"], /--context/],
    ];
    for (const [args, pattern] of cases) {
      const { status, stderr, calls } = await run(args);
      assert.deepEqual([status, calls], [2, []], args.join(" "));
      assert.match(stderr, pattern);
      assert.match(stderr, /See: clusterrr diff --help/);
    }
    const missing = await run(["diff", recording, "nix"]);
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /No recording "nix"/);
  });
});

Deno.test("diff: the first difference, the table, the frames side by side", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const run = commandLine(dir, { diff: () => Promise.resolve(report()) });
    const { status, stdout } = await run(["diff", recording, recording]);
    assert.equal(status, 1);
    assert.equal(
      stdout,
      `A  recording good (00112233), /a
B  recording bad (55667788), /b
DIFFERENT, first in VM client, epoch 3, instruction 1,234,567: another received frame: VM server sent other bytes.
Not the same: client: another kernel.

EQUAL IN  INSTRUCTIONS  EVENTS  RECEIVED  SENT  CHECKS  CONSOLE  THEN
server       1,234,567   2,000        17    20       1  equal    the end
client       1,234,567   2,000        17    20       1  equal    different

VM      EPOCH  INSTRUCTION  EVENT    A                                   B
client      3    1,234,567  receive  RECEIVE 60 bytes, frame 4 of VM s…  RECEIVE 60 bytes, frame 4 of VM s…

client: another received frame: VM server sent other bytes
  1,234,000  INTERRUPT
A 1,234,567  RECEIVE  60 bytes, frame 4 of VM server
  0000  00 01                                            ..  *
B 1,234,567  RECEIVE  60 bytes, frame 4 of VM server
  0000  00 02                                            ..  *
`,
    );
    const json = await run(["diff", recording, recording, "--json"]);
    assert.deepEqual([json.status, json.stderr], [1, ""]);
    const parsed = JSON.parse(json.stdout);
    assert.equal(parsed.first.vm, "client");
    assert.equal(parsed.first.difference.lamport.a, 3 * 2 ** 40);
    assert.equal(parsed.vms.length, 2);
  });
});

Deno.test("diff: identical runs, runs that end early, and damage", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const { first: _, ...rest } = report({ identical: true, setup: [], vms: [vm("server")] });
    const args = ["diff", recording, recording];
    const same = await commandLine(dir, { diff: () => Promise.resolve(rest) })(args);
    assert.equal(same.status, 0);
    assert.match(same.stdout, /^IDENTICAL: 1 VM\.$/m);
    const cut = vm("server", { cutOff: { b: "cut off: block 7 is cut off" } });
    const early = await commandLine(dir, {
      diff: () => Promise.resolve({ ...rest, vms: [cut] }),
    })(args);
    assert.match(early.stdout, /^server in B ends early: cut off: block 7 is cut off\.$/m);
    const damage = "Cannot read /b/vms/server/hybrid-000000.seg at byte 99: wrong checksum";
    const damaged = await commandLine(dir, {
      diff: () =>
        Promise.resolve({ ...rest, identical: false, vms: [vm("server", { damage: [damage] })] }),
    })(args);
    assert.equal(damaged.status, 1);
    assert.ok(damaged.stderr.endsWith(`clusterrr: ${damage}\n`));
  });
});

Deno.test("replay, verify: --trace", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    const replayed = await run(["replay", recording, "--trace", "t"]);
    assert.deepEqual(replayed.calls, [["replay", { directory: recording, trace: "t" }]]);
    const partly = [["replay", recording, "--to", "4"], ["verify", recording, "--parallel"]];
    for (const args of partly) {
      const refused = await run([...args, "--trace", "t"]);
      assert.deepEqual([refused.status, refused.calls], [2, []]);
      assert.match(refused.stderr, /--trace is for/);
    }
    const verified = await run(["verify", recording, "--runs", "2", "--trace=t"]);
    assert.deepEqual(verified.calls, [["verify", { directory: recording, runs: 2, trace: "t" }]]);
  });
});
