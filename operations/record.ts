/** `clusterrr record`: one host, one process, which is the coordinator and the agent. */
import { resolve } from "node:path";
import { inspectQemu } from "../hypervisor/qemu/capabilities.ts";
import { tableForQemu } from "../hypervisor/rr_log/tables.ts";
import { InterruptedError, messageOf } from "../lib/errors.ts";
import { placementNote } from "../lib/cluster/placement.ts";
import type {
  Progress,
  RecordOptions,
  RecordReport,
  VmProgress as ShownProgress,
} from "../lib/cli/ports.ts";
import { newRunId } from "../lib/protocol/run_id.ts";
import type { Manifest } from "../lib/recording/manifest.ts";
import { coordinateRecording } from "../lib/roles/recording_coordinator.ts";
import { totalsOf } from "../lib/cli/totals.ts";
import { type HostProgress, HostRecording } from "./host_recording.ts";
import { hashImages } from "./images.ts";
import { requireRoot } from "./machine.ts";
import { findStart, requireSnapshotFits } from "./start_state.ts";

const PROGRESS_EVERY_MS = 250;

/** Records a cluster; see {@link RecordOptions}. */
export async function record(
  options: RecordOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<RecordReport> {
  requireRoot("Recording");
  const start = await findStart(options.spec, options.from);
  const { spec, snapshot } = start;
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
  const images = new Map(
    await Promise.all(spec.vms.map(async (vm) => [vm.number, await hashImages(vm)] as const)),
  );
  if (signal.aborted) throw new InterruptedError("Interrupted before the recording began.");
  const recording = await HostRecording.prepare(
    {
      id: newRunId(),
      name: options.name ?? spec.name,
      createdAt,
      directory: resolve(options.out),
      start,
      vms: spec.vms.map(({ number }) => number),
      localSpec: spec,
      images,
      qemu,
      uplink: true,
      digestEveryMs: options.digestEveryMs,
      epochMs: options.epochMs,
    },
    (phase) => progress.show({ phase, vms: [] }),
    signal,
  );
  try {
    for (const note of recording.notes) progress.note(note);
    return reportOf(
      await recordAll(recording, options, progress, signal),
      recording.plan.directory,
    );
  } finally {
    // What was recorded is there, whatever cannot be taken away.
    await recording.close().catch((error) =>
      progress.note(`${messageOf(error)}\n\`clusterrr clean\` removes what is left.`)
    );
  }
}

async function recordAll(
  recording: HostRecording,
  options: RecordOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<Manifest> {
  const startedAt = performance.now();
  const show = () => progress.show(shownProgress(recording.progress()));
  show();
  const shown = setInterval(show, PROGRESS_EVERY_MS);
  const end = await coordinateRecording(
    [recording],
    { durationMs: options.forMs, epochMs: options.epochMs },
    signal,
  );
  clearInterval(shown);
  const recordS = (performance.now() - startedAt) / 1000;
  progress.show({ phase: "sealing", vms: [] });
  const sealed = recording.conclude(end, recordS);
  const lostEvents = sealed.recorder?.lostEvents ?? 0;
  if (lostEvents > 0) {
    progress.note(`The recorder lost ${lostEvents} events; their frames are stored whole.`);
  }
  return sealed;
}

/** What people see while a cluster is recorded. */
export function shownProgress(vms: readonly HostProgress[]) {
  const shown = vms.map((vm): ShownProgress => ({
    name: vm.name,
    ...(vm.ended === "no" ? {} : { status: "ended" }),
    frames: vm.framesInternal + vm.framesExternal + vm.framesUnmatched,
    storedBytes: vm.storedBytes,
    rrLogBytes: vm.rrLogBytes,
  }));
  const booting = shown.every((vm) => vm.frames === 0 && vm.status === undefined);
  return { phase: booting ? "booting" : "recording", vms: shown };
}

/** What a sealed recording in `directory` came to. */
export function reportOf(sealed: Manifest, directory: string): RecordReport {
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
