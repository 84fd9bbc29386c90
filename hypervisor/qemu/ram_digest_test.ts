import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ClusterrrError } from "../../lib/errors.ts";
import { sleep } from "../../lib/sleep.ts";
import { bareVm, withBareVm, withDirectory } from "./bare_vm.ts";
import { QemuProcess } from "./process.ts";
import { RamCopier } from "./ram_digest.ts";
import { ramRanges } from "./memory_map.ts";
import { queryReplay, registers, replayBreak, saveMemory } from "../qmp/commands.ts";
import { nextEvent } from "../qmp/next_event_fixture.ts";

const RANGES = ramRanges("pc", 32);

/** Lets a paused SeaBIOS fill its tables. */
async function runOn(qemu: QemuProcess): Promise<void> {
  await qemu.cont();
  await sleep(300);
  await qemu.stop();
}

Deno.test("the digest is the SHA-256 of what QEMU saves of the ranges, and nothing is left", async () => {
  await withBareVm([], async (qemu, directory) => {
    await runOn(qemu);
    const expected = createHash("sha256");
    for (const range of RANGES) {
      await saveMemory(qemu.qmp, `${directory}/saved`, range);
      expected.update(await Deno.readFile(`${directory}/saved`));
    }
    const scratch = `${directory}/scratch`;
    await Deno.mkdir(scratch);
    const copy = await new RamCopier(scratch).copy(qemu, RANGES);
    assert.equal(await copy.hash(), expected.digest("hex"));
    assert.deepEqual([...Deno.readDirSync(scratch)], []);
  });
});

Deno.test("the guest may run on while its copy is hashed", async () => {
  await withBareVm([], async (qemu, directory) => {
    const copier = new RamCopier(directory);
    const before = await (await copier.copy(qemu, RANGES)).hash();
    const copy = await copier.copy(qemu, RANGES);
    await runOn(qemu);
    assert.equal(await copy.hash(), before);
    assert.notEqual(await (await copier.copy(qemu, RANGES)).hash(), before);
  });
});

Deno.test("there is one copy at a time; the next waits for it", async () => {
  await withBareVm([], async (qemu, directory) => {
    const copier = new RamCopier(directory);
    const first = await copier.copy(qemu, RANGES);
    let copied = false;
    const second = copier.copy(qemu, RANGES).then((copy) => {
      copied = true;
      return copy;
    });
    await sleep(300);
    assert.equal(copied, false);
    const digest = await first.hash();
    assert.equal(await (await second).hash(), digest);
  });
});

Deno.test("a copy that fails says so, and does not hold up the next", async () => {
  await withBareVm([], async (qemu, directory) => {
    const copier = new RamCopier(directory);
    const gone = { pid: 2 ** 30, qmp: qemu.qmp };
    await assert.rejects(copier.copy(gone, RANGES), (error: Error) => {
      assert(error instanceof ClusterrrError);
      assert.match(error.message, /^Cannot copy the 32 MiB RAM of QEMU's process 1073741824: /);
      return true;
    });
    const beyond = [{ address: 2 ** 40, size: 4096, shadowed: false }];
    await assert.rejects(copier.copy(qemu, beyond), /no RAM at guest address 0x10000000000/);
    const small = [{ address: 0, size: 64 << 20, shadowed: false }];
    await assert.rejects(copier.copy(qemu, small), ClusterrrError);
    await (await copier.copy(qemu, RANGES)).hash();
  });
});

Deno.test("a replay of SeaBIOS stops at the recorded instruction in the recorded state", async () => {
  await withDirectory(async (directory) => {
    const options = (rr: string) =>
      bareVm(directory, ["-icount", `shift=3,rr=${rr},rrfile=${directory}/rr`]);
    const digest = async (qemu: QemuProcess) => ({
      replay: (await queryReplay(qemu.qmp)).icount,
      registers: await registers(qemu.qmp),
      ram: await (await new RamCopier(directory).copy(qemu, RANGES)).hash(),
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
