/**
 * What the VMs of a recording start from: power-on, or a snapshot. Recording and replay ask here for
 * what differs between the two: the cluster, the clock, the files of a run, the instruction count.
 */
import {
  createFileOverlay,
  createOverlay,
  rebase,
  rebaseNested,
} from "../hypervisor/qemu/overlay.ts";
import type { QemuIdentity } from "../hypervisor/qemu/capabilities.ts";
import { digestOf } from "../host/file_digest.ts";
import type { RunDirectory } from "../host/run_directory.ts";
import { ClusterrrError, FormatError } from "../lib/errors.ts";
import { loadClusterFile } from "../lib/cluster/cluster_file.ts";
import { withoutPlacement } from "../lib/cluster/placement.ts";
import type { ClusterSpec, VmSpec } from "../lib/cluster/spec.ts";
import { clusterOf } from "../lib/cluster/spec_schema.ts";
import type { Manifest } from "../lib/recording/manifest.ts";
import { decodeFrames, filesOf, type Snapshot } from "../lib/snapshot/snapshot.ts";
import { specDifferences } from "../lib/snapshot/spec_differences.ts";
import { SnapshotStore } from "../lib/snapshot/store.ts";
import type { VmNumber } from "../lib/units.ts";
import { compareImages } from "./images.ts";

/** A cluster to record, and the snapshot it starts from, if any. */
export interface StartState {
  readonly spec: ClusterSpec;
  /** The cluster file's text. */
  readonly text: string;
  readonly snapshot?: Snapshot;
}

/**
 * What `record` was told to start.
 * @throws {ClusterrrError} where the cluster file is not that of the snapshot, and says what differs
 */
export async function findStart(
  specPath: string | undefined,
  snapshotName: string | undefined,
): Promise<StartState> {
  const loaded = specPath === undefined ? undefined : await loadClusterFile(specPath);
  if (snapshotName === undefined) {
    if (loaded === undefined) throw new Error("neither a cluster file nor a snapshot");
    return loaded;
  }
  const snapshot = new SnapshotStore().open(snapshotName);
  const spec = clusterOf(snapshot.manifest, snapshot.directory);
  const differences = loaded === undefined
    ? []
    : specDifferences(withoutPlacement(spec), withoutPlacement(loaded.spec));
  if (differences.length > 0) {
    throw new ClusterrrError(
      `${specPath} is not the cluster of snapshot "${snapshotName}":\n` +
        differences.map((line) => `  - ${line}`).join("\n") +
        `\nLeave the file out, or boot it anew: clusterrr boot ${specPath} --save NAME`,
    );
  }
  return { spec, text: await Deno.readTextFile(`${snapshot.directory}/cluster.yaml`), snapshot };
}

/** @throws {ClusterrrError} where this host cannot go on from the snapshot, with all that differs */
export async function requireSnapshotFits(snapshot: Snapshot, qemu: QemuIdentity): Promise<void> {
  const { manifest } = snapshot;
  const differences = await compareImages(manifest.vms);
  for (const { qemu: saved } of manifest.vms) {
    if (saved.version !== qemu.version) {
      differences.push(`QEMU ${qemu.version}, saved by ${saved.version}`);
    } else if (saved.sha256 !== qemu.sha256) {
      differences.push(`another build of QEMU ${qemu.version}: ${qemu.path}`);
    }
  }
  if (differences.length === 0) return;
  throw new ClusterrrError(
    `Snapshot "${manifest.name}" does not fit this host any more:\n` +
      [...new Set(differences)].map((line) => `  - ${line}`).join("\n") +
      "\nBoot the cluster again, or make these what they were.",
  );
}

/**
 * The snapshot that a recording started from, every file checked against its digest.
 * @returns undefined where the recording started at power-on
 * @throws {ClusterrrError} where it is not on this host; {FormatError} where a file has changed
 */
export async function snapshotOf(
  manifest: Manifest,
  directory: string,
): Promise<Snapshot | undefined> {
  if (manifest.snapshot === undefined) return undefined;
  const { name, sha256 } = manifest.snapshot;
  const store = new SnapshotStore();
  const snapshot = store.find(sha256, [`${directory}/snapshot`]);
  if (snapshot === undefined) {
    throw new ClusterrrError(
      `The recording starts from snapshot "${name}" with SHA-256 ${sha256}, which is neither in ` +
        `${store.directory} nor in ${directory}/snapshot. Copy its directory to one of them.`,
    );
  }
  await verifySnapshot(snapshot);
  return snapshot;
}

/** Checks every file of a snapshot against its digest. @throws {FormatError} naming the damaged one */
export async function verifySnapshot({ directory, manifest }: Snapshot): Promise<void> {
  await Promise.all(
    filesOf(manifest).map(async (file) => {
      const path = `${directory}/${file.path}`;
      const found = await digestOf(path);
      if (found.sha256 === file.sha256) return;
      throw new FormatError(
        path,
        0,
        `the file of snapshot "${manifest.name}" is damaged: SHA-256 ${found.sha256}, ` +
          `saved ${file.sha256}`,
      );
    }),
  );
}

/** The snapshot's part on one VM. @throws {ClusterrrError} where it lacks the VM */
function savedVm(snapshot: Snapshot, vm: { readonly number: VmNumber; readonly name: string }) {
  const saved = snapshot.manifest.vms.find((each) => each.number === vm.number);
  if (saved === undefined) {
    throw new ClusterrrError(`Snapshot "${snapshot.manifest.name}" lacks the VM ${vm.name}.`);
  }
  return saved;
}

/** The instruction count at which a VM's log starts. */
export function firstIcountOf(snapshot: Snapshot | undefined, vm: VmSpec): number {
  return snapshot === undefined ? 0 : savedVm(snapshot, vm).logIcount;
}

/** What a guest's clock started at: when its boot began. */
export function clockStart(manifest: Pick<Manifest, "createdAt" | "snapshot">): string {
  return manifest.snapshot?.createdAt ?? manifest.createdAt;
}

/**
 * Makes the files that a VM of this run writes to: its disks, and the state it starts from.
 * @param vm with its images as they are on this host
 */
export async function prepareFiles(
  vm: VmSpec,
  run: RunDirectory,
  snapshot: Snapshot | undefined,
): Promise<{ overlays: string[]; state?: string }> {
  const overlayOf = (i: number) => run.scratch(`${vm.number}.disk${i}`);
  if (snapshot === undefined) {
    const overlays = vm.disks.map(async ({ image, format }, i) => {
      await createOverlay(image, format, overlayOf(i));
      return overlayOf(i);
    });
    return { overlays: await Promise.all(overlays) };
  }
  const saved = savedVm(snapshot, vm);
  const file = ({ path }: { path: string }) => `${snapshot.directory}/${path}`;
  const state = run.scratch(`${vm.number}.state`);
  await createFileOverlay(file(saved.state), state);
  const overlays = saved.disks.map(async (disk, i) => {
    await createFileOverlay(file(disk), overlayOf(i));
    await findImageFrom(snapshot, vm, i, overlayOf(i));
    return overlayOf(i);
  });
  return { overlays: await Promise.all(overlays), state };
}

/**
 * Has the copied disks of a checkpoint, which name the files that they were based on when it was taken,
 * name those of now.
 * @param vm with its images as they are on this host
 */
export async function refindFiles(
  vm: VmSpec,
  overlays: readonly string[],
  snapshot: Snapshot | undefined,
): Promise<void> {
  await Promise.all(vm.disks.map(async ({ image, format }, i) => {
    const overlay = overlays[i]!;
    if (snapshot === undefined) return await rebase(overlay, image, format);
    const file = savedVm(snapshot, vm).disks[i]!;
    await rebase(overlay, `${snapshot.directory}/${file.path}`, "raw");
    await rebaseNested(overlay, image, format);
  }));
}

/** A snapshot's disk names the image where it was saved: in this run's overlay, where it is here. */
async function findImageFrom(
  snapshot: Snapshot,
  vm: VmSpec,
  disk: number,
  overlay: string,
): Promise<void> {
  const { image, format } = vm.disks[disk]!;
  const booted = clusterOf(snapshot.manifest, snapshot.directory).vms
    .find(({ number }) => number === vm.number)!;
  if (booted.disks[disk]!.image !== image) await rebaseNested(overlay, image, format);
}

/** The frames that were on their way to a VM when it was saved. */
export async function framesInFlight(snapshot: Snapshot, vm: VmSpec): Promise<Uint8Array[]> {
  const path = `${snapshot.directory}/${savedVm(snapshot, vm).inFlight.path}`;
  return decodeFrames(path, await Deno.readFile(path));
}
