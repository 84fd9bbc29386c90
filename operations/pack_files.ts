/** What packing and unpacking have in common: output that appears whole, errors of the disk, progress. */
import { basename, dirname, join } from "node:path";
import type { Progress } from "../lib/cli/ports.ts";
import { ClusterrrError, errnoOf, HostError, messageOf } from "../lib/errors.ts";
import type { PackedFile } from "../lib/pack/contents.ts";

/** A hidden name beside `path`, on the same file system, that nothing has. */
export function newName(path: string): string {
  const random = crypto.randomUUID().slice(0, 8);
  return join(dirname(path), `.${basename(path)}.partial-${random}`);
}

/** @throws {ClusterrrError} where there is anything at `path` */
export async function requireAbsent(path: string, advice: string): Promise<void> {
  try {
    await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new ClusterrrError(`Cannot make ${path}: ${messageOf(error)}.`, { cause: error });
  }
  throw new ClusterrrError(`${path} exists and is never overwritten. ${advice}.`);
}

/**
 * Does `work` that writes `path`.
 * @throws {HostError} where the disk refuses; what else `work` throws
 */
export async function onDisk<T>(
  action: string,
  path: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const errno = errnoOf(cause);
    if (cause instanceof ClusterrrError || errno === undefined) throw cause;
    throw new HostError(
      `${action} ${path}`,
      errno,
      messageOf(cause),
      "Nothing is left of it. Check the directory and the space on its disk.",
      { cause },
    );
  }
}

/** How many of the files' bytes have passed. */
export class PackProgress {
  readonly #total: number;
  #done = 0;

  constructor(
    private readonly phase: string,
    files: readonly PackedFile[],
    private readonly progress: Progress,
    private readonly signal: AbortSignal,
  ) {
    this.#total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** @throws what the signal was aborted with */
  add(bytes: number): void {
    this.signal.throwIfAborted();
    this.#done += bytes;
    const fraction = this.#total === 0 ? 1 : this.#done / this.#total;
    this.progress.show({ phase: this.phase, fraction, vms: [] });
  }

  async *count(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.add(chunk.length);
      yield chunk;
    }
  }
}
