/** What a VM printed while it was recorded, and what its replay prints. */

/**
 * Where a log was cut off, the replay of its VM, and of one that waits for its frames, prints the
 * beginning of what the recording printed.
 */
export function consolesEqual(
  recorded: Uint8Array,
  replayed: Uint8Array,
  complete: boolean,
): boolean {
  const length = complete ? recorded.length : Math.min(recorded.length, replayed.length);
  return replayed.length === length &&
    recorded.subarray(0, length).every((b, i) => b === replayed[i]);
}

/** What a console file holds; nothing where the VM never came to make it. */
export function readConsole(path: string): Uint8Array<ArrayBuffer> {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Uint8Array();
    throw error;
  }
}
