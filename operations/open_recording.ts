/** A recording that fits this host: read, checked and counted before anything of it is replayed. */
import { inspectQemu, type QemuIdentity } from "../hypervisor/qemu/capabilities.ts";
import { runReader } from "../hypervisor/rr_log/runs.ts";
import { tableOfLog } from "../hypervisor/rr_log/tables.ts";
import { ImageStore } from "../host/image_store.ts";
import { ignoreSigpipe } from "../host/libc.ts";
import type { Progress } from "../lib/cli/ports.ts";
import type { ClusterSpec } from "../lib/cluster/spec.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { type Manifest, type ManifestVm, readManifest } from "../lib/recording/manifest.ts";
import { openLog, verifySegments } from "../lib/recording/recording_directory.ts";
import { type LogCensus, takeCensus } from "../lib/roles/log_census.ts";
import type { RunReader } from "../lib/roles/ports.ts";
import type { Snapshot } from "../lib/snapshot/snapshot.ts";
import type { VmNumber } from "../lib/units.ts";
import { missingVms } from "./collected_manifest.ts";
import { locateImages, withLocalImages } from "./images.ts";
import { hardwareOf, portableCommandLine } from "./machine.ts";
import { clockStart, snapshotOf } from "./start_state.ts";

/** A recording, ready to be replayed here. */
export interface OpenRecording {
  readonly directory: string;
  readonly manifest: Manifest;
  /** The cluster as it was recorded. */
  readonly spec: ClusterSpec;
  /** {@link spec} with the paths that the images have on this host: what VMs are started from. */
  readonly localSpec: ClusterSpec;
  readonly qemu: QemuIdentity;
  /** What it starts from, where that is not power-on. */
  readonly snapshot: Snapshot | undefined;
  readonly censuses: ReadonlyMap<VmNumber, LogCensus>;
  /** VMs whose logs it lacks. */
  readonly missing: ReadonlySet<VmNumber>;
  /** What is missing, where it was cut off. */
  readonly incomplete: string | undefined;
}

/**
 * Reads a recording and looks whether this host can replay it.
 * @param part whether the other VMs are replayed on other hosts, rather than missing
 * @param store where to look for images that are neither at their paths nor in the recording
 * @throws {FormatError} where it is damaged; {ClusterrrError} where this host differs
 */
export async function openRecording(
  directory: string,
  progress: Progress,
  store = new ImageStore(),
  part = false,
): Promise<OpenRecording> {
  ignoreSigpipe();
  progress.show({ phase: "reading the recording", vms: [] });
  const manifest = readManifest(directory);
  if (manifest.state === "sealed") await verifySegments(directory, manifest);
  const spec = manifest.cluster as ClusterSpec;
  const qemu = await inspectQemu(spec.qemu.program);
  requireSameMachine(manifest, spec, qemu);
  const localSpec = withLocalImages(
    {
      ...spec,
      vms: spec.vms.filter(({ number }) => manifest.vms.some((vm) => vm.number === number)),
    },
    await locateImages(manifest.vms, directory, store),
  );
  const snapshot = await snapshotOf(manifest, directory);
  const censuses = new Map(manifest.vms.map((vm) => {
    const reader = openLog(directory, vm, manifest);
    try {
      return [vm.number, takeCensus(reader, runsOf(vm))];
    } finally {
      reader.close();
    }
  }));
  const cut = manifest.vms.filter((vm) => !censuses.get(vm.number)!.complete);
  const missing = new Set(part ? [] : missingVms(manifest));
  const lacks = [
    ...(cut.length === 0 ? [] : [`the log of ${cut.map((vm) => vm.name).join(", ")} ends early`]),
    ...(missing.size === 0 ? [] : [`the log of ${namesOf(spec, missing)} is missing`]),
  ];
  const incomplete = lacks.length === 0 ? undefined : lacks.join(", ") +
    (manifest.message === undefined ? "" : ` (${manifest.message.split("\n")[0]})`);
  return { directory, manifest, spec, localSpec, qemu, snapshot, censuses, missing, incomplete };
}

function namesOf(spec: ClusterSpec, vms: ReadonlySet<VmNumber>): string {
  return spec.vms.filter(({ number }) => vms.has(number)).map(({ name }) => name).join(", ");
}

/** The VM called `name`. @throws {ClusterrrError} naming those that there are */
export function vmNamed(manifest: Manifest, name: string): ManifestVm {
  const vm = manifest.vms.find((each) => each.name === name);
  if (vm !== undefined) return vm;
  const names = manifest.vms.map((each) => each.name).join(", ");
  throw new ClusterrrError(`The recording has no VM ${name}. It has: ${names}.`);
}

/** What finds the runs of instructions in a VM's log. */
export function runsOf(vm: ManifestVm): RunReader {
  return runReader(tableOfLog(vm.qemu), `the rr log of ${vm.name}`);
}

/** @throws {ClusterrrError} with everything that differs from the host that recorded */
function requireSameMachine(manifest: Manifest, spec: ClusterSpec, qemu: QemuIdentity): void {
  const differences: string[] = [];
  for (const vm of manifest.vms) {
    if (vm.qemu.version !== qemu.version) {
      differences.push(`QEMU ${qemu.version}, recorded with ${vm.qemu.version}`);
    } else if (vm.qemu.sha256 !== qemu.sha256) {
      differences.push(`another build of QEMU ${qemu.version}: ${qemu.path}`);
    }
    const machine = spec.vms.find((each) => each.number === vm.number);
    if (machine === undefined) throw new ClusterrrError(`The manifest lacks the VM ${vm.name}.`);
    const hardware = hardwareOf(spec, machine, clockStart(manifest));
    const now = portableCommandLine(hardware, qemu, manifest.snapshot !== undefined).slice(1);
    const options = vm.commandLine.slice(1).filter((word, i) => word !== now[i]);
    if (options.length > 0 || now.length !== vm.commandLine.length - 1) {
      differences.push(`other QEMU options for VM ${vm.name}: recorded ${options.join(" ")}`);
    }
  }
  if (differences.length === 0) return;
  throw new ClusterrrError(
    "This host cannot replay the recording exactly:\n" +
      [...new Set(differences)].map((line) => `  - ${line}`).join("\n") +
      "\nReplay it where these are as recorded.",
  );
}
