/** What a VM printed while it was recorded, and what its replay prints. */

/**
 * Where a log was cut off, the replay of its VM, and of one that waits for its frames, prints the
 * beginning of what the recording printed.
 */
export function consolesEqual(recorded: string, replayed: string, complete: boolean): boolean {
  return complete ? recorded === replayed : recorded.startsWith(replayed);
}
