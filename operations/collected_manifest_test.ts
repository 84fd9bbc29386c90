/** The manifests of several hosts as one. */
import assert from "node:assert/strict";
import { fixtureManifest } from "../lib/catalog/recording_fixture.ts";
import type { Manifest } from "../lib/recording/manifest.ts";
import { mergeManifests, missingVms } from "./collected_manifest.ts";

const HOSTS = [{ name: "alpha", vms: [2] }, { name: "beta", vms: [1, 3] }];
const RECORDER = { framesSent: 10, framesDelivered: 20, lostEvents: 0, droppedFrames: 1 };
const [CLIENT, SERVER] = fixtureManifest().vms as [
  Manifest["vms"][number],
  Manifest["vms"][number],
];
const SEGMENT = { file: "hybrid-000000.seg", bytes: 5, sha256: "ab".repeat(32) };

function part(vm: Manifest["vms"][number], changes: Partial<Manifest> = {}): Manifest {
  return fixtureManifest({
    hosts: HOSTS,
    vms: [vm],
    segments: [{ vm: vm.number, ...SEGMENT }],
    recorder: RECORDER,
    ...changes,
  });
}

const ALPHA = { host: "alpha", manifest: part(SERVER, { timing: { recordS: 13, epochMs: 250 } }) };
const BETA = {
  host: "beta",
  manifest: part(CLIENT, {
    host: { kernel: "6.1", cpu: "Another", cores: 8 },
    sendDrifts: [{ vm: 1, drifts: [{ from: 3, frames: 1, doubtFrom: 3 }] }],
  }),
};

Deno.test("all VMs in the order of the cluster file, with what each host counted", () => {
  const merged = mergeManifests([ALPHA, BETA]);
  assert.deepEqual(merged.vms.map(({ number }) => number), [1, 2]);
  assert.equal(merged.segments.length, 2);
  assert.deepEqual([merged.state, merged.complete, merged.endedBy], ["sealed", true, "poweroff"]);
  assert.equal(merged.timing.recordS, 13);
  assert.deepEqual(merged.recorder, {
    framesSent: 20,
    framesDelivered: 40,
    lostEvents: 0,
    droppedFrames: 2,
  });
  assert.deepEqual(merged.sendDrifts, BETA.manifest.sendDrifts);
  assert.deepEqual(merged.hosts?.map(({ description }) => description?.cores), [2, 8]);
  assert.deepEqual(missingVms(merged), [3], "a host's VM that no part has");
});

Deno.test("some VMs only: the drifts of all senders stay", () => {
  const some = mergeManifests([ALPHA, BETA], new Set([2]));
  assert.deepEqual(some.vms.map(({ number }) => number), [2]);
  assert.deepEqual(some.segments.map(({ vm }) => vm), [2]);
  assert.deepEqual(some.sendDrifts, BETA.manifest.sendDrifts);
});

Deno.test("a part that was cut off makes the whole cut off, and says why", () => {
  const cut = { host: "beta", manifest: part(CLIENT, { state: "recording", complete: false }) };
  const merged = mergeManifests([ALPHA, cut]);
  assert.deepEqual([merged.state, merged.complete, merged.segments], ["recording", false, []]);
  const failed = part(CLIENT, { endedBy: "failure", message: "Host beta was lost." });
  const said = mergeManifests([ALPHA, { host: "beta", manifest: failed }]);
  assert.deepEqual([said.endedBy, said.message], ["failure", "Host beta was lost."]);
});

Deno.test("parts of two recordings are refused", () => {
  const other = { host: "beta", manifest: part(CLIENT, { id: "ffffffffffffffff" }) };
  assert.throws(() => mergeManifests([ALPHA, other]), /Host beta has a part of recording ffff/);
});
