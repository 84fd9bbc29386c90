/**
 * A recording travels: packed with what it boots from, the originals gone, unpacked elsewhere and replayed
 * there.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { run } from "../host/command.ts";
import { type Manifest, readManifest } from "../lib/recording/manifest.ts";
import { once, type Outcome, readConsole, testBed } from "./end_to_end_fixture.ts";

const bed = testBed();

/** A disk's content: something else in each sector. */
const DISK = new Uint8Array(1 << 20).map((_, i) => i % 509);

/** A cluster file whose kernel, initrd and disks are copies of the test's own, in `folder`. */
async function ownImages(spec: string, folder: string): Promise<void> {
  await Deno.mkdir(folder);
  const cluster = JSON.parse(await Deno.readTextFile(spec));
  for (const role of ["kernel", "initrd"]) {
    await Deno.copyFile(cluster.defaults[role], `${folder}/${role}`);
    cluster.defaults[role] = `${folder}/${role}`;
  }
  await Deno.writeTextFile(spec, JSON.stringify(cluster));
}

function expectFailure({ status, stderr }: Outcome, ...words: string[]): void {
  assert.equal(status, 1, stderr);
  for (const each of words) assert(stderr.includes(each), `${stderr}\n lacks: ${each}`);
}

/** Its snapshots are of use where it has come to. */
async function verifiesInParts(directory: string): Promise<void> {
  const { ok, perRun: [run] } = await bed.json(["verify", directory, "--parallel"]);
  assert.equal(ok, true);
  assert.ok(run.parts > 1, "it was cut nowhere");
}

/** Two VMs that talk, and one that reads its disk. */
const packed = once(async () => {
  const originals = bed.path("originals");
  const disks = [{ image: "originals/disk", format: "raw" }];
  const spec = await bed.cluster("travel", [
    { name: "left", role: "greet", host: 1, peers: [2] },
    { name: "right", role: "greet", host: 2, peers: [1] },
    { name: "store", role: "disk", host: 3, more: { disks } },
  ]);
  await ownImages(spec, originals);
  await Deno.writeFile(`${originals}/disk`, DISK);
  const recording = bed.path("travel.clusterrr");
  await bed.json(["record", spec, "--out", recording, "--digest-every", "200ms"]);
  const file = bed.path("travel.tar.zst");
  const report = await bed.json(["pack", recording, file, "--images"]);
  await Deno.rename(originals, bed.path("moved"));
  return { recording, file, report, manifest: readManifest(recording) };
});

const digestsOf = (manifest: Manifest) =>
  new Set(manifest.vms.flatMap(({ images }) => images.map(({ sha256 }) => sha256)));

bed.test("a pack with images is replayed without the originals", 240, async () => {
  const { file, report, manifest } = await packed();
  assert.deepEqual([report.images, report.snapshot, report.files > 6], [3, false, true]);
  assert.deepEqual(digestsOf(manifest).size, 3);
  const elsewhere = bed.path("elsewhere");
  await bed.json(["unpack", file, "--out", elsewhere]);
  const verified = await bed.json(["verify", elsewhere]);
  assert.equal(verified.ok, true);
  let checked = 0;
  for (const { name, frames, checks } of verified.vms) {
    assert(frames.matched >= (name === "store" ? 0 : 8), `${name}: ${frames.matched} frames`);
    checked += checks.length;
  }
  assert(checked > 0); // perhaps none of the store: it lives for a few seconds, and its disk is at work
  const md5 = createHash("md5").update(DISK).digest("hex");
  assert.match(readConsole(elsewhere, "store"), new RegExp(`^BEFORE ${md5} `, "m"));
});

bed.test("without the pack every image is missing by name, and the store has it", 180, async () => {
  const { recording, file, manifest } = await packed();
  const images = bed.path("store");
  const env = { CLUSTERRR_IMAGES: images };
  const missing = await bed.run(["replay", recording], { env });
  expectFailure(missing, ...digestsOf(manifest), `${recording}/images`, images, "pack --images");
  expectFailure(await bed.run(["replay", file]), "is a packed recording", "clusterrr unpack");
  await Deno.mkdir(images);
  for (const name of ["kernel", "initrd", "disk"]) {
    const image = manifest.vms.flatMap((vm) => vm.images).find(({ path }) => path.endsWith(name))!;
    await Deno.copyFile(bed.path(`moved/${name}`), `${images}/${image.sha256}`);
  }
  const replayed = await bed.run(["replay", recording], { env });
  assert.equal(replayed.status, 0, replayed.stderr);
});

bed.test("snapshots at checkpoints find disks that have moved since", 240, async () => {
  const originals = bed.path("indexed-originals");
  const more = { disks: [{ image: "indexed-originals/disk", format: "raw" }] };
  const spec = await bed.cluster("indexed", [{ name: "solo", role: "count", host: 1, more }]);
  await ownImages(spec, originals);
  await Deno.writeFile(`${originals}/disk`, DISK);
  const recording = bed.path("indexed.clusterrr");
  await bed.json(["record", spec, "--out", recording, "--for", "4s"]);
  const file = bed.path("indexed.tar.zst");
  await bed.json(["pack", recording, file, "--images"]);
  await Deno.remove(originals, { recursive: true });
  const first = bed.path("first");
  await bed.json(["unpack", file, "--out", first]);
  const { checkpoints } = await bed.json(["index", first, "--every", "4"]);
  assert(checkpoints.length > 1);
  const second = bed.path("second");
  await Deno.rename(first, second);
  await verifiesInParts(second);
});

bed.test("a pack takes the snapshot along that its recording starts from", 300, async () => {
  const originals = bed.path("booted-originals");
  const spec = await bed.cluster("booted", [
    { name: "left", role: "toss", host: 1, peers: [2] },
    {
      name: "right",
      role: "toss",
      host: 2,
      peers: [1],
      more: { disks: [{ image: "booted-originals/disk", format: "raw" }] },
    },
  ]);
  await ownImages(spec, originals);
  await Deno.writeFile(`${originals}/disk`, DISK);
  await bed.json(["boot", spec, "--save", "travel", "--until", "GUEST", "--after", "500ms"]);
  const recording = bed.path("from-snapshot");
  await bed.json(["record", "--from", "travel", "--out", recording, "--for", "3s"]);
  const file = bed.path("from-snapshot.tar.zst");
  const report = await bed.json(["pack", recording, file, "--images"]);
  assert.equal(report.snapshot, true);
  await Deno.rename(originals, bed.path("booted-moved"));
  await Deno.remove(bed.path("snapshots"), { recursive: true });
  const elsewhere = bed.path("from-snapshot-elsewhere");
  await bed.json(["unpack", file, "--out", elsewhere]);
  assert.equal((await bed.json(["verify", elsewhere])).ok, true);
  await bed.json(["index", elsewhere, "--every", "4"]);
  const further = bed.path("from-snapshot-further");
  await Deno.rename(elsewhere, further);
  await verifiesInParts(further);
});

bed.test("Ctrl-C while packing and unpacking leaves nothing", 120, async () => {
  const { recording, file } = await packed();
  const folder = bed.path("interrupted");
  await Deno.mkdir(folder);
  await run(["cp", "-r", bed.path("moved"), bed.path("originals")]);
  const commands = [
    ["pack", recording, `${folder}/pack`, "--images"],
    ["unpack", file, "--out", `${folder}/out`],
  ];
  for (const command of commands) {
    const tool = bed.start(command);
    await tool.until("it writes", () => [...Deno.readDirSync(folder)].length > 0);
    tool.signal("SIGINT");
    const { status, stderr } = await tool.ended;
    assert.equal(status, 1, stderr);
    assert.match(stderr, /interrupted/);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
  }
});
