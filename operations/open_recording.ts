/** A recording that fits this host: read, checked and counted before anything of it is replayed. */
import { inspectQemu, type QemuIdentity } from "../hypervisor/qemu/capabilities.ts";
import { runReader } from "../hypervisor/rr_log/runs.ts";
import { tableOfLog } from "../hypervisor/rr_log/tables.ts";
import { ImageStore } from "../host/image_store.ts";
import { ignoreSigpipe } from "../host/libc.ts";
import type { Progress } from "../lib/cli/ports.ts";
import type { ClusterSpec } from "../lib/cluster/spec.ts";
import { clusterOf } from "../lib/cluster/spec_schema.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { EventLoopTurns } from "../lib/event_loop_turns.ts";
import { type Manifest, type ManifestVm, readManifest } from "../lib/recording/manifest.ts";
import { openLog, verifySegments } from "../lib/recording/recording_directory.ts";
import { type LogCensus, takeCensusInTurns } from "../lib/roles/log_census.ts";
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

/** Where a recording is opened. */
export interface OpenOptions {
  /** Where to look for images that are neither at their paths nor in the recording. */
  readonly store?: ImageStore;
  /** Whether the other VMs are replayed on other hosts, rather than missing. */
  readonly part?: boolean;
}

/**
 * Reads a recording and looks whether this host can replay it.
 * @throws {FormatError} where it is damaged; {ClusterrrError} where this host differs
 */
export async function openRecording(
  directory: string,
  progress: Progress,
  signal: AbortSignal,
  { store = new ImageStore(), part = false }: OpenOptions = {},
): Promise<OpenRecording> {
  ignoreSigpipe();
  progress.show({ phase: "reading the recording", vms: [] });
  const manifest = readManifest(directory);
  if (manifest.state === "sealed") await verifySegments(directory, manifest);
  const spec = clusterOf(manifest, directory);
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
  const censuses = new Map<VmNumber, LogCensus>();
  const turns = new EventLoopTurns(signal);
  for (const vm of manifest.vms) {
    const reader = openLog(directory, vm, manifest);
    try {
      censuses.set(vm.number, await takeCensusInTurns(reader, runsOf(vm), turns));
    } finally {
      reader.close();
    }
  }
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

/**
 * The instruction count at which a VM stands before its first instruction. A recording from a snapshot of a busy
 * VM may have it behind the start of the log: that begins with what had been executed and not yet logged.
 */
export function startIcount({ snapshot }: OpenRecording, vm: ManifestVm): number {
  const saved = snapshot?.manifest.vms.find(({ number }) => number === vm.number);
  return saved?.icount ?? vm.firstIcount ?? 0;
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
