/**
 * The digest of a paused VM's RAM. It is read out of QEMU's process a piece at a time, and each piece is hashed while it is
 * in the processor's cache: 128 MiB take some 30 ms, and no room.
 *
 * ```
 *  QEMU's memory ── 1 MiB ──▶ XXH64 ──┐
 *                ── 1 MiB ──▶ XXH64 ──┼──▶ SHA-256
 *                …                    …
 * ```
 */
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import xxhash from "xxhash-wasm";
import { ClusterrrError, messageOf } from "../../lib/errors.ts";
import type { RamAlgorithm, RamDigest } from "../../lib/recording/ram_digest.ts";
import { hostAddress, saveMemory } from "../qmp/commands.ts";
import type { RamRange } from "./memory_map.ts";
import type { QemuProcess } from "./process.ts";

const PIECE_BYTES = 1 << 20;
/** Between two turns of the event loop: 2 ms with XXH64, 5 ms to 40 ms with SHA-256. */
const PIECES_AT_ONCE = 8;

let xxhashReady: ReturnType<typeof xxhash> | undefined;
/** A piece on its way; filled and used without a wait in between. */
const piece = new Uint8Array(PIECE_BYTES);

/** Whose RAM is read. */
type Qemu = Pick<QemuProcess, "pid" | "qmp">;

/** Takes the pieces of the ranges, one after another: each of 1 MiB but the last of a range. */
export interface RamHash {
  update(piece: Uint8Array): void;
  digest(): RamDigest;
}

/**
 * Digests the ranges' bytes, in their order; the VM must be paused.
 * @param directory where QEMU writes a small file for a moment; absolute
 * @throws {ClusterrrError} where QEMU's memory cannot be read
 */
export async function digestRam(
  qemu: Qemu,
  ranges: readonly RamRange[],
  directory: string,
  algorithm: RamAlgorithm,
): Promise<RamDigest> {
  const hash = await ramHash(algorithm);
  try {
    using memory = Deno.openSync(`/proc/${qemu.pid}/mem`);
    for (const range of ranges) {
      if (range.shadowed) {
        const bytes = await asGuestSees(qemu.qmp, range, directory);
        for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
          hash.update(bytes.subarray(at, at + PIECE_BYTES));
        }
      } else {
        await hashRange(memory, await hostAddress(qemu.qmp, range.address), range.size, hash);
      }
    }
  } catch (cause) {
    if (cause instanceof ClusterrrError) throw cause;
    const mib = Math.ceil(ranges.reduce((sum, range) => sum + range.size, 0) / (1 << 20));
    throw new ClusterrrError(
      `Cannot read the ${mib} MiB RAM of QEMU's process ${qemu.pid}: ${messageOf(cause)}`,
      { cause },
    );
  }
  return hash.digest();
}

async function hashRange(
  memory: Deno.FsFile,
  address: number,
  size: number,
  hash: RamHash,
): Promise<void> {
  memory.seekSync(address, Deno.SeekMode.Start);
  for (let done = 0, pieces = 0; done < size; pieces++) {
    if (pieces % PIECES_AT_ONCE === PIECES_AT_ONCE - 1) await setImmediate();
    const part = piece.subarray(0, Math.min(size - done, PIECE_BYTES));
    fill(part, memory);
    hash.update(part);
    done += part.length;
  }
}

/** Reads as many bytes as `part` holds. */
function fill(part: Uint8Array, file: Deno.FsFile): void {
  for (let filled = 0; filled < part.length;) {
    const n = file.readSync(part.subarray(filled));
    if (n === null || n === 0) throw new Error("it has ended");
    filled += n;
  }
}

async function asGuestSees(
  qmp: Qemu["qmp"],
  range: RamRange,
  directory: string,
): Promise<Uint8Array> {
  const path = await Deno.makeTempFile({ dir: directory, prefix: "ram-" });
  try {
    await saveMemory(qmp, path, range);
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(path);
  }
}

/** `lib/recording/FORMAT.md` has the algorithms. */
export async function ramHash(algorithm: RamAlgorithm): Promise<RamHash> {
  return algorithm === "xxh64" ? await xxh64Tree() : sha256();
}

async function xxh64Tree(): Promise<RamHash> {
  const { h64Raw } = await (xxhashReady ??= xxhash());
  const tree = createHash("sha256");
  const leaf = new Uint8Array(8);
  const view = new DataView(leaf.buffer);
  return {
    update(piece) {
      view.setBigUint64(0, h64Raw(piece), true);
      tree.update(leaf);
    },
    digest: () => `xxh64:${tree.digest("hex")}`,
  };
}

function sha256(): RamHash {
  const hash = createHash("sha256");
  return {
    update: (piece) => void hash.update(piece),
    digest: () => `sha256:${hash.digest("hex")}`,
  };
}
