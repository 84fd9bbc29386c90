/** For tests: a store in a directory of its own, and a small snapshot that no QEMU has seen. */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import {
  SNAPSHOT_FORMAT,
  SNAPSHOT_VERSION,
  type SnapshotFile,
  type SnapshotManifest,
  writeSnapshotManifest,
} from "./snapshot.ts";
import { SnapshotStore } from "./store.ts";

/** Gives `work` a store and removes it. */
export async function withStore(
  work: (store: SnapshotStore) => void | Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-snapshots-" });
  try {
    await work(new SnapshotStore(`${directory}/snapshots`));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Makes the snapshot `name` of one VM, "web", as run `run` would. */
export function makeSnapshot(
  store: SnapshotStore,
  name: string,
  run = "ab12cd",
  replace = false,
): SnapshotManifest {
  const directory = store.begin(run);
  const file = (path: string, text: string): SnapshotFile => {
    Deno.mkdirSync(dirname(`${directory}/${path}`), { recursive: true });
    Deno.writeTextFileSync(`${directory}/${path}`, text);
    const sha256 = createHash("sha256").update(text).digest("hex");
    return { path, bytes: text.length, sha256 };
  };
  const manifest: SnapshotManifest = {
    format: SNAPSHOT_FORMAT,
    formatVersion: SNAPSHOT_VERSION,
    name,
    createdAt: "2026-01-31T12:00:00.000Z",
    savedAt: "2026-01-31T12:00:30.000Z",
    toolVersion: "0.1.0",
    uplinkMac: "52:54:00:00:00:fe",
    cluster: { name: "pair" },
    vms: [{
      number: 1,
      name: "web",
      qemu: { path: "/usr/bin/qemu", version: "7.2.22", sha256: "0".repeat(64), rrLogVersion: 1 },
      images: [],
      icount: 3_000_000_000,
      logIcount: 2_999_994_214,
      state: file("vms/web/state.qcow2", "state"),
      disks: [file("vms/web/disk0.qcow2", "disk")],
      inFlight: { ...file("vms/web/in-flight", ""), frames: 0 },
    }],
  };
  writeSnapshotManifest(directory, manifest);
  store.finish(run, name, replace);
  return manifest;
}
