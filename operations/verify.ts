/**
 * `clusterrr verify`: replays a recording, once or several times, in one go or in parts at the same time,
 * and compares all that can be compared.
 */
import type {
  Progress,
  VerifyOptions,
  VerifyReport,
  VerifyRun,
  VmVerification,
} from "../lib/cli/ports.ts";
import { isIdentical, summarizeRuns } from "../lib/cli/verification.ts";
import { CheckpointIndex } from "./checkpoint_index.ts";
import { addSnapshots } from "./index.ts";
import { type OpenRecording, openRecording } from "./open_recording.ts";
import { replaySlices } from "./parallel_replay.ts";
import { checksOf, replayOnce, type ReplayOutcome } from "./replay_outcome.ts";
import type { WorldOptions } from "./replay_world.ts";

/** Replays `runs` times and compares frames, state at the check points, and consoles. */
export async function verify(
  options: VerifyOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const recording = await openRecording(options.directory, progress, signal);
  const replayWhole = options.parallel === undefined
    ? (world: WorldOptions, trace?: string) => replayOnce(recording, world, true, trace)
    : await sliceWise(recording, options.parallel, { progress, signal });
  const perRun: VerifyRun[] = [];
  for (let run = 1; run <= options.runs; run++) {
    const trace = options.trace && options.runs > 1 ? `${options.trace}.${run}` : options.trace;
    const outcome = await replayWhole({ progress, signal }, trace);
    const verified = verifyRun(recording, outcome);
    perRun.push(verified);
    if (options.runs > 1) {
      const verdict = verified.ok ? "identical" : "DIFFERENT";
      progress.note(`run ${run} of ${options.runs}: ${verdict}, ${outcome.replayS.toFixed(1)} s`);
    }
  }
  return summarizeRuns(perRun, recording.incomplete);
}

/** Replays in parts between snapshots; where there are none, they are taken first. */
async function sliceWise(
  recording: OpenRecording,
  { jobs, every, bytesMax }: NonNullable<VerifyOptions["parallel"]>,
  options: WorldOptions,
): Promise<(world: WorldOptions) => Promise<ReplayOutcome>> {
  const index = new CheckpointIndex(recording);
  if (index.checkpoints.length === 0) {
    options.progress.note("There are no snapshots yet: taking them (clusterrr index).");
    await addSnapshots(recording, index, { every, bytesMax }, options);
  }
  return (world) => replaySlices(recording, index.checkpoints, jobs, world);
}

function verifyRun(recording: OpenRecording, outcome: ReplayOutcome): VerifyRun {
  const { recordS } = recording.manifest.timing;
  const vms = recording.manifest.vms.map(({ name, number }): VmVerification => {
    const census = recording.censuses.get(number)!;
    const result = outcome.results.find((vm) => vm.name === name);
    return {
      name,
      frames: { recorded: census.sendTimes.length, matched: result?.framesMatched ?? 0 },
      checks: checksOf(census, outcome.checks.get(name)),
      console: outcome.consoleEqual.get(name) ?? false,
      replayS: result?.replayS ?? outcome.replayS,
      recordS,
    };
  });
  const { divergence, parts } = outcome;
  const incomplete = recording.incomplete !== undefined;
  return {
    ok: divergence === undefined && vms.every((vm) => isIdentical(vm, incomplete)),
    replayS: outcome.replayS,
    recordS,
    vms,
    ...(parts === undefined ? {} : { parts }),
    ...(divergence === undefined ? {} : { divergence }),
  };
}
