/** A host that was lost while it recorded, and is back after the recording has ended. */
import { totalsOf } from "../cli/totals.ts";
import type { ConnectedHost } from "./connected_host.ts";
import type { CoordinatorStore, StoredRun } from "./store.ts";

/** Ends its part as well as it can be ended, and adds that to what is known of the recording. */
export async function concludeLate(
  host: ConnectedHost,
  run: string,
  stored: StoredRun | undefined,
  store: CoordinatorStore,
): Promise<void> {
  const message = stored?.failure ?? "The coordinator knows nothing of this recording any more.";
  const recordS = stored?.kind === "record" && stored.runningSince !== undefined
    ? (Date.now() - Date.parse(stored.runningSince)) / 1000
    : 0;
  for (const step of ["record.quiesce", "record.seal"] as const) {
    await host.call(step, { run }).catch(() => host.call("record.abort", { run }));
  }
  const part = await host.call("record.conclude", {
    run,
    end: { by: "failure", message },
    recordS,
  });
  const entry = (await store.recordings()).find(({ id }) => id === run);
  if (entry === undefined) return;
  const known = new Set(entry.vms.map(({ name }) => name));
  const vms = part.vms.filter(({ name }) => !known.has(name)).map(totalsOf);
  await store.putRecording({ ...entry, vms: [...entry.vms, ...vms] });
}
