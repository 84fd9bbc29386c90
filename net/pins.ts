/** The directory of a run in the BPF file system: the recorder makes it, closing or cleaning removes it. */
import { HostError } from "../lib/errors.ts";

const EEXIST = 17;

/** @throws {HostError} with errno 17 where the run has one already */
export function makePins(path: string): void {
  try {
    Deno.mkdirSync(path, { mode: 0o700 });
  } catch (cause) {
    if (!(cause instanceof Deno.errors.AlreadyExists)) throw cause;
    const advice = `The run has a recorder, or a crash left one: "clusterrr clean" removes it.`;
    throw new HostError(`making ${path}`, EEXIST, "it exists", advice, { cause });
  }
}

/** Removes the directory and its pins; false where there is none. */
export async function removePins(directory: string): Promise<boolean> {
  try {
    await Deno.remove(directory, { recursive: true });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
