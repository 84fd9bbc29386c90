/** The list of recordings in parts that fit into one message each, however many there are. */
import type { RecordingEntry } from "../protocol/control.ts";

/** What a page takes as JSON; a larger entry is a page of its own. Far below the bound of a message. */
const PAGE_BYTES = 256 << 10;

type Place = Pick<RecordingEntry, "id" | "createdAt">;

/** The newest first. */
export function byAge(a: Place, b: Place): number {
  return b.createdAt.localeCompare(a.createdAt) || a.id.localeCompare(b.id);
}

/**
 * The entries behind `behind`, which may have been deleted meanwhile; without it the first.
 * @param entries in the order of {@link byAge}
 * @returns at least one where there are any, and whether more follow
 */
export function pageOf(
  entries: readonly RecordingEntry[],
  behind: Place | null,
): { recordings: RecordingEntry[]; more: boolean } {
  const rest = behind === null ? entries : entries.filter((entry) => byAge(behind, entry) < 0);
  const recordings: RecordingEntry[] = [];
  let bytes = 0;
  for (const entry of rest) {
    bytes += JSON.stringify(entry).length;
    if (bytes > PAGE_BYTES && recordings.length > 0) break;
    recordings.push(entry);
  }
  return { recordings, more: recordings.length < rest.length };
}

/** All entries, page by page. */
export async function allPages(
  page: (behind: Place | null) => Promise<{ recordings: RecordingEntry[]; more: boolean }>,
): Promise<RecordingEntry[]> {
  const all: RecordingEntry[] = [];
  for (let more = true; more;) {
    const last = all.at(-1);
    const next = await page(last === undefined ? null : { id: last.id, createdAt: last.createdAt });
    all.push(...next.recordings);
    more = next.more && next.recordings.length > 0;
  }
  return all;
}
