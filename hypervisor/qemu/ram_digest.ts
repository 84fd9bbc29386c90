/**
 * The digest of a VM's RAM, in two steps: the RAM is copied out of QEMU's process while the VM is paused
 * (some 7 GB/s), and the copy is hashed while the VM runs on.
 *
 * ```
 *  stop ── RamCopier.copy ── cont ──────────▶ the guest runs
 *               └─ portions of our memory ── RamCopy.hash ──▶ SHA-256
 * ```
 */
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { hugePages } from "../../host/libc.ts";
import { ClusterrrError, messageOf } from "../../lib/errors.ts";
import { hostAddress, saveMemory } from "../qmp/commands.ts";
import type { RamRange } from "./memory_map.ts";
import type { QemuProcess } from "./process.ts";

const PORTION_BYTES = 16 << 20;

/** Hashed in one go on the event loop: 1 MiB takes 1 ms with SHA-NI, 5 ms without. */
const HASHED_AT_ONCE = 1 << 20;

/** Whose RAM is copied. */
type Qemu = Pick<QemuProcess, "pid" | "qmp">;

/** The RAM of one moment; whoever holds it calls {@link hash} once. */
export interface RamCopy {
  /** SHA-256, in hex, of the ranges' bytes one after another. Lets the next copy be made. */
  hash(): Promise<string>;
}

/**
 * Copies the RAM of a run's VMs, one copy at a time and all into the same memory. So it takes the memory of
 * the largest VM, however many there are, and the kernel finds pages for the first copy only, which can take
 * far longer than to fill them.
 */
export class RamCopier {
  readonly #portions: Uint8Array<ArrayBuffer>[] = [];
  /** The copy that there is, or will be; resolves when it is gone. */
  #last: Promise<void> = Promise.resolve();

  /** @param directory where QEMU writes a small file for a moment; absolute */
  constructor(private readonly directory: string) {}

  /**
   * Copies the RAM of a paused VM, once the copy before is gone.
   * @throws {ClusterrrError} where QEMU's memory cannot be read, or there is none for the copy
   */
  async copy(qemu: Qemu, ranges: readonly RamRange[]): Promise<RamCopy> {
    const before = this.#last;
    const { promise, resolve: done } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    try {
      const pieces = await this.#piecesOf(qemu, ranges);
      return { hash: () => sha256(pieces).finally(done) };
    } catch (cause) {
      done();
      if (cause instanceof ClusterrrError) throw cause;
      const mib = Math.ceil(ranges.reduce((sum, range) => sum + range.size, 0) / (1 << 20));
      throw new ClusterrrError(
        `Cannot copy the ${mib} MiB RAM of QEMU's process ${qemu.pid}: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /** The ranges' bytes; until the next call. */
  async #piecesOf({ pid, qmp }: Qemu, ranges: readonly RamRange[]): Promise<Uint8Array[]> {
    const pieces: Uint8Array[] = [];
    using memory = await Deno.open(`/proc/${pid}/mem`);
    let used = 0;
    for (const range of ranges) {
      if (range.shadowed) {
        pieces.push(await this.#asGuestSees(qmp, range));
        continue;
      }
      await memory.seek(await hostAddress(qmp, range.address), Deno.SeekMode.Start);
      for (let left = range.size; left > 0;) {
        const portion = this.#portions[used] ??= hugePages(PORTION_BYTES);
        used++;
        const piece = portion.subarray(0, Math.min(left, PORTION_BYTES));
        await fill(piece, memory);
        pieces.push(piece);
        left -= piece.length;
      }
    }
    return pieces;
  }

  async #asGuestSees(qmp: Qemu["qmp"], range: RamRange): Promise<Uint8Array> {
    const path = await Deno.makeTempFile({ dir: this.directory, prefix: "ram-" });
    try {
      await saveMemory(qmp, path, range);
      return await Deno.readFile(path);
    } finally {
      await Deno.remove(path);
    }
  }
}

/** Reads as many bytes as `piece` holds. */
async function fill(piece: Uint8Array, file: Deno.FsFile): Promise<void> {
  for (let filled = 0; filled < piece.length;) {
    const n = await file.read(piece.subarray(filled));
    if (n === null || n === 0) throw new Error("it has ended");
    filled += n;
  }
}

async function sha256(pieces: readonly Uint8Array[]): Promise<string> {
  const hash = createHash("sha256");
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += HASHED_AT_ONCE) {
      hash.update(piece.subarray(at, at + HASHED_AT_ONCE));
      await setImmediate();
    }
  }
  return hash.digest("hex");
}
