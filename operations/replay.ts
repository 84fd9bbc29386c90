/** `clusterrr replay`: runs a recording again, from its start to its end, and compares every frame. */
import type { Progress, ReplayOptions, ReplayReport } from "../lib/cli/ports.ts";
import { openRecording } from "./open_recording.ts";
import { replayOnce } from "./replay_outcome.ts";

/** Replays once and compares every frame. */
export async function replay(
  options: ReplayOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<ReplayReport> {
  const recording = await openRecording(options.directory, progress, signal);
  const { windowEpochs } = options;
  const world = { progress, signal, ...(windowEpochs && { windowEpochs }) };
  const outcome = await replayOnce(recording, world, false, options.trace);
  const { divergence } = outcome;
  const vms = outcome.results.map((vm) => ({
    name: vm.name,
    framesRecorded: vm.framesRecorded,
    framesMatched: vm.framesMatched,
    instructions: recording.censuses.get(vm.number)!.icount,
    consoleEqual: outcome.consoleEqual.get(vm.name) ?? false,
    replayS: vm.replayS,
    endedBy: vm.cutOff ?? (vm.end === undefined ? "stopped" : "end of log"),
  }));
  return {
    ok: divergence === undefined && vms.every((vm) => vm.consoleEqual),
    vms,
    replayS: outcome.replayS,
    recordS: recording.manifest.timing.recordS,
    queueBytesMax: outcome.queueBytesMax,
    ...(recording.incomplete === undefined ? {} : { incomplete: recording.incomplete }),
    ...(divergence === undefined ? {} : { divergence }),
  };
}
