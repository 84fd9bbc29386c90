/** The files that VMs boot from: digests, and what is said where they are no longer the same. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ClusterrrError } from "../lib/errors.ts";
import type { VmSpec } from "../lib/cluster/spec.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";
import { compareImages, hashImages } from "./images.ts";

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
