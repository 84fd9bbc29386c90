/** The snapshots beside a recording, with VMs that save what they are told to. */
import assert from "node:assert/strict";
import { RunDirectory } from "../host/run_directory.ts";
import { CheckpointIndex } from "./checkpoint_index.ts";
import type { OpenRecording } from "./open_recording.ts";
import type { ReplayWorld } from "./replay_world.ts";

const DISK = new Uint8Array(64 << 10).fill(1);
const RAM_DIGEST = `xxh64:${"0".repeat(64)}`;

function recordingIn(directory: string, id = "a1", sha256 = "5a"): OpenRecording {
  return { directory, manifest: { id }, qemu: { sha256 } } as unknown as OpenRecording;
}

/** A world of two VMs that stand at `icount`; `save` says whether a VM can be saved. */
function worldAt(
  icount: number,
  { run = "abc123", save = (): boolean => true } = {},
): ReplayWorld {
  const vms = ["left", "right"].map((name, i) => ({
    recorded: { number: i + 1, name },
    console: import.meta.filename,
    consoleBytesBefore: 0,
    disks: i,
    vm: {
      number: i + 1,
      name,
      state: () => {
        return Promise.resolve({
          icount: icount + i,
          registers: `RIP=${icount}`,
          idle: false,
          ramDigest: RAM_DIGEST,
          ramBytes: 1,
        });
      },
      save: async (file: string, overlays: readonly string[]) => {
        for (const path of [file, ...overlays]) await Deno.writeFile(path, DISK);
        return save();
      },
    },
  }));
  const positions = new Map(vms.map(({ vm: { number } }, i) => {
    return [number, { icount: icount + i, receives: 3, sends: 4 }];
  }));
  const inFlight = [{ source: 1, sendNumber: 3, receivers: [2], bytes: Uint8Array.of(1, 2) }];
  return {
    run,
    vms,
    positions: () => Promise.resolve(positions),
    inFlight: () => Promise.resolve(inFlight),
  } as unknown as ReplayWorld;
}

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-index-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const epochsOf = ({ checkpoints }: CheckpointIndex) => checkpoints.map(({ epoch }) => epoch);
const entries = (directory: string) =>
  [...Deno.readDirSync(`${directory}/index`)].map(({ name }) => name).sort();

Deno.test("index: what was saved is found again, with everything to go on from", () =>
  withDirectory(async (directory) => {
    const index = new CheckpointIndex(recordingIn(directory));
    assert.equal(index.checkpoints.length, 0);
    await index.save(worldAt(2000), 20, 7n << 40n);
    await index.save(worldAt(1000), 10, 3n << 40n);
    const again = new CheckpointIndex(recordingIn(directory));
    assert.deepEqual(again.checkpoints, index.checkpoints);
    assert.deepEqual(epochsOf(again), [10, 20]);
    const { time, bytes, states, start } = again.checkpoints[1]!;
    assert.equal(time, 7n << 40n);
    assert.ok(bytes >= 3 * DISK.length && bytes < 4 * DISK.length, `${bytes}`);
    assert.deepEqual(states.get(2), { icount: 2001, registers: "RIP=2000", ramDigest: RAM_DIGEST });
    assert.deepEqual(start.inFlight, [
      { source: 1, sendNumber: 3, bytes: Uint8Array.of(1, 2) },
    ]);
    const { position, overlays, consoleBytes } = start.vms.get(2)!;
    assert.deepEqual(position, { icount: 2001, receives: 3, sends: 4 });
    assert.equal(consoleBytes, Deno.statSync(import.meta.filename!).size);
    assert.deepEqual(overlays.map((path) => Deno.statSync(path).size), [DISK.length]);
  }));

Deno.test("index: another recording's, another QEMU's and what is not whole are passed over", () =>
  withDirectory(async (directory) => {
    const index = new CheckpointIndex(recordingIn(directory));
    for (const epoch of [10, 20, 30]) await index.save(worldAt(epoch), epoch, BigInt(epoch));
    assert.deepEqual(epochsOf(new CheckpointIndex(recordingIn(directory, "b2"))), []);
    assert.deepEqual(epochsOf(new CheckpointIndex(recordingIn(directory, "a1", "6b"))), []);
    await Deno.remove(`${directory}/index/000010/right.disk0.qcow2`);
    await Deno.writeTextFile(`${directory}/index/000030/checkpoint.json`, "{");
    assert.deepEqual(epochsOf(index), [10, 20, 30]);
    index.refresh();
    assert.deepEqual(epochsOf(index), [20]);
    await index.save(worldAt(11), 10, 11n);
    assert.deepEqual(epochsOf(index), [10, 20], "taken anew");
  }));

Deno.test("index: what cannot be saved leaves nothing, and what was there before stays", () =>
  withDirectory(async (directory) => {
    const index = new CheckpointIndex(recordingIn(directory));
    await index.save(worldAt(1000), 10, 10n);
    assert.equal(await index.save(worldAt(2, { save: () => false }), 10, 10n), false);
    const full = () => {
      throw new Deno.errors.WriteZero("no space");
    };
    await assert.rejects(
      index.save(worldAt(3, { save: full }), 10, 10n),
      { name: "ClusterrrError", message: /^Cannot save checkpoint 10 in .*\/index: no space$/ },
    );
    assert.deepEqual(entries(directory), ["000010"]);
    assert.equal(index.checkpoints[0]!.states.get(1)!.icount, 1000);
  }));

Deno.test("index: what a killed process left half-made goes, what another one makes stays", () =>
  withDirectory(async (directory) => {
    const other = RunDirectory.create("a test");
    try {
      const [mine, dead] = [`partial-000030-${other.run}`, "partial-000030-zzzzzz"];
      for (const name of [mine, dead, `partial-000020-${crypto.randomUUID()}`]) {
        await Deno.mkdir(`${directory}/index/${name}`, { recursive: true });
        await Deno.writeFile(`${directory}/index/${name}/left.qcow2`, DISK);
      }
      const index = new CheckpointIndex(recordingIn(directory));
      assert.deepEqual(epochsOf(index), []);
      await index.save(worldAt(1), 10, 1n);
      assert.deepEqual(entries(directory), ["000010", mine]);
    } finally {
      other.remove();
    }
  }));

Deno.test("index: snapshots of an earlier version are of no use, and go with the next one", () =>
  withDirectory(async (directory) => {
    const index = new CheckpointIndex(recordingIn(directory));
    await index.save(worldAt(1), 10, 1n);
    const file = `${directory}/index/000010/checkpoint.json`;
    const content = JSON.parse(await Deno.readTextFile(file));
    await Deno.writeTextFile(file, JSON.stringify({ ...content, version: content.version - 1 }));
    index.refresh();
    assert.deepEqual(epochsOf(index), []);
    await index.save(worldAt(2), 20, 2n);
    assert.deepEqual(entries(directory), ["000020"]);
  }));

Deno.test("index: two that save one checkpoint at once both succeed", () =>
  withDirectory(async (directory) => {
    const runs = [RunDirectory.create("a test"), RunDirectory.create("a test")];
    try {
      const saved = await Promise.all(runs.map(({ run }) => {
        return new CheckpointIndex(recordingIn(directory)).save(worldAt(5, { run }), 10, 5n);
      }));
      assert.deepEqual(saved, [true, true]);
      assert.deepEqual(entries(directory), ["000010"]);
    } finally {
      for (const run of runs) run.remove();
    }
  }));

Deno.test("index: made smaller, the ones that leave the smallest gaps go, never the newest", () =>
  withDirectory(async (directory) => {
    const index = new CheckpointIndex(recordingIn(directory));
    for (const epoch of [10, 20, 22, 40]) await index.save(worldAt(epoch), epoch, BigInt(epoch));
    const each = index.bytes / 4;
    for (
      const [bytesMax, left] of [
        [4 * each, [10, 20, 22, 40]],
        [3 * each, [10, 22, 40]],
        [0, [40]],
      ] as const
    ) {
      await index.shrink(bytesMax);
      assert.deepEqual(epochsOf(index), left);
    }
    assert.deepEqual(entries(directory), ["000040"]);
  }));
