/** A host that was lost while it recorded, and is back after the recording has ended. */
import type { ConnectedHost } from "./connected_host.ts";
import { entryOf, hasAllVms, withPart } from "./recording_entry.ts";
import type { CoordinatorStore } from "./store.ts";

/** What a VM still has in its log is written out. */
const SEAL_MS = 120_000;

/**
 * Ends its part as well as it can be ended, unless it has done so by itself, and adds that to what is known of
 * the recording.
 */
export async function concludeLate(
  host: ConnectedHost,
  run: string,
  store: CoordinatorStore,
): Promise<void> {
  const stored = await store.run(run);
  const recorded = await store.recording(run);
  const { phase } = await host.call("record.status", { run });
  if (phase === "concluded" && (stored === undefined || (recorded && hasAllVms(recorded)))) return;
  const message = (stored?.kind === "record" ? stored.end?.message : undefined) ??
    stored?.failure ?? "The coordinator knows nothing of this recording any more.";
  const recordS = stored?.kind === "record" && stored.runningSince !== undefined
    ? (Date.now() - Date.parse(stored.runningSince)) / 1000
    : 0;
  const options = { timeoutMs: SEAL_MS };
  if (phase !== "concluded") {
    for (const step of ["record.quiesce", "record.seal"] as const) {
      await host.call(step, { run }, options)
        .catch(() => host.call("record.abort", { run }, options));
    }
  }
  const end = { by: "failure", message } as const;
  const part = await host.call("record.conclude", { run, end, recordS }, options);
  if (part.vms.length === 0) return;
  await store.changeRecording(run, (entry) => {
    if (entry !== undefined) return withPart(entry, part);
    // Removed meanwhile, or it was not known that VMs ran there when the run was given up.
    return stored?.kind === "record" && recorded === undefined
      ? { ...entryOf(stored, end, recordS, [part]), complete: false }
      : undefined;
  });
}
