/**
 * What guests do that is hard to repeat: they reboot, ask for the time and for random numbers, use a lot of memory,
 * and are many. Each is recorded and replayed with all checks.
 */
import assert from "node:assert/strict";
import { readManifest } from "../lib/recording/manifest.ts";
import { readConsole, testBed, type TestVm, type Tool } from "./end_to_end_fixture.ts";
import { HeldReplay } from "./held_replay.ts";
import { programDisk } from "./program_disk.ts";

const bed = testBed();
const MIB = 2 ** 20;
const BOOTS = 3;
const VMS = 8;

/** A disk on which `reboots` counts. */
async function countingDisk(name: string) {
  const bytes = crypto.getRandomValues(new Uint8Array(48 << 10));
  bytes[0] = "0".charCodeAt(0);
  const image = bed.path(`${name}.raw`);
  await Deno.writeFile(image, bytes);
  await Deno.truncate(image, MIB);
  return { image, format: "raw" };
}

/** Records until the console of every VM in `vms` shows `words` so often, and then stops. */
async function recordUntil(
  args: readonly string[],
  directory: string,
  vms: readonly string[],
  words: string,
  times = 1,
): Promise<Tool> {
  const recording = bed.start(["record", ...args, "--out", directory]);
  await bed.consolesShow(recording, directory, vms, words, times);
  recording.signal("SIGINT");
  const { status, stderr } = await recording.ended;
  assert.equal(status, 0, stderr);
  return recording;
}

bed.test(
  "reboots: recorded and replayed across them, disk kept; seek before and behind",
  500,
  async () => {
    const spec = await bed.cluster("reboots", [
      {
        name: "again",
        role: "reboots",
        host: 1,
        peers: [2],
        more: { onReboot: "restart", disk: await countingDisk("again") },
      },
      { name: "other", role: "chatter", host: 2, peers: [1] },
    ]);
    const directory = bed.path("reboots");
    await recordUntil([spec, "--digest-every", "1s"], directory, ["again"], "OK reboots");
    const said = readConsole(directory, "again");
    const boots = [...said.matchAll(/^BOOT (\d): (\w+) {2}-, (\S+)$/mg)];
    assert.deepEqual(boots.map(([, boot]) => boot), ["1", "2", "3"], said);
    for (const value of [2, 3]) assert.equal(new Set(boots.map((b) => b[value])).size, BOOTS, said);
    assert.equal(said.match(/REBOOTING/g)?.length, BOOTS - 1);
    await bed.expectIdentical(directory, 1);

    const held = await HeldReplay.open(bed, directory, ["--to", "1"]);
    const { lastCheckpoint } = await held.ask("state");
    const consoleAt = async (part: number) => {
      await held.seek(Math.max(1, Math.floor(lastCheckpoint * part)));
      return (await held.ask("console", "again")).console as string;
    };
    const bootsOf = (text: string) => text.match(/^BOOT/mg)?.length ?? 0;
    const late = await consoleAt(0.95);
    const lateState = await held.digest();
    const early = await consoleAt(0.3);
    assert.ok(bootsOf(early) < bootsOf(late), `${early}\n--- and later ---\n${late}`);
    assert.ok(said.startsWith(late) && late.startsWith(early));
    assert.equal(await consoleAt(0.95), late);
    assert.deepEqual(await held.digest(), lateState);
    await held.quit();
  },
);

bed.test("a reboot ends a VM that does not say otherwise, also in its replay", 240, async () => {
  const spec = await bed.cluster("ends", [
    { name: "ends", role: "reboots", host: 1, peers: [1], more: { disk: await countingDisk("e") } },
  ]);
  const directory = bed.path("ends");
  const report = await bed.json(["record", spec, "--out", directory, "--digest-every", "0"]);
  assert.deepEqual([report.endedBy, report.complete], ["poweroff", true]);
  assert.equal(readConsole(directory, "ends").match(/^BOOT/mg)?.length, 1);
  await bed.expectIdentical(directory, 0);
});

/** What a guest has printed behind `name`, once a round. */
const valuesOf = (said: string, name: string) =>
  [...said.matchAll(new RegExp(`^${name} (.*)$`, "mg"))].map(([, value]) => value!);

bed.test(
  "clocks and random numbers: new in each recording, the same in its replay",
  300,
  async () => {
    const disk = await programDisk(bed, "clocks");
    const spec = await bed.cluster("clocks", [
      { name: "solo", role: "clocks", host: 1, more: { disk } },
    ]);
    const consoles: string[] = [];
    for (const name of ["once", "twice"]) {
      const directory = bed.path(`clocks-${name}`);
      await bed.json(["record", spec, "--out", directory, "--digest-every", "2s"]);
      const said = readConsole(directory, "solo");
      assert.match(said, /^OK clocks\r?$/m);
      await bed.expectIdentical(directory, 0); // the console among it
      consoles.push(said);
    }
    const names = ["realtime", "tsc", "getrandom", "at_random", "stack", "uuid", "urandom"];
    for (const name of [...names, "monotonic", "date", "hwclock"]) {
      const values = consoles.flatMap((said) => valuesOf(said, name));
      assert.equal(values.length, 4, `${name}: ${values}`);
      assert.equal(new Set(values).size, 4, `${name} repeats: ${values}`);
    }
  },
);

bed.test("1 GiB of memory in use: checks are equal", 500, async () => {
  const disk = await programDisk(bed, "memory");
  const spec = await bed.cluster("memory", [
    { name: "large", role: "memory", host: 1, more: { memory: "1G", disk } },
    { name: "small", role: "chatter", host: 2, peers: [1] },
  ]);
  const directory = bed.path("memory");
  const recording = bed.start(["record", spec, "--out", directory, "--digest-every", "5s"]);
  await bed.consolesShow(recording, directory, ["large"], "OK memory");
  recording.signal("SIGINT");
  assert.equal((await recording.ended).status, 0, recording.stderr);
  const filled = /^FILLED (\d+) MiB: \w+\r?$/m.exec(readConsole(directory, "large"));
  assert.ok(Number(filled?.[1]) > 700, readConsole(directory, "large"));
  await bed.expectIdentical(directory, 1);
});

bed.test(`${VMS} VMs in a ring: all frames are references, and it replays`, 600, async () => {
  const ring = Array.from({ length: VMS }, (_, i): TestVm => ({
    name: `vm${i + 1}`,
    role: "chatter",
    host: i + 1,
    peers: [(i + 1) % VMS + 1],
  }));
  const spec = await bed.cluster("ring", ring, { network: "isolated" });
  const directory = bed.path("eight");
  const names = ring.map(({ name }) => name);
  await recordUntil([spec, "--digest-every", "2s"], directory, names, "bytes from", 40);
  const shown = await bed.json(["show", directory]);
  for (const { name, frames } of shown.vms) {
    assert.ok(frames.internal >= 20, `${name}: ${frames.internal} internal frames`);
    assert.deepEqual([frames.external, frames.stored], [0, 0], `${name}: frames not referenced`);
  }
  const from = performance.now();
  // Checks are taken in turn, and a VM that something comes in for just then has to wait for its next one.
  const { vms } = await bed.expectIdentical(directory, 0);
  const checks = vms.reduce((sum: number, vm: { checks: unknown[] }) => sum + vm.checks.length, 0);
  assert.ok(checks >= VMS, `${checks} checks of ${VMS} VMs`);
  const replayS = (performance.now() - from) / 1000;
  const { recordS } = readManifest(directory).timing;
  console.log(
    `${VMS} VMs: recorded ${recordS.toFixed(1)} s, verified in ${replayS.toFixed(1)} s, ` +
      `ratio ${(replayS / recordS).toFixed(2)}`,
  );
});
