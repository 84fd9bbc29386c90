/** The files that VMs boot from: digests, and what is said where they are no longer the same. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ClusterrrError } from "../lib/errors.ts";
import type { VmSpec } from "../lib/cluster/spec.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";
import { ImageStore } from "../host/image_store.ts";
import { run } from "../host/command.ts";
import type { ClusterSpec } from "../lib/cluster/spec.ts";
import { compareImages, hashImages, locateImages, withLocalImages } from "./images.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-images-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** A VM that boots from `directory`; `disks` of its files are disks. */
function vmIn(directory: string, disks: string[] = []): VmSpec {
  return {
    number: 1,
    name: "web",
    memoryMiB: 64,
    kernel: `${directory}/kernel`,
    kernelArgs: "",
    disks: disks.map((disk) => ({ image: `${directory}/${disk}`, format: "raw" as const })),
    mac: "52:54:00:77:00:01",
  };
}

/** The part of a manifest's VM that is compared. */
const recorded = (images: ManifestVm["images"]) => [{ name: "web", images } as ManifestVm];

Deno.test("images: kernel, initrd and disks with length and SHA-256", () =>
  withDirectory(async (directory) => {
    const kernel = new Uint8Array((1 << 20) + 17).fill(3); // more than is read at once
    const files = { kernel, initrd: Uint8Array.of(1, 2), disk: new Uint8Array(0) };
    for (const [name, bytes] of Object.entries(files)) {
      await Deno.writeFile(`${directory}/${name}`, bytes);
    }
    const vm = { ...vmIn(directory, ["disk", "initrd"]), initrd: `${directory}/initrd` };
    const images = await hashImages(vm);
    const image = (role: string, file: keyof typeof files) => ({
      role,
      path: `${directory}/${file}`,
      sha256: sha256(files[file]),
      bytes: files[file].length,
    });
    assert.deepEqual(images, [
      image("kernel", "kernel"),
      image("initrd", "initrd"),
      image("disk", "disk"),
      image("disk", "initrd"),
    ]);
    assert.deepEqual(await compareImages(recorded(images)), []);
  }));

Deno.test("images: one that has changed is named, also within one process", () =>
  withDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/kernel`, Uint8Array.of(1));
    await Deno.writeFile(`${directory}/disk`, Uint8Array.of(2));
    const images = await hashImages(vmIn(directory, ["disk"]));
    await Deno.writeFile(`${directory}/disk`, Uint8Array.of(2, 3));
    assert.deepEqual(await compareImages(recorded(images)), [
      `another disk of VM web: ${directory}/disk has changed`,
    ]);
    await Deno.writeFile(`${directory}/disk`, Uint8Array.of(2));
    assert.deepEqual(await compareImages(recorded(images)), []);
  }));

Deno.test("images: one that is missing is asked for, and found once it is back", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/kernel`;
    await Deno.writeFile(path, Uint8Array.of(1));
    const images = await hashImages(vmIn(directory));
    await Deno.remove(path);
    await assert.rejects(
      compareImages(recorded(images)),
      (error) =>
        error instanceof ClusterrrError &&
        error.message === `The kernel of VM web is missing: ${path}. Put the file with SHA-256 ` +
            `${images[0]!.sha256} back there.`,
    );
    await Deno.writeFile(path, Uint8Array.of(1));
    assert.deepEqual(await compareImages(recorded(images)), []);
  }));

Deno.test("images: a recording cannot start without one", () =>
  withDirectory(async (directory) => {
    await assert.rejects(hashImages(vmIn(directory)), Deno.errors.NotFound);
    await Deno.writeFile(`${directory}/kernel`, Uint8Array.of(1));
    assert.equal((await hashImages(vmIn(directory)))[0]!.bytes, 1, "a failure is not remembered");
  }));

Deno.test("images: found at their path, in the recording, in the store, in this order", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/kernel`;
    const store = new ImageStore(`${directory}/store`);
    await Deno.writeFile(path, Uint8Array.of(1));
    const images = await hashImages(vmIn(directory));
    const { sha256 } = images[0]!;
    const stored = await store.add(path, sha256);
    await Deno.mkdir(`${directory}/rec/images`, { recursive: true });
    const carried = `${directory}/rec/images/${sha256}`;
    await Deno.writeFile(carried, Uint8Array.of(1));
    const locate = async () =>
      (await locateImages(recorded(images), `${directory}/rec`, store)).get(path);
    assert.equal(await locate(), path);
    await Deno.remove(path);
    assert.equal(await locate(), carried);
    await Deno.writeFile(path, Uint8Array.of(2));
    assert.equal(await locate(), carried, "another file at the recorded path is not taken");
    await Deno.writeFile(carried, Uint8Array.of(3, 4));
    assert.equal(await locate(), stored, "a damaged one neither");
    await Deno.remove(stored);
    await assert.rejects(locate(), (error) => {
      assert(error instanceof ClusterrrError);
      assert.match(error.message, /another kernel of VM web: .*\/kernel has changed; SHA-256 /);
      assert.match(error.message, new RegExp(`${sha256}; ${carried} is damaged$`, "m"));
      return true;
    });
  }));

Deno.test("images: every one that is missing is named with its digest, and what to do", () =>
  withDirectory(async (directory) => {
    for (const name of ["kernel", "a", "b"]) {
      await Deno.writeTextFile(`${directory}/${name}`, name);
    }
    const images = await hashImages(vmIn(directory, ["a", "b"]));
    for (const name of ["kernel", "b"]) await Deno.remove(`${directory}/${name}`);
    const store = new ImageStore(`${directory}/store`);
    await assert.rejects(locateImages(recorded(images), `${directory}/rec`, store), (error) => {
      assert(error instanceof ClusterrrError);
      const [, kernel, disk, advice, ...more] = error.message.split("\n");
      assert.equal(
        kernel,
        `  - The kernel of VM web is missing: ${directory}/kernel; SHA-256 ${images[0]!.sha256}`,
      );
      assert.equal(
        disk,
        `  - The disk of VM web is missing: ${directory}/b; SHA-256 ${images[2]!.sha256}`,
      );
      for (const words of [`${directory}/rec/images`, store.directory, "pack --images"]) {
        assert(advice!.includes(words), advice);
      }
      assert.deepEqual(more, []);
      return true;
    });
  }));

Deno.test("images: a cluster with the paths of this host", () => {
  const spec = { name: "c", vms: [{ ...vmIn("/old", ["a"]), initrd: "/old/initrd" }] };
  const paths = new Map([["/old/kernel", "/k"], ["/old/initrd", "/i"], ["/old/a", "/d"]]);
  const [vm] = withLocalImages(spec as unknown as ClusterSpec, paths).vms;
  assert.deepEqual(vm, {
    ...vmIn("/old"),
    kernel: "/k",
    initrd: "/i",
    disks: [{ image: "/d", format: "raw" }],
  });
  paths.delete("/old/a");
  assert.throws(() => withLocalImages(spec as unknown as ClusterSpec, paths), /lacks .*\/old\/a/);
});

Deno.test("images: one that is more than its bytes is not taken from elsewhere", () =>
  withDirectory(async (directory) => {
    await Deno.writeFile(`${directory}/base`, new Uint8Array(1 << 16));
    const create = ["qemu-img", "create", "-q", "-f", "qcow2"];
    await run([...create, "-b", `${directory}/base`, "-F", "raw", `${directory}/disk`]);
    await run([...create, `${directory}/alone`, "1M"]);
    await run([
      ...[...create, "-o", `data_file=${directory}/data`, `${directory}/outside`, "1M"],
    ]);
    // a header as in the Multiboot specification 0.6.96, 3.1: magic, flags, checksum
    const header = new DataView(new ArrayBuffer(4096));
    [0x1badb002, 3, -(0x1badb002 + 3)].forEach((word, i) =>
      header.setInt32(64 + 4 * i, word, true)
    );
    await Deno.writeFile(`${directory}/multiboot`, new Uint8Array(header.buffer));
    header.setUint32(0x202, 0x53726448, true);
    await Deno.writeFile(`${directory}/linux`, new Uint8Array(header.buffer));

    const elsewhere = async (kernel: string, disk: string) => {
      const vm = { ...vmIn(directory, [disk]), kernel: `${directory}/${kernel}` };
      const images = (await hashImages(vm)).map((image) => ({ ...image, path: `${image.path}-x` }));
      await Deno.mkdir(`${directory}/rec/images`, { recursive: true });
      for (const { path, sha256 } of images) {
        await Deno.copyFile(path.slice(0, -2), `${directory}/rec/images/${sha256}`);
      }
      const found = await locateImages(recorded(images), `${directory}/rec`);
      return found.size;
    };
    assert.equal(await elsewhere("linux", "alone"), 2);
    await assert.rejects(
      elsewhere("linux", "disk"),
      /disk of VM web, .*disk-x, .* based on another/,
    );
    await assert.rejects(elsewhere("linux", "outside"), /based on another file/);
    await assert.rejects(elsewhere("multiboot", "alone"), /kernel of VM web, .* multiboot kernel/);
  }));
