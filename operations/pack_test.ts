/** Packing and unpacking on disk: what is packed, what is left when something is wrong: nothing. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { run } from "../host/command.ts";
import type { Progress } from "../lib/cli/ports.ts";
import { ClusterrrError, FormatError, HostError } from "../lib/errors.ts";
import { type Manifest, readManifest, writeManifest } from "../lib/recording/manifest.ts";
import { verifySegments } from "../lib/recording/recording_directory.ts";
import { pack } from "./pack.ts";
import { unpack } from "./unpack.ts";

const GOLDEN = fileURLToPath(new URL("../lib/recording/testdata/golden/", import.meta.url));
const NEVER = new AbortController().signal;
const QUIET: Progress = { show() {}, note() {}, clear() {} };

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** A raw disk with a hole of 3 MiB. */
const DISK = new Uint8Array((4 << 20) + 10).fill(7, 0, 1000).fill(9, 4 << 20);

interface Bed {
  readonly directory: string;
  /** A recording that boots from `kernel` and `disk`, beside it. */
  readonly recording: string;
  /** All that is in the bed's directory. */
  names(): string[];
}

async function withRecording(work: (bed: Bed) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-pack-" });
  try {
    const recording = `${directory}/rec`;
    await run(["cp", "-r", GOLDEN, recording]);
    await Deno.remove(`${recording}/web.trace`);
    await Deno.writeTextFile(`${recording}/cluster.yaml`, "name: golden\n");
    await Deno.writeTextFile(`${recording}/vms/web/console.log`, "hello\n");
    await Deno.writeTextFile(`${directory}/kernel`, "a kernel");
    await Deno.writeFile(`${directory}/disk`, DISK);
    const image = (role: "kernel" | "disk") => {
      const path = `${directory}/${role}`;
      const content = Deno.readFileSync(path);
      return { role, path, bytes: content.length, sha256: sha256(content) };
    };
    change(recording, (manifest) => ({
      ...manifest,
      vms: manifest.vms.map((vm) => ({ ...vm, images: [image("kernel"), image("disk")] })),
    }));
    await work({
      directory,
      recording,
      names: () => [...Deno.readDirSync(directory)].map(({ name }) => name).sort(),
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function change(recording: string, how: (manifest: Manifest) => Manifest): void {
  writeManifest(recording, how(readManifest(recording)));
}

/** Every file below `directory` with its bytes' digest. */
function contentOf(directory: string, at = ""): Record<string, string> {
  const files: Record<string, string> = {};
  for (const { name, isDirectory } of Deno.readDirSync(`${directory}/${at}`)) {
    const path = `${at}${name}`;
    if (isDirectory) Object.assign(files, contentOf(directory, `${path}/`));
    else files[path] = sha256(Deno.readFileSync(`${directory}/${path}`));
  }
  return files;
}

Deno.test("pack: a recording comes out as it went in, without its index", () =>
  withRecording(async ({ directory, recording, names }) => {
    const before = contentOf(recording);
    await Deno.mkdir(`${recording}/index/000020`, { recursive: true });
    await Deno.writeTextFile(`${recording}/vms/web/notes`, "mine");
    const file = `${directory}/rec.tar`;
    const report = await pack({ directory: recording, file, images: false }, QUIET, NEVER);
    assert.deepEqual(report.leftOut, ["index/", "vms/web/notes"]);
    assert.deepEqual([report.files, report.images, report.snapshot], [5, 0, false]);
    assert.equal(report.bytes, Deno.statSync(file).size);
    const out = `${directory}/out`;
    const unpacked = await unpack({ file, out }, QUIET, NEVER);
    assert.deepEqual(contentOf(out), before);
    await verifySegments(out, readManifest(out));
    assert.deepEqual([unpacked.id, unpacked.files], [report.id, 5]);
    assert.deepEqual(names(), ["disk", "kernel", "out", "rec", "rec.tar"]);
    await pack({ directory: out, file: `${directory}/again.tar`, images: false }, QUIET, NEVER);
    assert.deepEqual(await Deno.readFile(`${directory}/again.tar`), await Deno.readFile(file));
  }));

Deno.test("pack --images: images come along by digest, and holes stay holes", () =>
  withRecording(async ({ directory, recording }) => {
    const file = `${directory}/rec.tar.zst`;
    const report = await pack({ directory: recording, file, images: true }, QUIET, NEVER);
    assert.equal(report.images, 2);
    assert(report.bytes < DISK.length / 20, `${report.bytes}`);
    const out = `${directory}/out`;
    const { images } = await unpack({ file, out }, QUIET, NEVER);
    assert.equal(images, 2);
    const disk = `${out}/images/${sha256(DISK)}`;
    assert.deepEqual(await Deno.readFile(disk), DISK);
    assert(Deno.statSync(disk).blocks! * 512 < 1 << 20, "the hole takes space");
    // from there on, without the originals
    for (const name of ["kernel", "disk"]) await Deno.remove(`${directory}/${name}`);
    const again = `${directory}/again`;
    await pack({ directory: out, file: again, images: true }, QUIET, NEVER);
    assert.deepEqual(await Deno.readFile(again), await Deno.readFile(file));
    await assert.rejects(
      pack({ directory: recording, file: `${directory}/no`, images: true }, QUIET, NEVER),
      (error) => error instanceof ClusterrrError && error.message.includes(sha256(DISK)),
    );
  }));

Deno.test("pack: an unsealed recording is packed with the segments that there are", () =>
  withRecording(async ({ directory, recording }) => {
    change(recording, ({ endedBy: _, ...manifest }) => ({
      ...manifest,
      state: "recording",
      complete: false,
      segments: [],
    }));
    const file = `${directory}/rec.tar`;
    const out = `${directory}/out`;
    const { files } = await pack({ directory: recording, file, images: false }, QUIET, NEVER);
    assert.equal(files, 5);
    await unpack({ file, out }, QUIET, NEVER);
    assert.deepEqual(contentOf(out), contentOf(recording));
    for (const number of [0, 1]) await Deno.remove(`${out}/vms/web/hybrid-00000${number}.seg`);
    await assert.rejects(
      pack({ directory: out, file: `${directory}/no`, images: false }, QUIET, NEVER),
      /has no log of VM web/,
    );
  }));

Deno.test("pack: a damaged or missing segment is named, and nothing is written", () =>
  withRecording(async ({ directory, recording, names }) => {
    const segment = `${recording}/vms/web/hybrid-000001.seg`;
    const bytes = await Deno.readFile(segment);
    bytes[100]! ^= 1;
    await Deno.writeFile(segment, bytes);
    const before = names();
    const options = { directory: recording, file: `${directory}/rec.tar`, images: false };
    const named = (error: unknown) => error instanceof FormatError && error.file === segment;
    await assert.rejects(pack(options, QUIET, NEVER), named);
    await Deno.remove(segment);
    await assert.rejects(pack(options, QUIET, NEVER), named);
    assert.deepEqual(names(), before);
  }));

Deno.test("pack --images: refuses a disk that is based on another", () =>
  withRecording(async ({ directory, recording, names }) => {
    const top = `${directory}/top.qcow2`;
    await run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk", "-F", "raw", top]);
    change(recording, (manifest) => ({
      ...manifest,
      vms: manifest.vms.map((vm) => ({
        ...vm,
        images: [{ role: "disk", path: top, bytes: 1, sha256: sha256(Deno.readFileSync(top)) }],
      })),
    }));
    const before = names();
    await assert.rejects(
      pack({ directory: recording, file: `${directory}/no`, images: true }, QUIET, NEVER),
      /top\.qcow2, can only be used at that path: .* based on another file.*\n?.*qemu-img convert/,
    );
    assert.deepEqual(names(), before);
    await pack({ directory: recording, file: `${directory}/yes`, images: false }, QUIET, NEVER);
  }));

Deno.test("pack and unpack: what exists is not overwritten", () =>
  withRecording(async ({ directory, recording, names }) => {
    const file = `${directory}/rec.tar`;
    await Deno.writeTextFile(file, "mine");
    const options = { directory: recording, file, images: false };
    await assert.rejects(pack(options, QUIET, NEVER), /rec\.tar exists and is never overwritten/);
    assert.equal(await Deno.readTextFile(file), "mine");
    await Deno.remove(file);
    await pack(options, QUIET, NEVER);
    const out = `${directory}/out`;
    await Deno.mkdir(out);
    const before = names();
    await assert.rejects(
      unpack({ file, out }, QUIET, NEVER),
      /out exists and is never overwritten/,
    );
    await Deno.remove(out);
    await Deno.symlink("nowhere", out);
    await assert.rejects(unpack({ file, out }, QUIET, NEVER), /never overwritten/);
    assert.deepEqual(names(), before);
  }));

Deno.test("unpack: a damaged pack, an abort, a missing parent: nothing is left", () =>
  withRecording(async ({ directory, recording, names }) => {
    const file = `${directory}/rec.tar`;
    await pack({ directory: recording, file, images: false }, QUIET, NEVER);
    const whole = await Deno.readFile(file);
    const out = `${directory}/out`;
    const before = names();
    for (let length = 0; length < whole.length; length += 512) {
      await Deno.writeFile(file, whole.subarray(0, length));
      await assert.rejects(unpack({ file, out }, QUIET, NEVER), FormatError);
      assert.deepEqual(names(), before, `cut off at ${length}`);
    }
    await Deno.writeFile(file, whole);
    const controller = new AbortController();
    const aborting: Progress = {
      ...QUIET,
      show: ({ fraction = 0 }) => fraction > 0.2 && controller.abort(new Error("enough")),
    };
    await assert.rejects(unpack({ file, out }, aborting, controller.signal), /enough/);
    assert.deepEqual(names(), before);
    await assert.rejects(unpack({ file, out: `${directory}/no/out` }, QUIET, NEVER), HostError);
    await unpack({ file, out }, QUIET, NEVER);
  }));

Deno.test("pack: an abort leaves nothing", () =>
  withRecording(async ({ directory, recording, names }) => {
    const before = names();
    for (const images of [false, true]) {
      const controller = new AbortController();
      const aborting: Progress = {
        ...QUIET,
        show: ({ phase }) => phase === "packing" && controller.abort(new Error("enough")),
      };
      const options = { directory: recording, file: `${directory}/rec.tar`, images };
      await assert.rejects(pack(options, aborting, controller.signal), /enough/);
      assert.deepEqual(names(), before);
    }
  }));

const root = Deno.uid() === 0;
if (!root) console.warn("Not root: no test of pack on a full disk, which mounts one.");

Deno.test("pack: a full disk is a HostError", { ignore: !root }, async () => {
  await withRecording(async ({ directory, recording }) => {
    const small = `${directory}/small`;
    await Deno.mkdir(small);
    await run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", small]);
    try {
      await assert.rejects(
        pack({ directory: recording, file: `${small}/rec.tar`, images: false }, QUIET, NEVER),
        (error) => error instanceof HostError && error.code === 28,
      );
      assert.deepEqual([...Deno.readDirSync(small)], []);
    } finally {
      await run(["umount", small]);
    }
  });
});
