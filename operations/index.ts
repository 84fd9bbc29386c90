/** `clusterrr index`: replays a recording once and keeps snapshots of the cluster at checkpoints. */
import type { IndexOptions, IndexReport, Progress } from "../lib/cli/ports.ts";
import { epochStart } from "../lib/clocks/lamport.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { lastEpoch } from "../lib/roles/cluster_cut.ts";
import { CheckpointIndex } from "./checkpoint_index.ts";
import { type OpenRecording, openRecording } from "./open_recording.ts";
import { ReplayWorld, type WorldOptions } from "./replay_world.ts";

/** Takes snapshots of a recording, anew where there are some. */
export async function index(
  options: IndexOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<IndexReport> {
  const recording = await openRecording(options.directory, progress, signal);
  const snapshots = new CheckpointIndex(recording);
  const startedAt = performance.now();
  const taken = await addSnapshots(recording, snapshots, options, { progress, signal });
  return {
    checkpoints: snapshots.checkpoints.map(({ epoch, bytes }) => ({ epoch, bytes })),
    taken,
    lastCheckpoint: lastEpoch(recording.censuses),
    bytes: snapshots.bytes,
    indexS: (performance.now() - startedAt) / 1000,
  };
}

/**
 * Saves the cluster at every `every`-th checkpoint, and thins the snapshots out above `bytesMax`.
 * @returns how many were taken
 */
export async function addSnapshots(
  recording: OpenRecording,
  snapshots: CheckpointIndex,
  { every, bytesMax }: Pick<IndexOptions, "every" | "bytesMax">,
  options: WorldOptions,
): Promise<number> {
  const last = lastEpoch(recording.censuses);
  if (last === 0) {
    throw new ClusterrrError(
      "The recording has no checkpoints: it was made with --epoch 0, or is too short.",
    );
  }
  let taken = 0;
  const world = await ReplayWorld.open(recording, { ...options, phase: "indexing" });
  try {
    for (let epoch = every; epoch <= last;) {
      const { time } = await world.runToTime(epochStart(epoch));
      if (world.vms.some(({ vm }) => world.hasEnded(vm.number))) break; // nothing to save of it
      if (!await snapshots.save(world, epoch, time)) {
        epoch++; // a disk is at work: at a checkpoint soon it is not
        continue;
      }
      taken++;
      await snapshots.shrink(bytesMax);
      epoch = every * (Math.floor(epoch / every) + 1);
    }
    return taken;
  } finally {
    await world.close();
  }
}
