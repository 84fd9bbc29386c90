/** One manifest of what several hosts have of a recording. */
import { ClusterrrError } from "../lib/errors.ts";
import type { Manifest } from "../lib/recording/manifest.ts";
import type { VmNumber } from "../lib/units.ts";

/** A host's part: its name, and the manifest that it wrote. */
export interface ManifestPart {
  readonly host: string;
  readonly manifest: Manifest;
}

/**
 * Puts the parts together; the order of the VMs is that of the cluster file.
 * @param vms only these VMs, with what a replay of them needs to know of the others
 * @throws {ClusterrrError} where they are not parts of one recording
 */
export function mergeManifests(
  parts: readonly ManifestPart[],
  vms?: ReadonlySet<VmNumber>,
): Manifest {
  const first = parts[0];
  if (first === undefined) throw new Error("a recording without parts");
  for (const { host, manifest: { id } } of parts) {
    if (id !== first.manifest.id) {
      throw new ClusterrrError(
        `Host ${host} has a part of recording ${id}, not of ${first.manifest.id}.`,
      );
    }
  }
  const manifests = parts.map(({ manifest }) => manifest);
  const wanted = (number: VmNumber) => vms?.has(number) ?? true;
  const descriptions = new Map(parts.map(({ host, manifest }) => [host, manifest.host]));
  const hosts = first.manifest.hosts?.map((each) => {
    const description = descriptions.get(each.name);
    return description === undefined ? each : { ...each, description };
  });
  const sendDrifts = manifests.flatMap((manifest) => manifest.sendDrifts ?? []);
  const failed = manifests.find(({ endedBy, message }) => endedBy === "failure" && message);
  const { recorder: _recorder, message: _message, endedBy: _endedBy, ...base } = first.manifest;
  const sealed = manifests.every(({ state }) => state === "sealed");
  const endedBy = (failed ?? first.manifest).endedBy;
  const recorder = sumOf(manifests);
  return {
    ...base,
    state: sealed ? "sealed" : "recording",
    ...(endedBy === undefined ? {} : { endedBy }),
    ...(failed?.message === undefined ? {} : { message: failed.message }),
    complete: manifests.every(({ complete }) => complete),
    ...(hosts === undefined ? {} : { hosts }),
    ...(sendDrifts.length === 0 ? {} : { sendDrifts }),
    vms: manifests.flatMap((manifest) => manifest.vms).filter(({ number }) => wanted(number))
      .sort((a, b) => a.number - b.number),
    segments: sealed
      ? manifests.flatMap(({ segments }) => segments).filter(({ vm }) => wanted(vm))
      : [],
    timing: {
      ...base.timing,
      recordS: Math.max(...manifests.map(({ timing }) => timing.recordS)),
    },
    ...(recorder === undefined ? {} : { recorder }),
  };
}

function sumOf(manifests: readonly Manifest[]): Manifest["recorder"] {
  const counted = manifests.flatMap(({ recorder }) => recorder === undefined ? [] : [recorder]);
  if (counted.length === 0) return undefined;
  return counted.reduce((a, b) => ({
    framesSent: a.framesSent + b.framesSent,
    framesDelivered: a.framesDelivered + b.framesDelivered,
    lostEvents: a.lostEvents + b.lostEvents,
    droppedFrames: a.droppedFrames + b.droppedFrames,
  }));
}

/** The VMs of the recording that no part has, by number. */
export function missingVms(merged: Manifest): VmNumber[] {
  const there = new Set(merged.vms.map(({ number }) => number));
  return (merged.hosts ?? []).flatMap(({ vms }) => vms).filter((vm) => !there.has(vm));
}
