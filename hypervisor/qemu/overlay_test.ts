import assert from "node:assert/strict";
import { run } from "../../host/command.ts";
import { HostError } from "../../lib/errors.ts";
import { withDirectory } from "./bare_vm.ts";
import {
  createFileOverlay,
  createOverlay,
  createStateFile,
  rebase,
  rebaseNested,
} from "./overlay.ts";

Deno.test("an overlay takes the writes, its base none", async () => {
  await withDirectory(async (directory) => {
    const base = `${directory}/base, with comma.img`;
    await Deno.writeFile(base, new Uint8Array(1 << 20).fill(0x5a));
    const overlay = `${directory}/run.qcow2`;
    await createOverlay(base, "raw", overlay);
    await run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x11 4096 4096", overlay]);
    await run(["qemu-io", "-f", "qcow2", "-c", "read -P 0x11 4096 4096", overlay]);
    const after = await run(["qemu-io", "-f", "qcow2", "-c", "read -P 0x5a 0 4096", overlay]);
    assert.doesNotMatch(after, /verification failed/);
    assert((await Deno.readFile(base)).every((byte) => byte === 0x5a));
  });
});

Deno.test("an overlay of an overlay keeps its format", async () => {
  await withDirectory(async (directory) => {
    await run(["qemu-img", "create", "-q", "-f", "qcow2", `${directory}/base`, "8M"]);
    await createOverlay(`${directory}/base`, "qcow2", `${directory}/run`);
    const info = JSON.parse(await run(["qemu-img", "info", "--output=json", `${directory}/run`]));
    assert.equal(info["backing-filename-format"], "qcow2");
    assert.equal(info["virtual-size"], 8 << 20);
  });
});

Deno.test("a missing image is named", async () => {
  await withDirectory(async (directory) => {
    await assert.rejects(
      createOverlay("/nonexistent/base.img", "raw", `${directory}/run`),
      (error: unknown) => {
        assert(error instanceof HostError);
        assert.match(error.message, /Check the disk image \/nonexistent\/base\.img/);
        return true;
      },
    );
  });
});

Deno.test("an overlay of a whole file shows the snapshots in it, and takes the writes", async () => {
  await withDirectory(async (directory) => {
    const file = `${directory}/state.qcow2`;
    await createStateFile(file);
    await run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x11 0 64k", file]);
    await run(["qemu-img", "snapshot", "-c", "boot", file]);
    const before = await Deno.readFile(file);
    await createFileOverlay(file, `${directory}/run`);
    const seen = "driver=qcow2,file.driver=qcow2,file.file.driver=file," +
      `file.file.filename=${directory}/run`;
    const list = () => run(["qemu-img", "snapshot", "--image-opts", "-l", seen]);
    assert.match(await list(), /\bboot\b/);
    await run(["qemu-io", "--image-opts", "-c", "write -P 0x22 0 64k", seen]);
    await run(["qemu-img", "snapshot", "--image-opts", "-a", "boot", seen]);
    const read = await run(["qemu-io", "--image-opts", "-c", "read -P 0x11 0 64k", seen]);
    assert.doesNotMatch(read, /verification failed/);
    assert.deepEqual(await Deno.readFile(file), before, "the file itself is never written");
  });
});

Deno.test("an overlay finds its base where that is now, itself unchanged in what it shows", async () => {
  await withDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/old`, new Uint8Array(1 << 20).fill(0x5a));
    const overlay = `${directory}/run.qcow2`;
    await createOverlay(`${directory}/old`, "raw", overlay);
    await run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x11 4096 4096", overlay]);
    await Deno.rename(`${directory}/old`, `${directory}/new, with comma`);
    await rebase(overlay, `${directory}/new, with comma`, "raw");
    const read = "read -P 0x11 4096 4096";
    const shown = await run([
      "qemu-io",
      "-f",
      "qcow2",
      "-c",
      read,
      "-c",
      "read -P 0x5a 0 4k",
      overlay,
    ]);
    assert.doesNotMatch(shown, /verification failed/);
  });
});

Deno.test("a snapshot's disk finds its base where that is now; the snapshot's file is not touched", async () => {
  await withDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/old`, new Uint8Array(1 << 20).fill(0x5a));
    const file = `${directory}/disk0.qcow2`;
    await createOverlay(`${directory}/old`, "raw", file);
    await run(["qemu-img", "snapshot", "-c", "boot", file]);
    const before = await Deno.readFile(file);
    const overlay = `${directory}/run`;
    await createFileOverlay(file, overlay);
    await Deno.rename(`${directory}/old`, `${directory}/new`);
    await rebaseNested(overlay, `${directory}/new`, "raw");
    const nested = {
      driver: "qcow2",
      file: { driver: "qcow2", file: { driver: "file", filename: overlay } },
    };
    const name = `json:${JSON.stringify(nested)}`;
    const shown = await run(["qemu-io", "-c", "read -P 0x5a 0 1M", name]);
    assert.match(shown, /read 1048576\/1048576/);
    assert.doesNotMatch(shown, /verification failed/);
    assert.match(await run(["qemu-img", "snapshot", "-l", name]), /boot/);
    assert.deepEqual(await Deno.readFile(file), before);
  });
});
