/**
 * The digest of a VM's RAM, in two steps: `captureRam` copies the RAM out while the VM is paused
 * (QEMU writes it, about 1 GB/s into a tmpfs); `hashRam` digests the copy while the VM runs on. There is one
 * copy at a time, so that what is needed of the tmpfs is the RAM of the largest VM, however many there are.
 *
 * ```
 *  stop ── captureRam ── cont ──────────▶ the guest runs
 *               └─ files in scratchDir ── hashRam ──▶ SHA-256, files removed
 * ```
 */
import { createHash } from "node:crypto";
import { ClusterrrError, messageOf, QmpError } from "../../lib/errors.ts";
import type { QmpClient } from "../qmp/client.ts";
import { type MemoryRange, saveMemory } from "../qmp/commands.ts";

/** Read and hashed in one go on the event loop: 1 MiB takes 1 ms with SHA-NI, 5 ms without. */
const PORTION_BYTES = 1 << 20;

/** The copy that there is, or will be; resolves when it is gone. */
let lastCopy: Promise<void> = Promise.resolve();

/** A copy of a VM's RAM; whoever holds it calls {@link hashRam} or {@link discardRam} once. */
export interface RamCapture {
  readonly files: readonly string[];
  /** Lets the next copy be made. */
  readonly done: () => void;
}

/**
 * Copies the RAM of a paused VM into files under `scratchDir`, best a tmpfs with room for it
 * (`/dev/shm`), once the copy before is gone. On failure nothing is left there.
 * @throws {ClusterrrError} where the copy fails, as for want of space
 */
export async function captureRam(
  qmp: QmpClient,
  ranges: readonly MemoryRange[],
  scratchDir: string,
): Promise<RamCapture> {
  const base = `${await Deno.realPath(scratchDir)}/ram-${crypto.randomUUID()}`;
  const before = lastCopy;
  const { promise, resolve: done } = Promise.withResolvers<void>();
  lastCopy = promise;
  await before;
  try {
    return { files: await saveMemory(qmp, base, ranges), done };
  } catch (cause) {
    await removeFiles(ranges.map((_, i) => `${base}.${i}`));
    done();
    if (!(cause instanceof QmpError)) throw cause;
    const mib = Math.ceil(ranges.reduce((sum, range) => sum + range.size, 0) / (1 << 20));
    throw new ClusterrrError(
      `Cannot copy a VM's RAM to ${scratchDir}, which needs ${mib} MiB there: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** SHA-256, in hex, of the ranges' bytes one after another. Removes the files, also on failure. */
export async function hashRam(capture: RamCapture): Promise<string> {
  const hash = createHash("sha256");
  const portion = new Uint8Array(PORTION_BYTES);
  try {
    for (const path of capture.files) {
      using file = await Deno.open(path);
      for (let n = await file.read(portion); n !== null; n = await file.read(portion)) {
        hash.update(portion.subarray(0, n));
      }
    }
  } finally {
    await discardRam(capture);
  }
  return hash.digest("hex");
}

/** Removes a copy that is not wanted any more. */
export async function discardRam(capture: RamCapture): Promise<void> {
  try {
    await removeFiles(capture.files);
  } finally {
    capture.done();
  }
}

async function removeFiles(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    try {
      await Deno.remove(path);
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    }
  }
}
