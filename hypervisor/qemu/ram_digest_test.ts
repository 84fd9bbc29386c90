import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ClusterrrError } from "../../lib/errors.ts";
import { bareVm, withBareVm, withDirectory } from "./bare_vm.ts";
import { QemuProcess } from "./process.ts";
import { captureRam, discardRam, hashRam } from "./ram_digest.ts";
import { ramRanges } from "./memory_map.ts";
import { queryReplay, registers, replayBreak } from "../qmp/commands.ts";

const RANGES = ramRanges("pc", 32);
const namesIn = (directory: string) => [...Deno.readDirSync(directory)].map((entry) => entry.name);

Deno.test("the digest is the SHA-256 of the ranges' bytes, and nothing is left", async () => {
  await withBareVm([], async (qemu, directory) => {
    const scratch = `${directory}/scratch`;
    await Deno.mkdir(scratch);
    const capture = await captureRam(qemu.qmp, RANGES, scratch);
    const expected = createHash("sha256");
    for (const [i, path] of capture.files.entries()) {
      const bytes = await Deno.readFile(path);
      assert.equal(bytes.length, RANGES[i]!.size);
      expected.update(bytes);
    }
    assert.equal(await hashRam(capture), expected.digest("hex"));
    assert.deepEqual(namesIn(scratch), []);
  });
});

Deno.test("the guest may run on while its copy is hashed", async () => {
  await withBareVm([], async (qemu, directory) => {
    const before = await hashRam(await captureRam(qemu.qmp, RANGES, directory));
    const copy = await captureRam(qemu.qmp, RANGES, directory);
    await qemu.cont();
    await new Promise((resume) => setTimeout(resume, 300)); // SeaBIOS fills its tables
    assert.equal(await hashRam(copy), before);
    await qemu.stop();
    assert.notEqual(await hashRam(await captureRam(qemu.qmp, RANGES, directory)), before);
  });
});

Deno.test("a copy can be discarded; a failed one leaves nothing", async () => {
  await withBareVm([], async (qemu, directory) => {
    const scratch = `${directory}/scratch`;
    await Deno.mkdir(scratch);
    await discardRam(await captureRam(qemu.qmp, RANGES, scratch));
    assert.deepEqual(namesIn(scratch), []);
    await Deno.mkdir(`${scratch}/full`);
    const mount = await new Deno.Command("mount", {
      args: ["-t", "tmpfs", "-o", "size=8m", "tmpfs", `${scratch}/full`],
    }).output();
    assert(mount.success, "mount needs root");
    try {
      await assert.rejects(
        captureRam(qemu.qmp, RANGES, `${scratch}/full`),
        (error: unknown) => {
          assert(error instanceof ClusterrrError);
          assert.match(error.message, /full, which needs 32 MiB there/);
          return true;
        },
      );
      assert.deepEqual(namesIn(`${scratch}/full`), []);
    } finally {
      await new Deno.Command("umount", { args: [`${scratch}/full`] }).output();
    }
  });
});

Deno.test("a replay of SeaBIOS stops at the recorded instruction in the recorded state", async () => {
  await withDirectory(async (directory) => {
    const options = (rr: string) =>
      bareVm(directory, ["-icount", `shift=3,rr=${rr},rrfile=${directory}/rr`]);
    const digest = async (qemu: QemuProcess) => ({
      replay: (await queryReplay(qemu.qmp)).icount,
      registers: await registers(qemu.qmp),
      ram: await hashRam(await captureRam(qemu.qmp, RANGES, directory)),
    });
    const recording = await QemuProcess.start(await options("record"));
    let recorded;
    try {
      await recording.cont();
      await new Promise((resume) => setTimeout(resume, 150));
      await recording.stop();
      recorded = await digest(recording);
    } finally {
      await recording.end(5_000);
    }
    const replay = await QemuProcess.start(await options("replay"));
    try {
      await replayBreak(replay.qmp, recorded.replay);
      const stopped = replay.qmp.nextEvent("STOP", 20_000);
      await replay.cont();
      await stopped;
      assert.deepEqual(await digest(replay), recorded);
    } finally {
      await replay.end(1_000);
    }
  });
});
