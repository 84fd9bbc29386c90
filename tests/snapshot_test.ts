/**
 * Recordings that start from a saved cluster: nothing on its way is lost, as many recordings as wanted
 * start from one snapshot, each replays identically, and what does not fit is refused by name.
 */
import assert from "node:assert/strict";
import { run } from "../host/command.ts";
import { HostError } from "../lib/errors.ts";
import { readManifest } from "../lib/recording/manifest.ts";
import { type FramePort, openPacketSocket } from "../net/tap_fixture.ts";
import { copyDirectory, once, readConsole, testBed, type TestVm } from "./end_to_end_fixture.ts";

const bed = testBed();

const NAMES = ["left", "right"];
const ENETDOWN = 100;
const ETHERTYPE_IP = 0x0800;
const pair = (role: string): readonly TestVm[] => [
  { name: "left", role, host: 1, peers: [2] },
  { name: "right", role, host: 2, peers: [1] },
];

interface BootedVm {
  readonly name: string;
  readonly instructions: number;
  readonly framesInFlight: number;
}

/** Two guests about to toss. */
const tossers = once(async () => {
  const spec = await bed.cluster("toss", pair("toss"));
  const report = await bed.json(["boot", spec, "--save", "toss", "--until", "READY to toss"]);
  return { spec, vms: report.vms as BootedVm[] };
});

const recorded = once(async () => {
  await tossers();
  const directory = bed.path("tossed");
  await bed.json(["record", "--from", "toss", "--out", directory, "--digest-every", "300ms"]);
  return directory;
});

bed.test("boot: the snapshot is listed, has its parts, and is not overwritten", 180, async () => {
  const { spec, vms } = await tossers();
  assert.deepEqual(vms.map(({ name }) => name), NAMES);
  const listed = await bed.json(["snapshots"]);
  assert.deepEqual(listed.map((entry: { name: string }) => entry.name), ["toss"]);
  assert.deepEqual(listed[0].vms, NAMES);
  assert.ok(listed[0].bytes > 20_000_000, `${listed[0].bytes} bytes`);
  const again = await bed.run(["boot", spec, "--save", "toss", "--until", "READY"]);
  assert.equal(again.status, 1);
  assert.match(again.stderr, /snapshot "toss" already.*--force/);
});

bed.test("record --from: twice from one snapshot, each replays identically", 300, async () => {
  const { vms, spec } = await tossers();
  const second = bed.path("tossed-again");
  await bed.json(["record", spec, "--from", "toss", "--out", second, "--digest-every", "300ms"]);
  for (const directory of [await recorded(), second]) {
    const manifest = readManifest(directory);
    for (const [i, { name, firstIcount, end }] of manifest.vms.entries()) {
      assert.ok(firstIcount! <= vms[i]!.instructions, `${name} starts at ${firstIcount}`);
      assert.ok(end!.icount > firstIcount!, `${name} ran on`);
      assert.match(readConsole(directory, name), /^TOSSED \d+:/m);
      assert.doesNotMatch(readConsole(directory, name), /READY/, "printed during the boot");
      const { stdout } = await bed.run(["dump", directory, "--vm", name, "--json"]);
      const counts = stdout.trimEnd().split("\n").map((line) => JSON.parse(line).icount);
      assert.deepEqual([counts[0], counts.at(-1)], [firstIcount, end!.icount]);
    }
    const { name, instructions } = vms[0]!;
    const before = ["replay", directory, "--to", `${instructions - 1000}@${name}`, "--hold"];
    await expectRefused(before, `executes the instructions ${instructions + 1} to`);
  }
  await Promise.all([await recorded(), second].map((each) => bed.expectIdentical(each, 1)));
  const again = await bed.json(["show", second]);
  assert.equal(again.complete, true);
});

bed.test("frames in flight: no ping and no answer is lost across the snapshot", 300, async () => {
  const spec = await bed.cluster("steady", pair("steady"));
  const boot = ["boot", spec, "--save", "steady", "--until", "READY to ping", "--after", "700ms"];
  const { vms }: { vms: BootedVm[] } = await bed.json(boot);
  const directory = bed.path("steady");
  const report = await bed.json([
    ...["record", "--from", "steady", "--out", directory, "--digest-every", "0"],
  ]);
  for (const [i, { name, frames }] of report.vms.entries()) {
    assert.match(readConsole(directory, name), /^COUNTED 600 requests, 600 answers$/m);
    assert.ok(frames.external >= vms[i]!.framesInFlight, `${name}: ${frames.external} external`);
  }
  await bed.expectIdentical(directory, 0);
});

/** Of an Ethernet frame: the sequence number of a ping, or of the answer to one. */
function pingOf(frame: Uint8Array, kind: "request" | "answer"): number | undefined {
  const icmp = 14 + 20;
  const isPing = frame.length > icmp + 8 && frame[12] === 8 && frame[13] === 0 && frame[23] === 1 &&
    frame[icmp] === (kind === "request" ? 8 : 0);
  return isPing ? frame[icmp + 6]! << 8 | frame[icmp + 7]! : undefined;
}

/** Takes the numbers of the answers that have come so far. */
function takeAnswers(socket: FramePort, into: number[]): void {
  try {
    for (let frame = socket.poll(); frame !== undefined; frame = socket.poll()) {
      const sequence = pingOf(frame, "answer");
      if (sequence !== undefined) into.push(sequence);
    }
  } catch (error) {
    if (!(error instanceof HostError && error.code === ENETDOWN)) throw error; // it has been removed
  }
}

/** Boots `spec` while the host pings `address`; returns the numbers that were answered, and its report. */
async function bootPinged(spec: string, address: string): Promise<[number[], BootedVm]> {
  const ready = ["--until", "GUEST", "--after", "2s"];
  const booting = bed.start(["boot", spec, "--save", "pinged", ...ready, "--json", "-v"]);
  await booting.said("booting");
  const uplink = `clrr${booting.runDirectory.split("/").at(-1)}`;
  using socket = openPacketSocket("/proc/self/ns/net", uplink, 0, ETHERTYPE_IP);
  const args = ["ping", "-i", "0.01", "-w", "60", address];
  const ping = new Deno.Command("busybox", { args, stdout: "null", stderr: "null" }).spawn();
  const answered: number[] = [];
  const listening = setInterval(() => takeAnswers(socket, answered), 5);
  const { status, stdout, stderr } = await booting.ended;
  clearInterval(listening);
  ping.kill("SIGKILL");
  await ping.status;
  assert.equal(status, 0, stderr);
  return [answered, JSON.parse(stdout).vms[0]];
}

bed.test("frames in flight: a ping that was kept is answered after the start", 240, async () => {
  const spec = await bed.cluster("pinged", [{ name: "solo", role: "count", host: 1 }]);
  const subnet = /"address": "([\d.]+)\.254/.exec(await Deno.readTextFile(spec))![1]!;
  const [before, { framesInFlight }] = await bootPinged(spec, `${subnet}.1`);
  // While the VM stood still, the host went on.
  assert.ok(framesInFlight >= 5, `${framesInFlight} frames in flight`);

  const directory = bed.path("pinged");
  const record = ["record", "--from", "pinged", "--out", directory, "--for", "3s"];
  await bed.json([...record, "--digest-every", "0"]);
  const dumped = await bed.run(["dump", directory, "--json"]);
  const items = dumped.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  const pings = (kind: string, field: string, direction: "request" | "answer") =>
    items.filter((item) => item.kind === kind)
      .map((item) => pingOf(Uint8Array.fromHex(item[field]), direction))
      .filter((sequence) => sequence !== undefined);
  const kept = pings("FRAME", "bytes", "request");
  const after = pings("SEND", "head", "answer");
  assert.ok(
    kept.length >= 5 && before.length > 50,
    `${kept.length} kept, ${before.length} answered`,
  );
  assert.ok(kept.every((n, i) => n === kept[0]! + i), `kept: ${kept}`);
  // Answers follow one another from the last one before the snapshot to that of the last one kept:
  // nothing is lost between, and nothing comes twice.
  const first = before.at(-1)! + 1;
  assert.deepEqual(after, Array.from({ length: kept.at(-1)! + 1 - first }, (_, i) => first + i));
  await bed.expectIdentical(directory, 0);
});

/** A stop falls on a boundary of the log: so counts are right if the checks' are among the log's. */
async function expectChecksInLog(directory: string): Promise<void> {
  const { stdout } = await bed.run(["dump", directory, "--json"]);
  const items = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  const logged = new Set(items.map(({ kind, icount }) => kind === "INSTRUCTION" ? icount : -1));
  const checks = items.filter(({ kind }) => kind === "CHECK").map(({ at, icount }) => at ?? icount);
  assert.ok(checks.length > 0, "there are checks");
  assert.deepEqual(checks.filter((at) => !logged.has(at)), []);
}

bed.test(
  "record --from: more than 2^31 instructions after power-on, paused while busy",
  240,
  async () => {
    const spec = await bed.cluster("old", [{ name: "old", role: "count", host: 1 }]);
    const boot = ["boot", spec, "--save", "old", "--until", "COUNT 100000", "--after", "1500ms"];
    const { vms }: { vms: BootedVm[] } = await bed.json(boot);
    assert.ok(vms[0]!.instructions > 2 ** 31, `${vms[0]!.instructions} instructions`);
    const directory = bed.path("old");
    await bed.json([
      ...["record", "--from", "old", "--out", directory],
      ...["--for", "6s", "--digest-every", "1s"],
    ]);
    await expectChecksInLog(directory);
    await bed.expectIdentical(directory, 1);
  },
);

bed.test("record --from: the disk goes on as it was saved, and stays so", 240, async () => {
  const disk = bed.path("disk.raw");
  await Deno.writeFile(disk, new Uint8Array(1 << 20).map((_, i) => i >> 9));
  const spec = await bed.cluster("late", [
    { name: "late", role: "late", host: 1, more: { disk: { image: disk, format: "raw" } } },
  ]);
  await bed.json(["boot", spec, "--save", "late", "--until", "READY"]);
  const sums: (string | undefined)[] = [];
  for (const name of ["late1", "late2"]) {
    const directory = bed.path(name);
    await bed.json(["record", "--from", "late", "--out", directory, "--digest-every", "0"]);
    assert.match(readConsole(directory, "late"), /^GUEST role=late status=0$/m);
    sums.push(/^AFTER (\S+)/m.exec(readConsole(directory, "late"))?.[1]);
    await bed.expectIdentical(directory, 0);
  }
  assert.ok(sums[0] !== undefined && sums[0] === sums[1], `sums of the disk: ${sums}`);
});

bed.test("until-failure: a run that failed is kept, and replays", 300, async () => {
  await tossers();
  const out = bed.path("failed");
  const hunt = ["--until-failure", "--max-runs", "30", "--on-guest-failure"];
  const found = await bed.json([
    ...["record", "--from", "toss", "--out", out, "--digest-every", "0", ...hunt],
  ]);
  assert.equal(found.failed, true);
  assert.equal(found.recording.directory, out);
  const failed = (run: { failed: boolean }) => run.failed;
  assert.equal(
    found.runs.findIndex(failed),
    found.runs.length - 1,
    "it ends with the first failure",
  );
  assert.match(found.runs.at(-1).reason, /status=1/);
  assert.ok(NAMES.some((name) => /^GUEST .*status=1$/m.test(readConsole(out, name))));
  const replayed = await bed.json(["replay", out]);
  assert.equal(replayed.ok, true);
});

bed.test("until-failure: none in so many runs is status 1, and nothing is kept", 120, async () => {
  await tossers();
  const out = bed.path("never");
  const command =
    'grep -q TOSSED "$CLUSTERRR_CONSOLE_LEFT" && test -f "$CLUSTERRR_RECORDING/manifest.json"';
  const { status, stderr } = await bed.run([
    ...["record", "--from", "toss", "--out", out, "--digest-every", "0"],
    ...["--until-failure", "--max-runs", "2", "--on-failure", command],
  ]);
  assert.equal(status, 1, stderr);
  assert.match(stderr, /^run 1: passed, [^]*^run 2: passed, /m);
  assert.match(stderr, /none of 2 runs failed/);
  await assert.rejects(Deno.stat(out), Deno.errors.NotFound);
});

bed.test("on-failure: one run, kept if the command says so", 120, async () => {
  await tossers();
  const out = bed.path("once");
  const { status, stderr } = await bed.run([
    ...["record", "--from", "toss", "--out", out, "--digest-every", "0", "--on-failure", "exit 3"],
  ]);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^run 1: FAILED, the command ended with status 3/m);
  assert.equal(readManifest(out).complete, true);
});

async function expectRefused(args: readonly string[], ...words: (string | RegExp)[]) {
  const { status, stdout, stderr } = await bed.run(args);
  assert.equal(status, 1, stderr + stdout);
  for (const word of words) {
    if (typeof word === "string") assert.ok(stderr.includes(word), stderr);
    else assert.match(stderr, word);
  }
  assert.doesNotMatch(stderr, /internal error|This is a bug|^\s+at /m);
}

bed.test("what does not fit a snapshot is refused by name", 240, async () => {
  await tossers();
  const out = ["--out", bed.path("refused")];
  await expectRefused(
    ["record", "--from", "tos", ...out],
    'No snapshot "tos"',
    "there are: ",
    "toss",
  );
  const other = await bed.cluster("other", [
    { name: "left", role: "toss", host: 1, peers: [2] },
    { name: "right", role: "toss", host: 2, peers: [1], more: { memory: "96M" } },
  ]);
  await expectRefused(
    ["record", other, "--from", "toss", ...out],
    'not the cluster of snapshot "toss"',
    "vms[1].memoryMiB: 128 was booted, now 96",
  );
  await expectRefused(["snapshots", "rm", "tos"], 'No snapshot "tos"');
  await assert.rejects(Deno.stat(bed.path("refused")), Deno.errors.NotFound);
});

/** Changes some bytes of a file in the middle. */
async function damage(path: string): Promise<void> {
  await Deno.chmod(path, 0o600);
  using file = await Deno.open(path, { write: true });
  await file.seek(1 << 20, Deno.SeekMode.Start);
  await file.write(new Uint8Array([1, 2, 3, 4]));
}

bed.test(
  "a damaged snapshot and another QEMU than the one that saved it are refused",
  180,
  async () => {
    const program = bed.path("qemu-wrapper");
    await Deno.writeTextFile(program, '#!/bin/sh\nexec qemu-system-x86_64 "$@"\n', { mode: 0o755 });
    const spec = await bed.cluster("wrapped", pair("toss"), { profile: { qemu: program } });
    await bed.json(["boot", spec, "--save", "wrapped", "--after", "300ms"]);
    const refused = bed.path("refused");
    await damage(`${bed.path("snapshots")}/wrapped/vms/right/state.qcow2`);
    await expectRefused(
      ["record", "--from", "wrapped", "--out", refused],
      "state.qcow2",
      "damaged",
    );
    await assert.rejects(Deno.stat(refused), Deno.errors.NotFound);
    await Deno.writeTextFile(program, "# another build\n", { append: true });
    await expectRefused(
      ["record", "--from", "wrapped", "--out", bed.path("refused")],
      /Snapshot "wrapped" does not fit this host/,
      /another build of QEMU/,
    );
  },
);

bed.test(
  "a replay names the snapshot that is missing, and takes a copy beside the log",
  240,
  async () => {
    await tossers();
    const directory = await copyDirectory(await recorded(), bed.path("moved"));
    const { snapshot } = readManifest(directory);
    const store = bed.path("snapshots");
    await run(["mv", `${store}/toss`, bed.path("away")]);
    try {
      await expectRefused(["replay", directory], 'snapshot "toss"', snapshot!.sha256, store);
      await run(["cp", "-r", bed.path("away"), `${directory}/snapshot`]);
      assert.equal((await bed.json(["replay", directory])).ok, true);
      await damage(`${directory}/snapshot/vms/left/state.qcow2`);
      await expectRefused(["replay", directory], "state.qcow2", "damaged");
    } finally {
      await run(["mv", bed.path("away"), `${store}/toss`]);
    }
  },
);

bed.test("kill -9 during a boot leaves no snapshot, and clean removes the rest", 120, async () => {
  const spec = await bed.cluster("killed", pair("toss"));
  const booting = bed.start(["boot", spec, "--save", "killed", "--until", "never printed"]);
  await booting.said("booting");
  booting.signal("SIGKILL");
  await booting.ended;
  const names = async () =>
    (await bed.json(["snapshots"])).map((entry: { name: string }) => entry.name);
  assert.ok(!(await names()).includes("killed"));
  const store = bed.path("snapshots");
  const hidden = () => [...Deno.readDirSync(store)].filter(({ name }) => name.startsWith("."));
  assert.equal(hidden().length, 1);
  const cleaned = await bed.run(["clean"]);
  assert.equal(cleaned.status, 0, cleaned.stderr);
  assert.match(cleaned.stdout, /half-made snapshot/);
  assert.equal(hidden().length, 0);
});

bed.test("Ctrl-C during a boot: status 1, nothing saved, nothing left", 120, async () => {
  const spec = await bed.cluster("ended", pair("toss"));
  for (const phase of ["building the network", "booting"]) {
    const booting = bed.start(["boot", spec, "--save", "ended", "--until", "never printed"]);
    await booting.said(phase);
    booting.signal("SIGINT");
    const { status, stderr } = await booting.ended;
    assert.equal(status, 1, stderr);
    assert.doesNotMatch(stderr, /internal error|This is a bug|^\s+at /m);
    const names = [...Deno.readDirSync(bed.path("snapshots"))].map(({ name }) => name);
    assert.ok(!names.some((name) => name === "ended" || name.startsWith(".")), `${names}`);
  }
});

bed.test("boot: a guest that powers off before, and a text that does not come", 180, async () => {
  const greet = await bed.cluster("greet", [{
    name: "solo",
    role: "greet",
    host: 1,
    peers: [254],
  }]);
  const count = await bed.cluster("count", [{ name: "solo", role: "count", host: 1 }]);
  await tossers();
  const before = await bed.json(["snapshots"]);
  assert.ok(before.some((entry: { name: string }) => entry.name === "toss"));
  await Promise.all([
    expectRefused(
      ["boot", greet, "--save", "gone", "--until", "never printed"],
      /VM solo powered off before the cluster was saved/,
    ),
    expectRefused(
      ["boot", count, "--save", "toss", "--force", "--until", "never", "--timeout", "4s"],
      /VM solo has not printed "never" within 4 s/,
    ),
  ]);
  assert.deepEqual(await bed.json(["snapshots"]), before, "what was there stays");
});
