/** What a file holds, as its SHA-256: how images, snapshots and packed recordings are known. */
import { createHash } from "node:crypto";

export interface Digest {
  readonly sha256: string;
  readonly bytes: number;
}

const PORTION_BYTES = 1 << 20;

/** Files that several VMs boot from are read once: by inode, length and time of the last change. */
const hashed = new Map<string, Promise<Digest>>();

/** Length and SHA-256 of the file `path`. */
export async function digestOf(path: string): Promise<Digest> {
  const { dev, ino, size, mtime } = await Deno.stat(path);
  const file = [dev, ino, size, mtime?.getTime()].join(" ");
  let digest = hashed.get(file);
  if (digest === undefined) hashed.set(file, digest = hashFile(path));
  try {
    return await digest;
  } catch (error) {
    hashed.delete(file);
    throw error;
  }
}

/** {@link digestOf}, always from the file's bytes. */
export async function hashFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  const portion = new Uint8Array(PORTION_BYTES);
  let bytes = 0;
  using file = await Deno.open(path);
  for (let n = await file.read(portion); n !== null; n = await file.read(portion)) {
    hash.update(portion.subarray(0, n));
    bytes += n;
  }
  return { sha256: hash.digest("hex"), bytes };
}
