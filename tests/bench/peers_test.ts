import assert from "node:assert/strict";
import { GUEST_ARGS_DEFAULT } from "../../lib/cluster/schema.ts";
import { parse } from "../../lib/cluster/testing.ts";
import { OTHER_PROFILES, withProfile } from "./peers.ts";

function cluster(profile: string) {
  const spec = parse(
    `name: duo\n${profile}defaults: {memory: 128M, kernel: kernel, initrd: initrd}\n` +
      "vms: [{name: a, args: role=serve}, {name: b}]\n",
  );
  const qemu = { path: "/qemu", version: "7.2.22", sha256: "00" };
  return { spec, qemu, createdAt: "2026-01-31T12:00:00Z" };
}

const BARE = OTHER_PROFILES.find(({ name }) => name === "bare")!;

Deno.test("with another profile a cluster keeps its guests' own arguments and its network card", () => {
  const given = cluster("");
  const { spec, ...rest } = withProfile(given, BARE)!;
  assert.deepEqual(rest, { qemu: given.qemu, createdAt: given.createdAt });
  assert.deepEqual(spec.vms.map(({ kernelArgs }) => kernelArgs), [
    "console=ttyS0 panic=-1 quiet role=serve",
    "console=ttyS0 panic=-1 quiet",
  ]);
  const { machine, cpu, ...machineRest } = spec.qemu;
  assert.deepEqual([machine, cpu], ["pc", "qemu64"]);
  const { machine: _machine, cpu: _cpu, ...givenRest } = given.spec.qemu;
  assert.deepEqual(machineRest, givenRest);
});

Deno.test("the profile of the target has the four arguments that spare a guest its calibrations", () => {
  const four = OTHER_PROFILES.find(({ replayRatioMax }) => replayRatioMax !== undefined)!;
  assert.equal(
    withProfile(cluster(""), four)!.spec.vms[1]!.kernelArgs,
    "console=ttyS0 panic=-1 quiet nolapic_timer tsc_early_khz=1000000 lpj=4000000 no_timer_check",
  );
});

Deno.test("a cluster that chose its own arguments has no profile to leave out", () => {
  const last = `${GUEST_ARGS_DEFAULT.at(-1)}x`;
  for (const args of [["console=ttyS0"], [...GUEST_ARGS_DEFAULT.slice(0, -1), last]]) {
    const profile = `profile: {guestArgs: ${JSON.stringify(args)}}\n`;
    assert.equal(withProfile(cluster(profile), BARE), undefined);
  }
});
