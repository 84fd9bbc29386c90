/** A small cluster from its file to a verified replay, on real QEMU, taps and eBPF. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { run } from "../host/command.ts";
import { decodeEvents, encodeEvent } from "../hypervisor/rr_log/events.ts";
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import type { TimelineItem } from "../lib/cli/ports.ts";
import { IGNORE_ITEMS } from "../lib/recording/hybrid_log.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { readManifest, vmDirectory } from "../lib/recording/manifest.ts";
import { copyDirectory, once, readConsole, testBed, type TestVm } from "./end_to_end_fixture.ts";
import { falsifyLog } from "./falsified_log.ts";

const bed = testBed();

const DUO: readonly TestVm[] = [
  { name: "alpha", role: "greet", host: 1, peers: [2, 254] },
  { name: "beta", role: "greet", host: 2, peers: [1] },
];
const CHATTER: readonly TestVm[] = [
  { name: "left", role: "chatter", host: 1, peers: [2] },
  { name: "right", role: "chatter", host: 2, peers: [1] },
];

/** Two guests that talk to each other and to the host, until they power off. */
const duo = once(async () => {
  const directory = bed.path("duo");
  const report = await bed.json([
    ...["record", await bed.cluster("duo", DUO), "--out", directory],
    ...["--digest-every", "800ms", "--tag", "duo"],
  ]);
  return { directory, report };
});

interface ShownVm {
  name: string;
  instructions: number;
  bytes: { rrLog: number; hybrid: number; stored: number };
  frames: { internal: number; external: number; stored: number; sent: number };
  checks: number;
  complete: boolean;
}

bed.test("record: what is said of a cluster that powers off", 120, async () => {
  const { directory, report } = await duo();
  assert.equal(report.endedBy, "poweroff");
  assert.equal(report.complete, true);
  for (const vm of ["alpha", "beta"]) {
    assert.match(readConsole(directory, vm), /^GUEST role=greet status=0$/m);
  }
  const shown = await bed.json(["show", directory]);
  assert.deepEqual([shown.state, shown.complete, shown.endedBy], ["sealed", true, "poweroff"]);
  assert.deepEqual(shown.tags, ["duo"]);
  const vms: ShownVm[] = shown.vms;
  assert.deepEqual(vms.map(({ name, complete }) => [name, complete]), [["alpha", true], [
    "beta",
    true,
  ]]);
  for (const { name, instructions, bytes, frames, checks } of vms) {
    assert.ok(instructions > 100_000_000, `${name}: ${instructions} instructions`);
    assert.ok(bytes.stored < bytes.hybrid && bytes.stored < bytes.rrLog, `${name}: sizes`);
    assert.ok(frames.internal >= 8, `${name}: ${frames.internal} internal frames`);
    assert.equal(frames.stored, frames.external, `${name}: only external frames are kept whole`);
    assert.ok(checks >= 1, `${name}: ${checks} checks`);
  }
  // An ARP request or answer, three echo replies; beta hears no more than alpha's and the host's ARP.
  assert.ok(vms[0]!.frames.external >= 4, `alpha: ${vms[0]!.frames.external} external frames`);
  const stored = vms.reduce((sum, { bytes }) => sum + bytes.stored, 0);
  const logs = vms.reduce((sum, { bytes }) => sum + bytes.rrLog, 0);
  assert.ok(stored * 4 < logs, `${stored} bytes stored for ${logs} bytes of QEMU's logs`);
});

bed.test("verify: two replays, every frame and every check equal", 180, async () => {
  const { directory } = await duo();
  const report = await bed.json(["verify", directory, "--runs", "2"]);
  assert.equal(report.ok, true);
  assert.equal(report.perRun.length, 2);
  const shown: ShownVm[] = (await bed.json(["show", directory])).vms;
  for (const [i, vm] of report.vms.entries()) {
    assert.equal(vm.frames.recorded, shown[i]!.frames.sent);
    assert.equal(vm.frames.matched, vm.frames.recorded);
    assert.ok(vm.frames.recorded >= 8, `${vm.name}: ${vm.frames.recorded} frames`);
    assert.equal(vm.checks.length, shown[i]!.checks);
    for (const { at, icount, registers, ram } of vm.checks) {
      assert.deepEqual({ at, icount, registers, ram }, {
        at,
        icount: true,
        registers: true,
        ram: true,
      });
    }
    assert.equal(vm.console, true);
    assert.ok(vm.replayS > 0 && vm.recordS > 0);
  }
});

bed.test("verify: another console, another RAM and another frame are found", 180, async () => {
  const { directory } = await duo();
  const other = await copyDirectory(directory, bed.path("other-state"));
  let checks = 0;
  falsifyLog(other, "beta", {
    check: (check) => ++checks > 1 ? check : { ...check, ramDigest: `xxh64:${"0".repeat(64)}` },
  });
  const console = `${vmDirectory(other, "beta")}/console.log`;
  const printed = await Deno.readFile(console);
  printed[printed.length - 2]! ^= 1;
  await Deno.writeFile(console, printed);
  const state = await bed.run(["verify", other, "--json"]);
  assert.equal(state.status, 1, state.stderr);
  const [alpha, beta] = JSON.parse(state.stdout).vms;
  assert.deepEqual([alpha.console, beta.console], [true, false]);
  const ram = [...alpha.checks, ...beta.checks].filter(({ ram }) => !ram);
  assert.deepEqual(ram, [{ ...beta.checks[0], ram: false }]);
  for (const { icount, registers } of beta.checks) assert.ok(icount && registers);
  assert.equal(beta.frames.matched, beta.frames.recorded);

  const frame = await copyDirectory(directory, bed.path("other-frame"));
  falsifyLog(frame, "beta", {
    sendHash: (n, hash) => n === 5 ? hash.map((byte) => byte ^ 1) : hash,
  });
  const diverged = await bed.run(["verify", frame]);
  assert.equal(diverged.status, 1);
  assert.match(diverged.stderr, /VM beta, instruction \d+, frame 5: it sent a different frame/);
});

bed.test("dump: every event, each of which encodes to its bytes again", 60, async () => {
  const { directory } = await duo();
  const { status, stdout, stderr } = await bed.run(["dump", directory, "--json"]);
  assert.deepEqual([status, stderr], [0, ""]);
  const dumped = Map.groupBy(
    stdout.trimEnd().split("\n").map((line) => JSON.parse(line)),
    ({ vm }) => vm as string,
  );
  const manifest = readManifest(directory);
  for (const { name, number, qemu, totals, end } of manifest.vms) {
    const items = dumped.get(name)!;
    const ofKind = (kind: string) => items.filter((item) => item.kind === kind).length;
    assert.equal(ofKind("REFERENCE"), totals!.framesInternal);
    assert.equal(ofKind("FRAME"), totals!.framesExternal + totals!.framesUnmatched);
    assert.equal(ofKind("SEND"), totals!.framesSent);
    assert.equal(ofKind("CHECK"), totals!.checks);
    assert.equal(ofKind("CUT OFF"), 0);
    assert.deepEqual([items.at(-1).kind, items.at(-1).complete], ["LOG END", true]);
    assert.equal(Math.max(...items.map(({ icount }) => icount)), end!.icount);

    const table = tableForVersion(qemu.rrLogVersion);
    const reader = HybridLogReader.open(vmDirectory(directory, name), {
      vm: number,
      rrLogVersion: qemu.rrLogVersion,
      closed: true,
    });
    let events = 0;
    const visitor = {
      ...IGNORE_ITEMS,
      events(bytes: Uint8Array) {
        const encoded = decodeEvents(bytes, table, name).map((event) => encodeEvent(event, table));
        const parts = [...encoded];
        events += parts.length;
        assert.ok(
          Buffer.concat(parts).equals(bytes),
          `${name}: a run of events encodes differently`,
        );
      },
    };
    while (reader.nextBlock(visitor));
    reader.close();
    assert.equal(events, items.filter(({ offset }) => offset !== undefined).length);
  }
});

bed.test(
  "timeline: every line and received frame, a frame behind what it answers",
  180,
  async () => {
    const { directory } = await duo();
    const { status, stdout, stderr } = await bed.run(["timeline", directory, "--frames", "--json"]);
    assert.deepEqual([status, stderr], [0, ""]);
    const items: TimelineItem[] = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    for (const { name, totals, end } of readManifest(directory).vms) {
      const own = items.filter(({ vm }) => vm === name);
      const lines = own.filter(({ kind }) => kind === "line").map(({ text }) => `${text}\n`);
      assert.equal(lines.join(""), readConsole(directory, name).replaceAll(/[ \r]*\n/g, "\n"));
      const { framesInternal, framesExternal, framesUnmatched } = totals!;
      assert.equal(own.length - lines.length, framesInternal + framesExternal + framesUnmatched);
      const places = own.map(({ icount }) => icount ?? end!.icount);
      assert.deepEqual(places, places.toSorted((a, b) => a - b), `${name}: in its order`);
    }
    const at = (vm: string, from: string, text: string) =>
      items.findIndex((item) => item.vm === vm && item.from === from && item.text.endsWith(text));
    const [request, reply] = [
      at("beta", "alpha", "echo request"),
      at("alpha", "beta", "echo reply"),
    ];
    assert.ok(request >= 0 && reply > request, `request ${request}, reply ${reply}`);
  },
);

bed.test("record: two clusters at once do not disturb each other", 180, async () => {
  const names = ["first", "second"];
  const reports = await Promise.all(names.map(async (name) => {
    const vms: TestVm[] = [{ name: "solo", role: "greet", host: 7, peers: [254] }];
    const directory = bed.path(name);
    const spec = await bed.cluster(name, vms);
    return await bed.json(["record", spec, "--out", directory, "--digest-every", "0"]);
  }));
  for (const [i, report] of reports.entries()) {
    assert.deepEqual([report.name, report.endedBy, report.complete], [names[i], "poweroff", true]);
    assert.match(readConsole(report.directory, "solo"), /^OK greet$/m);
  }
  assert.notEqual(reports[0].id, reports[1].id);
  const listed = await bed.json(["ls"]);
  for (const { id } of reports) {
    assert.ok(JSON.stringify(listed).includes(id), `the catalog has ${id}`);
  }
});

bed.test("record --for: ends guests that would never end", 120, async () => {
  const directory = bed.path("timed");
  const spec = await bed.cluster("timed", CHATTER.slice(0, 1));
  const report = await bed.json([
    ...["record", spec, "--out", directory],
    ...["--for", "4s", "--digest-every", "0"],
  ]);
  assert.deepEqual([report.endedBy, report.complete], ["duration", true]);
  assert.ok(report.recordS >= 4 && report.recordS < 15, `${report.recordS} s`);
  const replayed = await bed.json(["replay", directory]);
  assert.equal(replayed.ok, true);
  assert.equal(replayed.incomplete, undefined);
});

bed.test("record: Ctrl-C is a good end, in the middle of the traffic", 180, async () => {
  const directory = bed.path("stopped");
  const spec = await bed.cluster("stopped", CHATTER);
  const recording = bed.start(["record", spec, "--out", directory, "--digest-every", "0"]);
  await bed.consolesShow(recording, directory, ["left", "right"], "bytes from");
  recording.signal("SIGINT");
  const { status, stderr } = await recording.ended;
  assert.equal(status, 0, stderr);
  const shown = await bed.json(["show", directory]);
  assert.deepEqual([shown.endedBy, shown.complete, shown.state], ["interrupt", true, "sealed"]);
  const verified = await bed.json(["verify", directory]);
  assert.equal(verified.ok, true);
  for (const vm of verified.vms) {
    assert.ok(vm.frames.recorded >= 2, `${vm.name}: ${vm.frames.recorded} frames`);
    assert.equal(vm.frames.matched, vm.frames.recorded);
    assert.equal(vm.console, true);
  }
});

bed.test("record and verify: a guest's disk and its serial input", 180, async () => {
  const disk = bed.path("disk.qcow2");
  await Deno.writeFile(bed.path("disk.raw"), patternOf(1 << 20));
  await run(["qemu-img", "convert", "-O", "qcow2", bed.path("disk.raw"), disk]);
  const before = await Deno.readFile(disk);
  const directory = bed.path("devices");
  const spec = await bed.cluster("devices", [
    { name: "disk", role: "disk", host: 1, more: { disk } },
    { name: "typed", role: "typed", host: 2, more: { serialInput: "one\ntwo words\nbye\n" } },
  ]);
  const report = await bed.json(["record", spec, "--out", directory, "--digest-every", "0"]);
  assert.deepEqual([report.endedBy, report.complete], ["poweroff", true]);

  const changed = patternOf(1 << 20);
  changed.fill(0, 8 * 4096, 12 * 4096);
  const disks = readConsole(directory, "disk");
  assert.match(disks, new RegExp(`^BEFORE ${md5(patternOf(1 << 20))} `, "m"));
  assert.match(disks, new RegExp(`^AFTER ${md5(changed)} `, "m"));
  assert.deepEqual(await Deno.readFile(disk), before, "the image itself is never written");
  assert.match(
    readConsole(directory, "typed"),
    /TYPED <one>[^]*TYPED <two words>[^]*TYPED <bye>[^]*OK typed/,
  );

  const verified = await bed.json(["verify", directory]);
  assert.equal(verified.ok, true);
});

/** Bytes that are nowhere the same. */
function patternOf(length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(length / 4);
  words.forEach((_, i) => words[i] = Math.imul(i, 2654435761));
  return new Uint8Array(words.buffer);
}

function md5(bytes: Uint8Array): string {
  return createHash("md5").update(bytes).digest("hex");
}
