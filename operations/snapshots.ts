/** `clusterrr snapshots`: this host's snapshots, listed and removed. */
import { RunDirectory } from "../host/run_directory.ts";
import { type SnapshotEntry, SnapshotStore } from "../lib/snapshot/store.ts";

/** All snapshots, by name. */
export async function listSnapshots(): Promise<SnapshotEntry[]> {
  return await new SnapshotStore().list();
}

/** Deletes a snapshot. @throws {ClusterrrError} where there is none of that name */
export function removeSnapshot(name: string): void {
  const store = new SnapshotStore();
  store.requireKnown(name);
  const run = RunDirectory.create(`remove snapshot ${name}`);
  try {
    store.remove(name, run.run);
  } finally {
    run.remove();
  }
}
