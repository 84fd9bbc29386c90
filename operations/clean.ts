/** `clusterrr clean`: removes what runs left whose process is gone. Runs under way stay untouched. */
import { isAlive, listRuns, removeDeadRun } from "../host/run_directory.ts";
import { findLeftNetworks, removeNetwork } from "../net/topology.ts";
import { SnapshotStore } from "../lib/snapshot/store.ts";
import { ClusterrrError, messageOf } from "../lib/errors.ts";
import { requireRoot } from "./machine.ts";

/**
 * @returns what was removed, a line each
 * @throws {ClusterrrError} something could not be removed; all else has been
 */
export async function clean(): Promise<string[]> {
  requireRoot("Cleaning");
  const snapshots = new SnapshotStore();
  const halfMade = snapshots.unfinished().filter((run) => !isAlive(run));
  const dead = new Set([
    ...listRuns().filter(({ alive }) => !alive).map(({ run }) => run),
    ...(await findLeftNetworks()).filter((run) => !isAlive(run)),
  ]);
  const removed: string[] = [];
  const failed: string[] = [];
  const attempt = async (run: string, remove: (run: string) => string[] | Promise<string[]>) => {
    try {
      removed.push(...await remove(run));
    } catch (error) {
      failed.push(`what run ${run} left: ${messageOf(error)}`);
    }
  };
  for (const run of dead) {
    await attempt(run, removeDeadRun); // processes first: an open tap keeps its namespace
    await attempt(run, removeNetwork);
  }
  for (const run of halfMade) {
    await attempt(run, () => {
      snapshots.abandon(run);
      return [`half-made snapshot of run ${run} in ${snapshots.directory}`];
    });
  }
  if (failed.length > 0) {
    const others = removed.map((line) => `\nremoved ${line}`).join("");
    throw new ClusterrrError(`Could not remove ${failed.join("\nCould not remove ")}${others}`);
  }
  return removed;
}
