/** `clusterrr clean`: removes what runs left whose process is gone. Runs under way stay untouched. */
import { isAlive, listRuns, removeDeadRun } from "../host/run_directory.ts";
import { findLeftNetworks, removeNetwork } from "../net/topology.ts";
import { SnapshotStore } from "../lib/snapshot/store.ts";
import { requireRoot } from "./machine.ts";

/** @returns what was removed, a line each */
export async function clean(): Promise<string[]> {
  requireRoot("Cleaning");
  const snapshots = new SnapshotStore();
  const halfMade = snapshots.unfinished().filter((run) => !isAlive(run));
  const dead = new Set([
    ...listRuns().filter(({ alive }) => !alive).map(({ run }) => run),
    ...(await findLeftNetworks()).filter((run) => !isAlive(run)),
  ]);
  const removed: string[] = [];
  for (const run of dead) {
    // Processes first: an open tap keeps its namespace.
    removed.push(...removeDeadRun(run), ...await removeNetwork(run));
  }
  for (const run of halfMade) {
    snapshots.abandon(run);
    removed.push(`half-made snapshot of run ${run} in ${snapshots.directory}`);
  }
  return removed;
}
