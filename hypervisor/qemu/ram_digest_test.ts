import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import xxhash from "xxhash-wasm";
import { ClusterrrError } from "../../lib/errors.ts";
import type { RamAlgorithm } from "../../lib/recording/ram_digest.ts";
import { sleep } from "../../lib/sleep.ts";
import { bareVm, withBareVm, withDirectory } from "./bare_vm.ts";
import { QemuProcess } from "./process.ts";
import { type RamRange, ramRanges } from "./memory_map.ts";
import { digestRam, ramHash } from "./ram_digest.ts";
import { queryReplay, registers, replayBreak, saveMemory } from "../qmp/commands.ts";
import { nextEvent } from "../qmp/next_event_fixture.ts";

const MIB = 1 << 20;
/** Of the bytes of a test, by xxhsum and sha256sum. */
const KNOWN = {
  xxh64: "a7ff0021db561c20d407c4f8dd736efe5715487816a2dd13f38f0e36f88607e8",
  sha256: "771bb9ea6f37f6ca0350e7d7bde809c8737065f1d1b1a5d525f657c90c835eac",
};
const RANGES = ramRanges("pc", 32);

/** Lets a paused SeaBIOS fill its tables. */
async function runOn(qemu: QemuProcess): Promise<void> {
  await qemu.cont();
  await sleep(300);
  await qemu.stop();
}

/** XXH64 of each MiB, as `lib/recording/FORMAT.md` has it. */
async function leavesOf(bytes: Uint8Array): Promise<Uint8Array> {
  const { h64Raw } = await xxhash();
  const leaves = new DataView(new ArrayBuffer(8 * Math.ceil(bytes.length / MIB)));
  for (let at = 0; at < bytes.length; at += MIB) {
    leaves.setBigUint64(8 * at / MIB, h64Raw(bytes.subarray(at, at + MIB)), true);
  }
  return new Uint8Array(leaves.buffer);
}

Deno.test("the digests are those of what QEMU saves of the ranges, and nothing is left", async () => {
  await withBareVm([], async (qemu, directory) => {
    await runOn(qemu);
    const [tree, whole] = [createHash("sha256"), createHash("sha256")];
    for (const range of RANGES) {
      await saveMemory(qemu.qmp, `${directory}/saved`, range);
      const bytes = await Deno.readFile(`${directory}/saved`);
      tree.update(await leavesOf(bytes));
      whole.update(bytes);
    }
    const scratch = `${directory}/scratch`;
    await Deno.mkdir(scratch);
    const xxh64 = `xxh64:${tree.digest("hex")}`;
    assert.equal(await digestRam(qemu, RANGES, scratch, "xxh64"), xxh64);
    const sha256 = `sha256:${whole.digest("hex")}`;
    assert.equal(await digestRam(qemu, RANGES, scratch, "sha256"), sha256);
    assert.deepEqual([...Deno.readDirSync(scratch)], []);
  });
});

Deno.test("the digests of known bytes: the format", async () => {
  const bytes = new Uint8Array(2.5 * MIB).map((_, i) => (i * 7 + (i >> 9)) & 0xff);
  for (const [algorithm, expected] of Object.entries(KNOWN) as [RamAlgorithm, string][]) {
    const hash = await ramHash(algorithm);
    for (let at = 0; at < bytes.length; at += MIB) hash.update(bytes.subarray(at, at + MIB));
    assert.equal(hash.digest(), `${algorithm}:${expected}`);
  }
});

Deno.test("another state has another digest, and two VMs may be read at once", async () => {
  await withBareVm([], async (qemu, directory) => {
    const digest = () => digestRam(qemu, RANGES, directory, "xxh64");
    const before = await digest();
    assert.deepEqual(await Promise.all([digest(), digest()]), [before, before]);
    await runOn(qemu);
    assert.notEqual(await digest(), before);
  });
});

Deno.test("what cannot be read is said", async () => {
  await withBareVm([], async (qemu, directory) => {
    const digest = (of: Pick<QemuProcess, "pid" | "qmp">, ranges: readonly RamRange[]) =>
      digestRam(of, ranges, directory, "xxh64");
    const gone = { pid: 2 ** 30, qmp: qemu.qmp };
    await assert.rejects(digest(gone, RANGES), (error: Error) => {
      assert(error instanceof ClusterrrError);
      assert.match(error.message, /^Cannot read the 32 MiB RAM of QEMU's process 1073741824: /);
      return true;
    });
    const beyond = [{ address: 2 ** 40, size: 4096, shadowed: false }];
    await assert.rejects(digest(qemu, beyond), /no RAM at guest address 0x10000000000/);
    const small = [{ address: 0, size: 64 << 20, shadowed: false }];
    await assert.rejects(digest(qemu, small), ClusterrrError);
  });
});

Deno.test("a replay of SeaBIOS stops at the recorded instruction in the recorded state", async () => {
  await withDirectory(async (directory) => {
    const options = (rr: string) =>
      bareVm(directory, ["-icount", `shift=3,rr=${rr},rrfile=${directory}/rr`]);
    const digest = async (qemu: QemuProcess) => ({
      replay: (await queryReplay(qemu.qmp)).icount,
      registers: await registers(qemu.qmp),
      ram: await digestRam(qemu, RANGES, directory, "xxh64"),
    });
    const recording = await QemuProcess.start(await options("record"));
    let recorded;
    try {
      await recording.cont();
      await sleep(150);
      await recording.stop();
      recorded = await digest(recording);
    } finally {
      await recording.end(5_000);
    }
    const replay = await QemuProcess.start(await options("replay"));
    try {
      await replayBreak(replay.qmp, recorded.replay);
      const stopped = nextEvent(replay.qmp, "STOP", 20_000);
      await replay.cont();
      await stopped;
      assert.deepEqual(await digest(replay), recorded);
    } finally {
      await replay.end(1_000);
    }
  });
});
