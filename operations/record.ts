/**
 * `clusterrr record`: one host, one process. Puts the roles of a recording together with this host's
 * network, recorder and QEMU, and keeps the manifest true from the first moment to the last.
 */
import { resolve } from "node:path";
import { armRecorder } from "../net/bpf/recorder.ts";
import { sendFrames } from "../net/frame_socket.ts";
import { createNetwork, type NetworkPlan } from "../net/topology.ts";
import { inspectQemu } from "../hypervisor/qemu/capabilities.ts";
import { RrLogScanner } from "../hypervisor/rr_log/scanner.ts";
import { type RrLogTable, tableForQemu } from "../hypervisor/rr_log/tables.ts";
import { RecordedQemu } from "../hypervisor/vm.ts";
import { RunDirectory } from "../host/run_directory.ts";
import { HostError, InterruptedError } from "../lib/errors.ts";
import { placementNote } from "../lib/cluster/placement.ts";
import type {
  Progress,
  RecordOptions,
  RecordReport,
  VmProgress as ShownProgress,
} from "../lib/cli/ports.ts";
import type { HybridTotals } from "../lib/recording/hybrid_log.ts";
import { HybridLogWriter } from "../lib/recording/hybrid_log_writer.ts";
import {
  type Manifest,
  MANIFEST_FORMAT,
  MANIFEST_VERSION,
  type ManifestVm,
  vmDirectory,
  writeManifest,
} from "../lib/recording/manifest.ts";
import { createRecordingDirectory } from "../lib/recording/recording_directory.ts";
import { RecordingAgent } from "../lib/roles/recording_agent.ts";
import { coordinateRecording, type RecordingEnd } from "../lib/roles/recording_coordinator.ts";
import { totalsOf } from "../lib/cli/totals.ts";
import { describeHost } from "./host.ts";
import { hashImages } from "./images.ts";
import { hardwareOf, portableCommandLine, requireRoot } from "./machine.ts";
import {
  clockStart,
  findStart,
  firstIcountOf,
  framesInFlight,
  prepareFiles,
  requireSnapshotFits,
  type StartState,
  verifySnapshot,
} from "./start_state.ts";
import config from "../deno.json" with { type: "json" };

const PROGRESS_EVERY_MS = 250;

/** Records a cluster; see {@link RecordOptions}. */
export async function record(
  options: RecordOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<RecordReport> {
  requireRoot("Recording");
  const start = await findStart(options.spec, options.from);
  const { spec, text, snapshot } = start;
  const qemu = await inspectQemu(spec.qemu.program);
  if (snapshot !== undefined) await requireSnapshotFits(snapshot, qemu);
  const table = tableForQemu(qemu.version);
  if (!table.verified) {
    progress.note(`QEMU ${qemu.version}: its log format is known from its source only, not tried.`);
  }
  const placement = placementNote(spec);
  if (placement !== undefined) progress.note(placement);
  progress.show({ phase: "preparing", vms: [] });
  const createdAt = new Date().toISOString();
  const startedFrom = snapshot === undefined ? {} : {
    snapshot: {
      name: snapshot.manifest.name,
      sha256: snapshot.sha256,
      createdAt: snapshot.manifest.createdAt,
    },
  };
  const rtcBase = clockStart({ createdAt, ...startedFrom });
  const vms = await Promise.all(spec.vms.map(async (vm): Promise<ManifestVm> => ({
    number: vm.number,
    name: vm.name,
    qemu: { ...qemu, rrLogVersion: table.version },
    images: await hashImages(vm),
    commandLine: portableCommandLine(
      hardwareOf(spec, vm, rtcBase),
      qemu,
      snapshot !== undefined,
    ),
    ...(snapshot === undefined ? {} : { firstIcount: firstIcountOf(snapshot, vm) }),
    console: `vms/${vm.name}/console.log`,
    logComplete: false,
    logClosed: false,
    end: null,
    totals: null,
  })));
  stopIfInterrupted(signal);
  const directory = resolve(options.out);
  createRecordingDirectory(directory);
  const manifest: Manifest = {
    format: MANIFEST_FORMAT,
    formatVersion: MANIFEST_VERSION,
    id: crypto.getRandomValues(new Uint8Array(8)).toHex(),
    name: options.name ?? spec.name,
    createdAt,
    toolVersion: config.version,
    state: "recording",
    complete: false,
    host: describeHost(),
    ...startedFrom,
    cluster: spec,
    vms,
    segments: [],
    timing: { recordS: 0, epochMs: options.epochMs },
  };
  let sealed: Manifest;
  let begun = false;
  try {
    await Deno.writeTextFile(`${directory}/cluster.yaml`, text);
    const begins = () => begun = true;
    sealed = await recordInto(directory, manifest, start, table, options, progress, signal, begins);
  } catch (error) {
    // Where it failed before the VMs ran, there is nothing to keep.
    if (!begun) await Deno.remove(directory, { recursive: true });
    throw error;
  }
  const { id, name, endedBy, message, complete, timing, recorder } = sealed;
  return {
    id,
    name,
    directory,
    endedBy: endedBy!,
    ...(message === undefined ? {} : { message }),
    complete,
    recordS: timing.recordS,
    ...(recorder === undefined ? {} : { recorder }),
    vms: sealed.vms.map(totalsOf),
  };
}

function stopIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw new InterruptedError("Interrupted before the recording began.");
}

/**
 * Makes the run, records, seals the manifest.
 * @param begins called when the VMs are about to run: from then on there is something to keep
 */
async function recordInto(
  directory: string,
  manifest: Manifest,
  { spec, snapshot }: StartState,
  table: RrLogTable,
  options: RecordOptions,
  progress: Progress,
  signal: AbortSignal,
  begins: () => void,
): Promise<Manifest> {
  await using cleanup = new AsyncDisposableStack();
  const run = RunDirectory.create(`record ${directory}`);
  cleanup.defer(() => run.remove());
  const { uplink } = spec.network;
  const uplinkMac = snapshot === undefined ? {} : { mac: snapshot.manifest.uplinkMac };
  const plan: NetworkPlan = {
    run: run.run,
    vms: spec.vms,
    ...(uplink === undefined ? {} : { uplink: { ...uplink, ...uplinkMac } }),
  };
  progress.show({ phase: "building the network", vms: [] });
  const network = await createNetwork(plan);
  cleanup.defer(() => network.remove());
  const recorder = await armRecorder(network, plan);
  cleanup.defer(() => recorder.close());

  const logs = new Map<number, HybridLogWriter>();
  const machines = await Promise.all(spec.vms.map(async (vm) => {
    const vmDir = vmDirectory(directory, vm.name);
    const firstIcount = firstIcountOf(snapshot, vm);
    const logOptions = { vm: vm.number, rrLogVersion: table.version, firstIcount };
    logs.set(vm.number, new HybridLogWriter(vmDir, logOptions));
    const machine = new RecordedQemu(
      {
        hardware: hardwareOf(spec, vm, clockStart(manifest)),
        qemu: manifest.vms.find((each) => each.number === vm.number)!.qemu,
        directory: run.path,
        scratch: run.scratch,
        console: `${vmDir}/console.log`,
        ...await prepareFiles(vm, run, snapshot),
        enter: network.enter,
        signal,
        started: (pid) => run.ownChild(pid),
      },
      network.tapOf(vm.number),
      // What was typed during the boot is in the snapshot.
      snapshot === undefined || vm.serialInput === undefined ? vm.serialInput : "",
    );
    cleanup.defer(() => machine.close());
    return machine;
  }));
  writeManifest(directory, manifest);

  progress.show({ phase: "starting the VMs", vms: [] });
  const starts = await Promise.allSettled([
    ...machines.map((machine) => machine.start()),
    ...(snapshot === undefined ? [] : [verifySnapshot(snapshot)]), // it takes as long
  ]);
  const failed = starts.find((start) => start.status === "rejected");
  if (failed !== undefined) {
    for (const log of logs.values()) log.close(false);
    throw signal.aborted
      ? new InterruptedError("Interrupted before the recording began.")
      : failed.reason;
  }
  const agent = new RecordingAgent(
    machines.map((vm) => ({
      vm,
      log: logs.get(vm.number)!,
      scanner: (sink) => {
        const { firstIcount } = manifest.vms.find((each) => each.number === vm.number)!;
        return new RrLogScanner(table, sink, `the rr log of VM ${vm.name}`, firstIcount);
      },
    })),
    recorder,
    { checkEveryMs: options.digestEveryMs },
  );

  if (snapshot !== undefined) {
    // The paused VMs take these before anything that is sent from now on.
    for (const vm of spec.vms) {
      sendFrames(network.netns, network.tapOf(vm.number), await framesInFlight(snapshot, vm));
    }
  }
  begins();
  const startedAt = performance.now();
  const shown = showProgress(agent, logs, progress);
  const end = await coordinateRecording(
    [agent],
    { durationMs: options.forMs, epochMs: options.epochMs },
    signal,
  );
  clearInterval(shown);
  const recordS = (performance.now() - startedAt) / 1000;
  progress.show({ phase: "sealing", vms: [] });
  const counters = recorder.counters();
  const counted: Manifest["recorder"] = {
    framesSent: Number(counters.sent),
    framesDelivered: Number(counters.delivered),
    lostEvents: Number(counters.lostSends + counters.lostReceives),
    droppedFrames: agent.skippedDeliveries,
  };
  if (counted.lostEvents > 0) {
    progress.note(`The recorder lost ${counted.lostEvents} events; their frames are stored whole.`);
  }
  return seal(directory, { ...manifest, recorder: counted }, agent, logs, end, recordS);
}

/** Keeps showing what is recorded; returns the timer. */
function showProgress(
  agent: RecordingAgent,
  logs: ReadonlyMap<number, HybridLogWriter>,
  progress: Progress,
): ReturnType<typeof setInterval> {
  const show = () => {
    const vms = agent.progress().map((vm): ShownProgress => ({
      name: vm.name,
      ...(vm.ended === "no" ? {} : { status: "ended" }),
      frames: vm.framesInternal + vm.framesExternal + vm.framesUnmatched,
      storedBytes: logs.get(vm.number)!.storedBytes,
      rrLogBytes: vm.rrLogBytes,
    }));
    const booting = vms.every((vm) => vm.frames === 0 && vm.status === undefined);
    progress.show({ phase: booting ? "booting" : "recording", vms });
  };
  show();
  return setInterval(show, PROGRESS_EVERY_MS);
}

/**
 * Closes every log and writes the final manifest. Where the disk does not take that, the first one
 * stays: the recording then reads as one that was cut off.
 */
function seal(
  directory: string,
  manifest: Manifest,
  agent: RecordingAgent,
  logs: ReadonlyMap<number, HybridLogWriter>,
  end: RecordingEnd,
  recordS: number,
): Manifest {
  const totals = new Map<number, HybridTotals>();
  const vms = agent.progress().map((vm): ManifestVm => {
    const log = logs.get(vm.number)!.close(vm.ended === "complete");
    totals.set(vm.number, log);
    const { segments: _, complete, closed, icount, ...counts } = log;
    return {
      ...manifest.vms.find((each) => each.number === vm.number)!,
      logComplete: complete,
      logClosed: closed,
      end: { icount, reason: complete ? (end.by === "failure" ? "stopped" : end.by) : "cut off" },
      totals: counts,
    };
  });
  const sealed: Manifest = {
    ...manifest,
    state: "sealed",
    endedBy: end.by,
    ...(end.by === "failure" ? { message: end.error.message } : {}),
    complete: vms.every((vm) => vm.logComplete),
    vms,
    segments: [...totals].flatMap(([vm, { segments }]) => segments.map((s) => ({ vm, ...s }))),
    timing: { ...manifest.timing, recordS },
  };
  try {
    writeManifest(directory, sealed);
    return sealed;
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    return {
      ...sealed,
      endedBy: "failure",
      message: sealed.message ?? error.message,
      complete: false,
    };
  }
}
