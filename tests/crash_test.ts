/**
 * What is left when something dies in the middle: clusterrr itself, a QEMU, or the disk's last free
 * block. Whatever had been recorded by then can be shown and replayed, and the host can be cleaned.
 */
import assert from "node:assert/strict";
import { run } from "../host/command.ts";
import { decodeEvents } from "../hypervisor/rr_log/events.ts";
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import { type HybridVisitor, IGNORE_ITEMS } from "../lib/recording/hybrid_log.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { HybridLogWriter } from "../lib/recording/hybrid_log_writer.ts";
import { readManifest, vmDirectory, writeManifest } from "../lib/recording/manifest.ts";
import type { SessionState } from "../lib/session/session.ts";
import {
  copyDirectory,
  once,
  type Outcome,
  sleep,
  testBed,
  type TestVm,
  type Tool,
} from "./end_to_end_fixture.ts";
import { HeldReplay } from "./held_replay.ts";
import { qemuProcesses } from "./leftovers.ts";

const bed = testBed();

const NAMES = ["left", "right"];
const CHATTER: readonly TestVm[] = [
  { name: "left", role: "chatter", host: 1, peers: [2] },
  { name: "right", role: "chatter", host: 2, peers: [1] },
];
/** Longer than the recorder keeps items before it writes them to the disk. */
const FLUSHED_MS = 1_500;

/** Starts to record two guests that never end, and waits until what they say is on the disk. */
async function recordChatter(name: string, directory: string): Promise<Tool> {
  const spec = await bed.cluster(name, CHATTER);
  const recording = bed.start(["record", spec, "--out", directory, "--digest-every", "0"]);
  await bed.consolesShow(recording, directory, NAMES, "bytes from");
  await sleep(FLUSHED_MS);
  return recording;
}

interface ShownReplay {
  ok: boolean;
  incomplete?: string;
  vms: { name: string; framesMatched: number; consoleEqual: boolean }[];
}

/** Replays a recording that was cut off; its frames must be those of a conversation. */
async function replayCut(directory: string): Promise<ShownReplay> {
  const replayed: ShownReplay = await bed.json(["replay", directory]);
  assert.equal(replayed.ok, true);
  for (const { name, framesMatched, consoleEqual } of replayed.vms) {
    assert.ok(framesMatched >= 2, `${name}: ${framesMatched} frames`);
    assert.equal(consoleEqual, true);
  }
  return replayed;
}

/** Waits until no QEMU of the run is left. */
async function expectQemusGone(run: string, withinMs: number): Promise<void> {
  const deadline = performance.now() + withinMs;
  const left = () => qemuProcesses().filter((qemu) => qemu.run === run);
  while (left().length > 0 && performance.now() < deadline) await sleep(20);
  assert.deepEqual(left(), [], `QEMUs after ${withinMs} ms`);
}

bed.test("record killed: QEMUs end with it, clean removes the rest, it replays", 240, async () => {
  const directory = bed.path("killed");
  const recording = await recordChatter("killed", directory);
  const qemus = recording.qemus();
  const run = recording.runDirectory.split("/").at(-1)!;
  assert.deepEqual(qemus.map(({ vm }) => vm).sort(), NAMES);
  recording.signal("SIGKILL");
  assert.equal((await recording.ended).status, 128 + 9);
  await expectQemusGone(run, 10_000);

  const removed: string[] = await bed.json(["clean"]);
  const expected = [
    `directory /run/clusterrr/${run}`,
    `bpf pins /sys/fs/bpf/clrr-${run}`,
    `netns clrr-${run}`,
    `link clrr${run}`,
  ];
  for (const what of expected) assert.ok(removed.includes(what), `${what} not in ${removed}`);
  const again: string[] = await bed.json(["clean"]);
  assert.deepEqual(again.filter((line) => line.includes(run)), []);

  const shown = await bed.json(["show", directory]);
  assert.deepEqual([shown.state, shown.complete], ["recording", false]);
  const { stdout } = await bed.run(["show", directory]);
  assert.match(stdout, /cut off/);
  const replayed = await replayCut(directory);
  assert.match(replayed.incomplete ?? "", /the log of left, right ends early/);
  const told = await bed.run(["replay", directory]);
  assert.equal(told.status, 0, told.stderr);
  assert.match(told.stdout, /The recording is cut off: the log of left, right ends early/);

  // Its manifest does not know how long it is, and its logs end at different places.
  const session = await HeldReplay.open(bed, directory, ["--to", "1s"]);
  const { checkpoint, lastCheckpoint }: SessionState = await session.ask("state");
  assert.ok(checkpoint >= 4 && checkpoint < lastCheckpoint, `${checkpoint} of ${lastCheckpoint}`);
  const end: SessionState = await session.seek(lastCheckpoint);
  assert.deepEqual(end.vms.map(({ name }) => name), NAMES);
  const { status, stderr } = await bed.run(["seek", "9h", "--session", session.name]);
  assert.equal(status, 1);
  assert.match(stderr, /The recording is [1-9]\d*\.\d s long/);
  await session.quit();
});

/** A recording that one QEMU's death ended. */
const bereaved = once(async () => {
  const directory = bed.path("bereaved");
  const recording = await recordChatter("bereaved", directory);
  const victim = recording.qemus().find(({ vm }) => vm === "right")!;
  Deno.kill(victim.pid, "SIGKILL");
  return { directory, outcome: await recording.ended };
});

bed.test("a QEMU killed while recording: named, kept, replays up to there", 120, async () => {
  const { directory, outcome } = await bereaved();
  assert.equal(outcome.status, 1, outcome.stderr);
  assert.match(outcome.stderr, /the recording failed: QEMU of VM right was ended by SIGKILL/);
  assert.doesNotMatch(outcome.stderr, /VM left/);
  const shown = await bed.json(["show", directory]);
  assert.deepEqual([shown.state, shown.endedBy, shown.complete], ["sealed", "failure", false]);
  assert.match(shown.message, /QEMU of VM right was ended by SIGKILL/);
  const complete = shown.vms.map((vm: { name: string; complete: boolean }) => vm.complete);
  assert.deepEqual(complete, [true, false]);
  const replayed = await replayCut(directory);
  assert.match(replayed.incomplete ?? "", /the log of right ends early/);
});

bed.test("a QEMU ended while replaying: named, status 1", 120, async () => {
  const { directory } = await bereaved();
  const cases = [
    ["SIGKILL", /VM left, instruction \d+.*QEMU ended with SIGKILL/],
    // It ends in order then, with status 0: as if its guest had powered off.
    ["SIGTERM", /QEMU of VM left was ended from outside, by signal 15 from pid \d+/],
  ] as const;
  for (const [signal, message] of cases) {
    const replay = bed.start(["replay", directory]);
    await replay.said("replaying");
    await sleep(300);
    const victim = replay.qemus().find(({ vm }) => vm === "left")!;
    Deno.kill(victim.pid, signal);
    const { status, stderr } = await replay.ended;
    assert.equal(status, 1, stderr);
    assert.match(stderr, message);
  }
});

bed.test("a QEMU that is asked to end while recording has not powered off", 120, async () => {
  const directory = bed.path("asked");
  const recording = await recordChatter("asked", directory);
  Deno.kill(recording.qemus().find(({ vm }) => vm === "right")!.pid, "SIGTERM");
  const { status, stderr } = await recording.ended;
  assert.equal(status, 1, stderr);
  assert.match(stderr, /QEMU of VM right was ended from outside, by signal 15 from pid \d+/);
  assert.equal((await bed.json(["show", directory])).endedBy, "failure");
  assert.equal((await bed.json(["replay", directory])).ok, true);
});

/** Writes the log of VM `vm` anew, up to its last console output, which is left out. */
function cutBeforeOutput(directory: string, vm: string): void {
  const manifest = readManifest(directory);
  const { number, qemu } = manifest.vms.find(({ name }) => name === vm)!;
  const table = tableForVersion(qemu.rrLogVersion);
  const folder = vmDirectory(directory, vm);
  Deno.renameSync(folder, `${folder}-whole`);
  const readWhole = (visitor: Partial<HybridVisitor>) => {
    const expected = { vm: number, rrLogVersion: qemu.rrLogVersion, closed: false };
    const reader = HybridLogReader.open(`${folder}-whole`, expected);
    while (reader.nextBlock({ ...IGNORE_ITEMS, ...visitor }));
    reader.close();
  };
  const isOutput = ({ name }: { name: string }) => name === "CHAR_WRITE";
  let outputs = 0;
  readWhole({
    events: (bytes) => outputs += [...decodeEvents(bytes, table, vm).filter(isOutput)].length,
  });
  assert.ok(outputs > 0, `${vm} printed nothing`);

  const log = new HybridLogWriter(folder, { vm: number, rrLogVersion: qemu.rrLogVersion });
  let icount = 0;
  const unlessCut = <A extends unknown[]>(copy: (...args: A) => void) => (...args: A) => {
    if (outputs > 0) copy(...args);
  };
  readWhole({
    events: unlessCut((bytes) => {
      let end = bytes.length;
      const before = icount;
      for (const event of decodeEvents(bytes, table, vm)) {
        if (isOutput(event) && --outputs === 0) {
          end = event.offset;
          break;
        }
        icount = before + event.icount;
      }
      log.events(bytes, 0, end, icount);
    }),
    reference: unlessCut(log.reference.bind(log)),
    frame: unlessCut(log.frame.bind(log)),
    send: unlessCut((_, length, hash, lamport, head) => log.send(length, hash, lamport, head)),
  });
  log.close(false);
  Deno.copyFileSync(`${folder}-whole/console.log`, `${folder}/console.log`);
  const vms = manifest.vms.map((each) => ({ ...each, logClosed: false, totals: null }));
  writeManifest(directory, { ...manifest, state: "recording", segments: [], vms });
}

bed.test("a log cut between an instruction and its output: replays up to there", 120, async () => {
  const { directory } = await bereaved();
  const copy = await copyDirectory(directory, bed.path("between"));
  cutBeforeOutput(copy, "right");
  const replayed = await replayCut(copy);
  assert.match(replayed.incomplete ?? "", /the log of right ends early/);
});

/** Writes the log of VM `vm` anew: the first events of it, as of one that was killed as soon as it ran. */
function cutAtStart(directory: string, vm: string, events: number): void {
  const manifest = readManifest(directory);
  const { number, qemu: { rrLogVersion } } = manifest.vms.find(({ name }) => name === vm)!;
  const folder = vmDirectory(directory, vm);
  const reader = HybridLogReader.open(folder, { vm: number, rrLogVersion, closed: false });
  let first = new Uint8Array();
  reader.nextBlock({
    ...IGNORE_ITEMS,
    events: (bytes) => first = first.length ? first : bytes.slice(),
  });
  reader.close();
  const lengths = [...decodeEvents(first, tableForVersion(rrLogVersion), vm)].map((e) => e.offset);
  Deno.removeSync(folder, { recursive: true });
  const log = new HybridLogWriter(folder, { vm: number, rrLogVersion });
  log.events(first, 0, lengths[events]!, 0);
  log.close(false);
  Deno.writeTextFileSync(`${folder}/console.log`, "");
  const vms = manifest.vms.map((each) => ({ ...each, logClosed: false, totals: null }));
  writeManifest(directory, { ...manifest, state: "recording", segments: [], vms });
}

bed.test("logs cut before their QEMUs were up: replays to there, and says so", 120, async () => {
  const { directory } = await bereaved();
  for (const events of [1, 3]) {
    const copy = await copyDirectory(directory, bed.path(`at-start-${events}`));
    for (const vm of NAMES) cutAtStart(copy, vm, events);
    const { status, stdout, stderr } = await bed.run(["replay", copy]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /The recording is cut off: the log of left, right ends early/);
  }
});

/** Fills the file system of `folder` to its last byte. */
function fill(folder: string): void {
  using ballast = Deno.openSync(`${folder}/ballast`, { write: true, create: true });
  const block = new Uint8Array(4096);
  try {
    while (true) ballast.writeSync(block);
  } catch (error) {
    assert.match(String(error), /No space left/);
  }
}

bed.test("the disk full while recording: said, kept, replays up to there", 120, async () => {
  const folder = bed.path("small");
  await Deno.mkdir(folder);
  await run(["mount", "-t", "tmpfs", "-o", "size=512k", "clusterrr-test", folder]);
  try {
    const directory = `${folder}/full`;
    const recording = await recordChatter("full", directory);
    fill(folder);
    const { status, stderr } = await recording.ended;
    assert.equal(status, 1, stderr);
    assert.match(stderr, /hybrid-000000\.seg.*No space left/);
    assert.match(stderr, /Free some space/);
    const shown = await bed.json(["show", directory]);
    assert.equal(shown.complete, false);
    const replayed = await replayCut(directory);
    assert.match(replayed.incomplete ?? "", /ends? early/);
  } finally {
    await run(["umount", folder]);
  }
});

bed.test(
  "no room for what a guest writes to its disk: said, recording and replaying",
  180,
  async () => {
    const image = bed.path("disk.raw");
    await Deno.writeFile(image, new Uint8Array(1 << 20));
    const disk = { image, format: "raw" };
    const spec = await bed.cluster("writes", [{
      name: "disk",
      role: "disk",
      host: 1,
      more: { disk },
    }]);
    const scratch = bed.path("scratch");
    await Deno.mkdir(scratch);
    const whole = bed.path("writes");
    await bed.json(["record", spec, "--out", whole]);

    const withoutRoom = async (
      args: string[],
      phase: string,
      env: Record<string, string> = { CLUSTERRR_SCRATCH: scratch },
    ): Promise<Outcome> => {
      await run(["mount", "-t", "tmpfs", "-o", "size=1m", "clusterrr-test", scratch]);
      try {
        const tool = bed.start(args, { env });
        await tool.said(phase);
        fill(scratch);
        return await tool.ended;
      } finally {
        await run(["umount", scratch]);
      }
    };
    const directory = bed.path("no-room");
    for (
      const [args, phase] of [
        [["record", spec, "--out", directory], "booting"],
        [["replay", whole], "replaying"],
      ] as const
    ) {
      const { status, stderr } = await withoutRoom([...args], phase);
      assert.equal(status, 1, stderr);
      assert.match(stderr, /VM disk cannot write to its disk: No space left on device/);
      assert.match(stderr, /CLUSTERRR_SCRATCH/);
      assert.doesNotMatch(stderr, /diverged/);
    }
    // Snapshots are made beside the catalog.
    const boot = ["boot", spec, "--save", "full", "--after", "60s"];
    const booted = await withoutRoom(boot, "booting", {
      CLUSTERRR_CATALOG: `${scratch}/catalog.sqlite3`,
    });
    assert.equal(booted.status, 1, booted.stderr);
    assert.match(booted.stderr, /VM disk cannot write to its disk: No space left on device/);
    assert.match(booted.stderr, new RegExp(`${scratch}/snapshots/.*: make room there`));
    assert.equal((await bed.json(["show", directory])).endedBy, "failure");
    const again = await bed.json(["replay", directory]);
    assert.equal(again.ok, true, "with room it replays up to there");
  },
);
