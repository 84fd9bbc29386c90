/**
 * A replay that is stopped, looked at and moved, on real QEMU: from the start, from snapshots, forward,
 * backward, under gdb. Wherever a point is reached from, the cluster is in the same state there.
 */
import assert from "node:assert/strict";
import { run } from "../host/command.ts";
import type { TimelineItem } from "../lib/cli/ports.ts";
import { SILENT } from "../lib/cli/progress.ts";
import { epochStart } from "../lib/clocks/lamport.ts";
import { HostError } from "../lib/errors.ts";
import { cutAt, nextStop } from "../lib/roles/cluster_cut.ts";
import { readManifest, vmDirectory, writeManifest } from "../lib/recording/manifest.ts";
import type { SessionState } from "../lib/session/session.ts";
import type { VmNumber } from "../lib/units.ts";
import { openRecording } from "../operations/open_recording.ts";
import { ReplayWorld } from "../operations/replay_world.ts";
import { copyDirectory, once, testBed, type TestVm } from "./end_to_end_fixture.ts";
import { HeldReplay } from "./held_replay.ts";

const bed = testBed();
const GDB_WITHIN_S = 180;
const MIB = 2 ** 20;
/** After so many answers the guests have talked for a while. The first pings may have none: a peer boots later. */
const TALKED = 60;
/** Checkpoints are counted from the end: how long the guests take to boot depends on the machine. */
const LATE_BEFORE_END = 4;
const EARLY_BEFORE_END = 12;
const EPOCHS_PER_S = 4;

const TRIO: readonly TestVm[] = [
  { name: "left", role: "chatter", host: 1, peers: [2] },
  { name: "mid", role: "chatter", host: 2, peers: [3] },
  { name: "right", role: "chatter", host: 3, peers: [1] },
];

/** Three guests that ping each other in a ring, until they have talked for a while. */
const recording = once(async () => {
  const directory = bed.path("ring");
  const spec = await bed.cluster("ring", TRIO);
  const tool = bed.start(["record", spec, "--out", directory, "--digest-every", "2s"]);
  await bed.consolesShow(tool, directory, TRIO.map(({ name }) => name), "bytes from", TALKED);
  tool.signal("SIGINT");
  assert.equal((await tool.ended).status, 0, tool.stderr);
  const session = await HeldReplay.open(bed, directory, ["--to", "1"]);
  const { lastCheckpoint }: SessionState = await session.ask("state");
  await session.quit();
  const late = lastCheckpoint - LATE_BEFORE_END;
  return { directory, early: lastCheckpoint - EARLY_BEFORE_END, late };
});

/** The same with snapshots. */
const indexed = once(async () => {
  const directory = await copyDirectory((await recording()).directory, bed.path("indexed"));
  const report = await bed.json(["index", directory, "--every", "8"]);
  return { directory, report };
});

bed.test("stop: every VM at one checkpoint, and what is there", 180, async () => {
  const { directory, late } = await recording();
  const session = await HeldReplay.open(bed, directory, ["--to", `${late}`]);
  const state: SessionState = await session.command("state");
  assert.deepEqual(state.vms.map(({ name }) => name), ["left", "mid", "right"]);
  assert.ok(state.checkpoint >= late && state.checkpoint <= state.lastCheckpoint);
  for (const vm of state.vms) {
    assert.ok(vm.icount > 100_000_000 && vm.sent > 3 && vm.received > 3, JSON.stringify(vm));
    assert.match(vm.registers!, /\bRIP=ffffffff[0-9a-f]{8}\b|\bRIP=0000/);
  }
  assert.match((await session.command("console", "mid")).console, /GUEST role=chatter/);
  assert.match((await session.command("x", "left", "/2xg", "$sp")).text, /^[0-9a-f]{16}: 0x/);
  assert.match((await session.command("info", "left", "registers")).text, /RIP=/);

  // Behind a line that the timeline shows, that line is the last on the console.
  const { stdout } = await bed.run(["timeline", directory, "--vm", "mid", "--json"]);
  const lines: TimelineItem[] = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  const line = lines.findLast(({ icount }) => icount !== null && icount < state.vms[1]!.icount)!;
  const there = await session.command("seek", `${line.icount}@mid`);
  assert.equal(there.vms[1]!.icount, line.icount);
  assert.ok(
    (await session.command("console", "mid")).console.trimEnd().endsWith(line.text),
    line.text,
  );
  assert.deepEqual(await session.seek(state.checkpoint), state);

  const refused: [string[], RegExp][] = [
    [["seek", "99999"], /checkpoints 1 to \d+; there is no 99999/],
    [["seek", "99h"], /The recording is \d+\.\d s long/],
    [["seek", "5@nobody"], /no VM nobody. It has: left, mid, right/],
    [["seek", "999999999999@left"], /executes the instructions 1 to/],
    [["seek", "soon"], /is no point of a recording/],
    [["console", "nobody"], /no VM nobody/],
  ];
  for (const [words, message] of refused) {
    const { status, stderr } = await bed.run([...words, "--session", session.name]);
    assert.equal(status, 1, words.join(" "));
    assert.match(stderr, message);
  }
  assert.deepEqual(await session.command("state"), state, "nothing has moved");

  // One that hangs up in the middle of a word is nobody's harm.
  const path = `/run/clusterrr/${session.name}/session.sock`;
  const asker = await Deno.connect({ transport: "unix", path });
  await asker.write(new TextEncoder().encode('{"wor'));
  asker.close();
  assert.deepEqual(await session.command("state"), state);
  await session.command("quit");
  assert.equal((await session.tool.ended).status, 0, session.tool.stderr);
});

/** Opens the replay of a recording in this process. */
async function openWorld(directory: string): Promise<ReplayWorld> {
  const { signal } = new AbortController();
  return await ReplayWorld.open(await openRecording(directory, SILENT, signal), {
    progress: SILENT,
    signal,
  });
}

bed.test(
  "stop: a VM that stands short of a frame that another one needs goes on",
  180,
  async () => {
    const { directory, late } = await recording();
    const world = await openWorld(directory);
    const { censuses } = world.recording;
    const cut = cutAt(censuses, epochStart(late));
    const [left] = cut.stops.keys();
    const early = nextStop(censuses.get(left!)!, { icount: 0, receives: 0 })!;
    try {
      await world.runTo({ ...cut, stops: new Map([...cut.stops, [left!, early]]) });
      const positions = await world.positions();
      assert.ok(positions.get(left!)!.icount > early.icount, "it has gone on");
      for (const [vm, { icount, receives }] of positions) {
        if (vm !== left) {
          assert.equal(
            icount,
            cut.stops.get(vm)!.icount,
            "the others stand at theirs",
          );
        }
        const { sources, numbers } = censuses.get(vm)!.receives;
        for (let i = 0; i < receives; i++) {
          const sent = positions.get(sources[i] as VmNumber)?.sends ?? Infinity; // from outside
          assert.ok(numbers[i]! < sent, `VM ${vm} has received what was not sent`);
        }
      }
      for (const { name, framesMatched, framesRecorded } of await world.runTo(undefined)) {
        assert.equal(framesMatched, framesRecorded, name);
      }
    } finally {
      await world.close();
    }
  },
);

bed.test(
  "verify: a state that cannot be looked at ends the replay, with that error",
  120,
  async () => {
    const { directory } = await recording();
    const world = await openWorld(directory);
    try {
      const error = new HostError("write /run/x", 28, "", "no space");
      for (const { vm } of world.vms) vm.state = () => Promise.reject(error);
      await assert.rejects(world.runTo(undefined, ({ census }) => census.checks), error);
    } finally {
      await world.close();
    }
  },
);

bed.test("seek: forward, backward and from snapshots, always the same states", 400, async () => {
  const { directory: plain, early, late } = await recording();
  const fromStart = await HeldReplay.open(bed, plain, ["--to", `${early}`]);
  const stateEarly = await fromStart.digest();
  await fromStart.seek(`${late / EPOCHS_PER_S}s`);
  const stateLate = await fromStart.digest();
  assert.notDeepEqual(stateLate, stateEarly);
  await fromStart.seek(early);
  assert.deepEqual(await fromStart.digest(), stateEarly, "backward, from the start");

  const { directory, report } = await indexed();
  assert.ok(report.checkpoints.length >= 3 && report.bytes > 50 * MIB, JSON.stringify(report));
  const fromSnapshots = await HeldReplay.open(bed, directory, ["--to", `${late}`, "--window", "1"]);
  assert.deepEqual(await fromSnapshots.digest(), stateLate, "from a snapshot");
  await fromSnapshots.seek(early);
  assert.deepEqual(await fromSnapshots.digest(), stateEarly, "backward, from another one");

  // An instruction of one VM: it stands there exactly, whichever way it came.
  const { vms } = await fromSnapshots.seek(early + 3);
  const { name, icount } = vms[1]!;
  const there = await fromSnapshots.seek(`${icount + 1000}@${name}`);
  assert.equal(there.vms[1]!.icount, icount + 1000);
  const again = await fromStart.seek(`${icount + 1000}@${name}`);
  assert.deepEqual(again.vms[1], there.vms[1]);

  for (const session of [fromStart, fromSnapshots]) {
    const end = await session.ask("continue");
    assert.equal(end.ok, true, JSON.stringify(end));
    assert.equal((await session.tool.ended).status, 0);
  }
});

bed.test("stop: of a recording that lacks a VM, as far as the others get", 240, async () => {
  const directory = await copyDirectory((await recording()).directory, bed.path("partial"));
  const manifest = readManifest(directory);
  const { number: lacking } = manifest.vms.find(({ name }) => name === "right")!;
  writeManifest(directory, {
    ...manifest,
    complete: false,
    hosts: manifest.vms.map(({ number, name }) => ({ name, vms: [number] })),
    vms: manifest.vms.filter(({ number }) => number !== lacking),
    segments: manifest.segments.filter(({ vm }) => vm !== lacking),
  });
  await Deno.remove(vmDirectory(directory, "right"), { recursive: true });
  const report = await bed.json(["index", directory, "--every", "4"]);
  assert.ok(report.checkpoints.length > 0, JSON.stringify(report));
  const session = await HeldReplay.open(bed, directory, ["--to", "4"]);
  const state: SessionState = await session.ask("state");
  assert.deepEqual(state.vms.map(({ name }) => name), ["left", "mid"]);
  assert.ok(state.vms.every(({ icount }) => icount > 0), JSON.stringify(state));
  await session.seek(2);
  assert.deepEqual(await session.seek(4), state);
  const end = await session.ask("continue");
  assert.equal(end.ok, true, JSON.stringify(end));
  assert.equal((await session.tool.ended).status, 0);
  const { incomplete } = await bed.json(["replay", directory]);
  assert.match(incomplete, /the log of right is missing/);
});

bed.test("index: thinned out above its size, and taken anew", 200, async () => {
  const directory = await copyDirectory((await recording()).directory, bed.path("thin"));
  const report = await bed.json(["index", directory, "--every", "6", "--max-size", "600M"]);
  assert.ok(report.taken > report.checkpoints.length, JSON.stringify(report));
  assert.ok(report.bytes <= 600 * MIB);
  const entries = [...Deno.readDirSync(`${directory}/index`)].map(({ name }) => name);
  assert.deepEqual(
    entries.sort(),
    report.checkpoints.map(({ epoch }: { epoch: number }) => `${epoch}`.padStart(6, "0")),
  );
});

bed.test(
  "seek: a disk goes back too, also where a recording starts from a saved cluster",
  300,
  async () => {
    const disk = bed.path("disk.raw");
    await Deno.writeFile(disk, new Uint8Array(1 << 20).map((_, i) => i >> 9));
    const spec = await bed.cluster("disk", [
      { name: "late", role: "late", host: 1, more: { disk: { image: disk, format: "raw" } } },
      { name: "other", role: "chatter", host: 2, peers: [1] },
    ]);
    await bed.json(["boot", spec, "--save", "sought", "--until", "GUEST"]);
    for (const start of [[spec], ["--from", "sought"]]) {
      const directory = bed.path(`disk-${start.length}`);
      const out = ["--out", directory, "--for", "9s", "--digest-every", "0"];
      await bed.json(["record", ...start, ...out]);
      await bed.json(["index", directory, "--every", "6"]);
      const session = await HeldReplay.open(bed, directory, ["--to", "30"]);
      const late = await session.digest();
      await session.seek(14);
      await session.seek(30);
      assert.deepEqual(await session.digest(), late);
      assert.equal(
        (await session.ask("continue")).ok,
        true,
        "the disk is read back to the same sums",
      );
      assert.equal((await session.tool.ended).status, 0);
    }
    await bed.run(["snapshots", "rm", "sought"]);
  },
);

/** Runs gdb on a VM of a session and returns what it said. */
async function gdb(session: HeldReplay, vm: string, commands: readonly string[]): Promise<string> {
  const address = new RegExp(`Debug ${vm}: .*remote ([0-9.:]+)"`).exec(session.tool.stderr)![1];
  const all = ["set confirm off", "set width 0", `target remote ${address}`, ...commands];
  const script = bed.path(`${session.name}.gdb`);
  await Deno.writeTextFile(script, all.join("\n"));
  // What `monitor` says goes to standard error.
  const command = `timeout ${GDB_WITHIN_S} gdb -batch -nx -x ${script} 2>&1`;
  return await run(["sh", "-c", command], { timeoutMs: (GDB_WITHIN_S + 10) * 1000 });
}

const counts = (said: string) =>
  [...said.matchAll(/instruction (\d+) of/g)].map(([, count]) => Number(count));

bed.test(
  "gdb: a breakpoint stops the whole cluster; backward it stops at the same places",
  400,
  async () => {
    const { directory } = await indexed();
    const { early } = await recording();
    const session = await HeldReplay.open(bed, directory, [
      "--to",
      `${early + 3}`,
      "--gdb",
      "left,right",
    ]);
    const { vms } = await session.ask("state") as SessionState;
    const rip = /\bRIP=(\w+)/.exec(vms[0]!.registers!)![1];
    const said = await gdb(session, "left", [
      `hbreak *0x${rip}`,
      ...["continue", "monitor icount", "continue", "monitor icount", "continue", "monitor icount"],
      ...["reverse-continue", "monitor icount", "reverse-continue", "monitor icount"],
      ...["stepi", "monitor icount", "reverse-stepi", "monitor icount"],
    ]);
    const [first, second, third, back, backTwice, stepped, steppedBack] = counts(said);
    assert.ok(first! < second! && second! < third!, said);
    assert.deepEqual([back, backTwice, steppedBack], [second, first, first], said);
    assert.ok(stepped! >= first! && stepped! <= first! + 2, said);
    const state: SessionState = await session.ask("state");
    assert.equal(state.vms[0]!.icount, first, "the session stands where gdb left it");

    // Far: dozens of received frames, for each of which another VM has to move.
    const far = await gdb(session, "right", ["continue", "monitor icount"]);
    assert.match(far, /No more reverse-execution history/);
    const end: SessionState = await session.ask("state");
    assert.ok(end.vms[2]!.received > vms[2]!.received + 5, far);
    await session.seek(early + 3);
    assert.deepEqual((await session.ask("state")).vms, vms);
    await session.quit();
  },
);

// The last one: it spoils the snapshots that the others use.
bed.test("verify --parallel: the parts meet, and one that does not is found", 300, async () => {
  const { directory } = await indexed();
  const parallel = await bed.json(["verify", directory, "--parallel", "--jobs", "2"]);
  assert.equal(parallel.ok, true, JSON.stringify(parallel));
  assert.ok(parallel.perRun[0].parts > 1, "it was cut nowhere");

  for (const { name: epoch } of Deno.readDirSync(`${directory}/index`)) {
    const path = `${directory}/index/${epoch}/checkpoint.json`;
    const content = JSON.parse(await Deno.readTextFile(path));
    content.vms[2].state.ramDigest = `xxh64:${"0".repeat(64)}`;
    await Deno.writeTextFile(path, JSON.stringify(content));
  }
  const { status, stderr } = await bed.run(["verify", directory, "--parallel"]);
  assert.equal(status, 1);
  assert.match(stderr, /VM right, instruction \d+: its state at checkpoint \d+ is not that/);

  await Deno.remove(`${directory}/index`, { recursive: true }); // it was only a cache
  const serial = await bed.json(["verify", directory]);
  assert.equal(serial.ok, true, JSON.stringify(serial));
  const equalParts = ({ vms }: typeof serial) =>
    vms.map(({ replayS: _, ...vm }: { replayS: number }) => vm);
  assert.deepEqual(equalParts(parallel), equalParts(serial));
});
