/**
 * Guests with disks: several a VM, qcow2 upon qcow2 and raw, file systems written with fsync and read back
 * from the device. Every replay reads the same, wherever it starts; no image is ever written.
 */
import assert from "node:assert/strict";
import { digestOf } from "../host/file_digest.ts";
import { run } from "../host/command.ts";
import { once, readConsole, testBed } from "./end_to_end_fixture.ts";
import { HeldReplay } from "./held_replay.ts";

const bed = testBed();
const FILE_BYTES = 50_000;
const NEW_FILES = 10;

/** An ext4 image with a few files and their sums. */
async function makeFileSystem(name: string): Promise<string> {
  const tree = bed.path(`${name}-tree`);
  await Deno.mkdir(tree);
  for (const file of ["first", "second", "old"]) {
    await Deno.writeFile(`${tree}/${file}`, crypto.getRandomValues(new Uint8Array(FILE_BYTES)));
  }
  await run(["sh", "-c", `cd ${tree} && md5sum first second >sums`]);
  const image = bed.path(`${name}.raw`);
  await run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "8M"]);
  return image;
}

/** A VM with two disks: an overlay of a qcow2 image, which has bytes of its own, and a raw one. */
const cluster = once(async () => {
  const [lower, upper] = [bed.path("lower.qcow2"), bed.path("upper.qcow2")];
  await run(["qemu-img", "convert", "-O", "qcow2", await makeFileSystem("lower"), lower]);
  await run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", lower, "-F", "qcow2", upper]);
  await run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 7M 64k", upper]);
  const raw = await makeFileSystem("plain");
  const images = [lower, upper, raw];
  const spec = await bed.cluster("files", [
    { name: "files", role: "files", host: 1, more: { disks: [upper, { image: raw }] } },
  ]);
  const digests = () => Promise.all(images.map(digestOf));
  return { spec, digests, before: await digests() };
});

/** What the guest says at its end, without the sums, and both disks' sums. */
function expectRead(directory: string): string[] {
  const said = readConsole(directory, "files");
  assert.equal(said.match(/^new\d+: OK$/mg)?.length, 2 * NEW_FILES, said);
  assert.match(said, /^GUEST role=files status=0$/m);
  return [...said.matchAll(/^DISK \S+ (\w+)/mg)].map(([, sum]) => sum!);
}

bed.test("disks: two of them written and read back, in recording and replay", 300, async () => {
  const { spec, digests, before } = await cluster();
  const directory = bed.path("whole");
  await bed.json(["record", spec, "--out", directory, "--digest-every", "300ms"]);
  const [first, second] = expectRead(directory);
  assert.notEqual(first, second);
  const report = await bed.json(["verify", directory]);
  assert.equal(report.ok, true, JSON.stringify(report));
  assert.ok(report.vms[0].checks.length >= 2, JSON.stringify(report));
  assert.deepEqual(await digests(), before, "no image is written");
});

bed.test(
  "disks: from a saved cluster, with snapshots; back and forth it is the same",
  400,
  async () => {
    const { spec, digests, before } = await cluster();
    await bed.json(["boot", spec, "--save", "written", "--until", "WRITTEN"]);
    const directory = bed.path("saved");
    await bed.json([
      ...["record", "--from", "written", "--out", directory, "--digest-every", "0"],
    ]);
    expectRead(directory);
    const { checkpoints } = await bed.json(["index", directory, "--every", "4"]);
    assert.ok(checkpoints.length >= 1, JSON.stringify(checkpoints));
    const held = await HeldReplay.open(bed, directory, ["--to", "2"]);
    const { checkpoint, lastCheckpoint } = await held.ask("state");
    const late = Math.floor(lastCheckpoint * 3 / 4);
    assert.ok(late > checkpoint, `${checkpoint} of ${lastCheckpoint} checkpoints`);
    const early = await held.digest();
    await held.seek(late);
    const there = await held.digest();
    assert.notDeepEqual(there, early);
    await held.seek(2);
    assert.deepEqual(await held.digest(), early, "back");
    await held.seek(late);
    assert.deepEqual(await held.digest(), there, "and forth");
    const end = await held.ask("continue");
    assert.equal(end.ok, true, "both disks are read to the same sums");
    assert.equal((await held.tool.ended).status, 0);
    await bed.run(["snapshots", "rm", "written"]);
    assert.deepEqual(await digests(), before, "no image is written");
  },
);
