/** Builds an image from real packages. Needs apt and either the pool of an earlier build or a network. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { run } from "../../host/command.ts";
import { ClusterrrError, HostError } from "../../lib/errors.ts";
import { buildImage } from "./build.ts";
import { exists } from "./debian_packages.ts";

const POOL = fileURLToPath(new URL("../.cache/packages", import.meta.url));

/** An example with one program, and a cache of its own that shares only the downloads. */
async function withExample(test: (folder: string, cache: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "clusterrr-image-" });
  try {
    await Deno.mkdir(`${root}/small/guest/sub`, { recursive: true });
    await Deno.writeTextFile(`${root}/small/image.yaml`, "packages: [netcat-openbsd]\n");
    await Deno.writeTextFile(`${root}/small/guest/a.sh`, "echo a\n");
    await Deno.writeTextFile(`${root}/small/guest/sub/b.sh`, "echo b\n");
    await Deno.mkdir(`${root}/cache`);
    if (await exists(POOL)) await Deno.symlink(POOL, `${root}/cache/packages`);
    await test(`${root}/small`, `${root}/cache`);
  } catch (error) {
    const inReach = Deno.env.get("CI") === "true" || await exists(POOL);
    if (inReach || !(error instanceof HostError) || !/\bapt-(get|cache)\b/.test(error.command)) {
      throw error;
    }
    console.error(`SKIPPED: packages are out of reach here: ${error.message}`);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const read = async (image: string, name: string) => await Deno.readFile(`${image}/${name}`);

Deno.test("image: two builds at once agree, and leave one image and nothing else", () =>
  withExample(async (folder, cache) => {
    const [one, two] = await Promise.all([
      buildImage(folder, { cache }),
      buildImage(folder, { cache }),
    ]);
    assert.equal(one, `${cache}/small`);
    assert.equal(two, one);
    assert.equal((await Array.fromAsync(Deno.readDir(`${cache}/images`))).length, 1);
    const top = (await Array.fromAsync(Deno.readDir(cache))).map((entry) => entry.name).sort();
    assert.deepEqual(top, ["images", "packages", "small"]);

    const initrd = new TextDecoder("latin1").decode(await read(one, "initrd"));
    for (
      const path of [
        "init",
        "guest/a.sh",
        "guest/sub/b.sh",
        "usr/lib/guest.sh",
        "usr/bin/nc.openbsd",
      ]
    ) {
      assert(initrd.includes(`${path}\0`), path);
    }
    assert(initrd.includes("usr/lib/x86_64-linux-gnu/libbsd.so.0\0"), "a library it needs");
    const loaded = [...initrd.matchAll(/^\/usr\/lib\/modules\/(\w+)\.ko$/gm)].map((m) => m[1]!);
    assert.equal(loaded.at(-1), "virtio_blk");
    assert(loaded.indexOf("virtio_ring") < loaded.indexOf("virtio_blk"), "needed modules first");
  }));

Deno.test("image: the same inputs give the same bytes, others give another image", () =>
  withExample(async (folder, cache) => {
    const first = await buildImage(folder, { cache });
    const [initrd, vmlinuz] = [await read(first, "initrd"), await read(first, "vmlinuz")];
    const target = await Deno.readLink(first);

    await Deno.remove(`${cache}/images`, { recursive: true });
    await buildImage(folder, { cache });
    assert.equal(await Deno.readLink(first), target);
    assert.deepEqual(await read(first, "initrd"), initrd);
    assert.deepEqual(await read(first, "vmlinuz"), vmlinuz);

    await Deno.writeTextFile(`${folder}/guest/sub/b.sh`, "echo c\n");
    await buildImage(folder, { cache });
    assert.notEqual(await Deno.readLink(first), target);
    assert.notDeepEqual(await read(first, "initrd"), initrd);
  }));

Deno.test("image: a second run touches nothing", () =>
  withExample(async (folder, cache) => {
    const image = await buildImage(folder, { cache });
    const before = (await Deno.lstat(image)).ino;
    await Deno.remove(`${cache}/packages`, { recursive: true });
    await buildImage(folder, { cache });
    assert.equal((await Deno.lstat(image)).ino, before);
    assert(!await exists(`${cache}/packages`), "nothing was downloaded");
  }));

const DISK_SCRIPT = `mkdir /disk
mount /dev/vda /disk
busybox id -u nobody >/disk/id
umount /disk
`;

/** Adds a disk and a user to the example in `folder`. */
async function addDisk(folder: string, script: string): Promise<void> {
  const text = `
packages: [netcat-openbsd]
leaveOut: [usr/bin/nc.openbsd]
users: [daemon, nobody]
modules: [virtio_pci, virtio_blk]
disks: [{name: store, size: 8M}]
`;
  await Deno.writeTextFile(`${folder}/image.yaml`, text);
  await Deno.mkdir(`${folder}/disks`, { recursive: true });
  await Deno.writeTextFile(`${folder}/disks/store.sh`, script);
}

/** A file on the disk image `qcow2`, read without mounting it. */
async function fileOnDisk(qcow2: string, path: string): Promise<string> {
  await run(["qemu-img", "convert", "-O", "raw", qcow2, `${qcow2}.raw`]);
  return await run(["debugfs", "-R", `cat ${path}`, `${qcow2}.raw`]);
}

Deno.test("image: the guest fills a disk, once for all images that have it", () =>
  withExample(async (folder, cache) => {
    await addDisk(folder, DISK_SCRIPT);
    const image = await buildImage(folder, { cache });
    const target = await Deno.readLink(image);
    const first = await Deno.lstat(`${image}/store.qcow2`);
    await Deno.copyFile(`${image}/store.qcow2`, `${cache}/copy.qcow2`);
    const initrd = new TextDecoder("latin1").decode(await read(image, "initrd"));
    assert(!/nc\.openbsd\0|libbsd/.test(initrd), "what is left out, and its libraries");
    assert.equal(await fileOnDisk(`${cache}/copy.qcow2`, "id"), "102\n");

    await Deno.writeTextFile(`${folder}/guest/a.sh`, "echo another\n");
    await buildImage(folder, { cache });
    assert.notEqual(await Deno.readLink(image), target, "another image");
    assert.equal((await Deno.lstat(`${image}/store.qcow2`)).ino, first.ino, "with the same disk");

    await addDisk(folder, DISK_SCRIPT.replace("-u", "-g"));
    await buildImage(folder, { cache });
    assert.notEqual((await Deno.lstat(`${image}/store.qcow2`)).ino, first.ino, "another disk");
  }));

Deno.test("image: a disk whose script fails, or leaves it mounted, is refused with the reason", () =>
  withExample(async (folder, cache) => {
    const refused = async (script: string, message: RegExp) => {
      await addDisk(folder, script);
      await assert.rejects(buildImage(folder, { cache }), (error) => {
        assert(error instanceof ClusterrrError);
        assert.match(error.message, message);
        return true;
      });
    };
    await refused(
      "echo no room; exit 3\n",
      /store.sh did not fill[^]*no room\nGUEST role=store status=3/,
    );
    await refused("mkdir /disk\nmount /dev/vda /disk\n", /must unmount/);
    assert(!await exists(`${cache}/small`), "no image");
    assert.deepEqual(await Array.fromAsync(Deno.readDir(`${cache}/disks`)), [], "no disk");
  }));
