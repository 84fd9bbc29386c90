/** The divergence search on real recordings and replays: two boots, a copy, two replays of one. */
import assert from "node:assert/strict";
import type { DiffReport } from "../lib/diff/observation.ts";
import { copyDirectory, once, testBed, type TestVm } from "./end_to_end_fixture.ts";

const bed = testBed();

const VMS: readonly TestVm[] = [
  { name: "alpha", role: "greet", host: 1, peers: [2] },
  { name: "beta", role: "greet", host: 2, peers: [1] },
];

const recordings = once(async () => {
  const spec = await bed.cluster("twice", VMS);
  const directories = ["one", "two"].map((name) => bed.path(name));
  for (const directory of directories) {
    const report = await bed.json(["record", spec, "--out", directory, "--digest-every", "1s"]);
    assert.equal(report.endedBy, "poweroff");
  }
  return directories as [string, string];
});

async function compare(...args: string[]): Promise<{ status: number; report: DiffReport }> {
  const { status, stdout, stderr } = await bed.run(["diff", ...args, "--json"]);
  assert.equal(stderr, "");
  return { status, report: JSON.parse(stdout) };
}

bed.test("diff: two boots of one cluster", 180, async () => {
  const [one, two] = await recordings();
  const { status, report } = await compare(one, two);
  assert.equal(status, 1);
  // QEMU reads the host's clock before the guest executes anything.
  assert.deepEqual(
    [report.first!.difference.icount, report.first!.difference.a.kind, report.setup],
    [0, "CLOCK_HOST", []],
  );
  assert.deepEqual(report.vms.map(({ vm }) => vm), ["alpha", "beta"]);

  const guests = await compare(one, two, "--guest-only", "--context", "3");
  assert.equal(guests.status, 1);
  const { vm, difference } = guests.report.first!;
  assert.ok(["alpha", "beta"].includes(vm));
  assert.ok(difference.icount > 0, `instruction ${difference.icount}`);
  // An interrupt and an exception of the firmware come before, at the least.
  assert.ok([2, 3].includes(difference.context.length), JSON.stringify(difference.context));
  for (const { kind } of [difference.a, difference.b, ...difference.context]) {
    assert.doesNotMatch(kind, /CLOCK|CHECKPOINT/);
  }
  for (const { equal } of guests.report.vms) assert.ok(equal.events > 3, `${equal.events} events`);
});

bed.test("diff: a copy is identical, and all of it was compared", 120, async () => {
  const [one] = await recordings();
  const { status, report } = await compare(one, await copyDirectory(one, bed.path("copy")));
  assert.deepEqual([status, report.identical], [0, true]);
  const shown = await bed.json(["show", one]);
  assert.equal(report.vms.length, shown.vms.length);
  for (const [i, { equal, console }] of report.vms.entries()) {
    const { instructions, frames, checks } = shown.vms[i];
    assert.deepEqual([equal.instructions, equal.sent, equal.received, equal.checks], [
      instructions,
      frames.sent,
      frames.internal + frames.external,
      checks,
    ]);
    assert.ok(equal.sent >= 4, `${equal.sent} frames`);
    assert.equal(console.result, "equal");
  }
});

bed.test("diff: two replays' traces equal each other and their recording", 240, async () => {
  const [one, two] = await recordings();
  const traces = ["first.trace", "second.trace"].map((name) => bed.path(name)) as [string, string];
  await bed.json(["verify", one, "--trace", traces[0]]);
  await bed.json(["replay", one, "--trace", traces[1]]);
  const pairs = [traces, [one, traces[0]], [traces[1], one]] as const;
  const shown = await bed.json(["show", one]);
  for (const [a, b] of pairs) {
    const { status, report } = await compare(a, b);
    assert.deepEqual([status, report.identical], [0, true], `${a} and ${b}`);
    assert.equal(report.vms.length, shown.vms.length);
    for (const [i, { equal, console }] of report.vms.entries()) {
      assert.equal(equal.sent, shown.vms[i].frames.sent);
      assert.equal(console.result, "equal");
    }
  }
  // `verify` stops at the checks.
  const { report } = await compare(one, traces[0]);
  assert.deepEqual(report.vms.map(({ equal }) => equal.checks), [
    shown.vms[0].checks,
    shown.vms[1].checks,
  ]);
  assert.ok(shown.vms[0].checks >= 1);
  const other = await compare(traces[0], two);
  assert.equal(other.status, 1);
  assert.match(other.report.setup.join(), /different recordings/);
});
