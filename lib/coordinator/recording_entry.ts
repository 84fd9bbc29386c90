/** What the store keeps of a recording: made of the parts that its hosts concluded. */
import { totalsOf } from "../cli/totals.ts";
import type { RecordedPart, RecordingEntry } from "../protocol/control.ts";
import type { StoredRecord } from "./store.ts";

/**
 * @param end what ended the recording
 * @param parts of every host; `undefined` of one whose part is not known
 */
export function entryOf(
  { run, name, cluster, startedAt, placement }: StoredRecord,
  end: NonNullable<StoredRecord["end"]>,
  recordS: number,
  parts: readonly (RecordedPart | undefined)[],
): RecordingEntry {
  return {
    id: run,
    name,
    cluster,
    createdAt: startedAt,
    endedBy: end.by,
    ...(end.message === undefined ? {} : { message: end.message }),
    complete: parts.every((part) => part?.complete ?? false),
    recordS,
    placement,
    vms: parts.flatMap((part) => part?.vms ?? [])
      .sort((a, b) => a.number - b.number).map(totalsOf),
  };
}

/** `entry` with the VMs of a part that came later; those that it has already stay as they are. */
export function withPart(entry: RecordingEntry, part: RecordedPart): RecordingEntry {
  const known = new Set(entry.vms.map(({ name }) => name));
  const vms = part.vms.filter(({ name }) => !known.has(name)).map(totalsOf);
  return { ...entry, vms: [...entry.vms, ...vms] };
}

/** Whether it has every VM that was placed. */
export function hasAllVms(entry: RecordingEntry): boolean {
  return entry.vms.length >= entry.placement.reduce((sum, { vms }) => sum + vms.length, 0);
}
