/** What two runs of a VM printed: byte by byte where both texts are there, else by their digests. */
import { createHash } from "node:crypto";
import { Buffer } from "node:buffer";
import type { ConsoleComparison } from "./observation.ts";

const READ_BYTES = 64 << 10;
const LINE_FEED = 10;

export interface ConsoleDigest {
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
}

/** A console's output: the file that holds it, its digest, or nothing that is known. */
export type ConsoleOutput = { readonly path: string } | ConsoleDigest | undefined;

/** @param complete whether both VMs ran to their end: else one may have printed less */
export function compareConsoles(
  a: ConsoleOutput,
  b: ConsoleOutput,
  complete: boolean,
): ConsoleComparison {
  if (a === undefined || b === undefined) return { result: "unknown" };
  if ("path" in a && "path" in b) return compareFiles(a.path, b.path, complete);
  const [digestA, digestB] = [a, b].map((side) => "path" in side ? digestConsole(side.path) : side);
  if (digestA === undefined || digestB === undefined) return { result: "unknown" };
  if (digestA.sha256 === digestB.sha256) return { result: "equal" };
  return { result: complete ? "different" : "unknown" };
}

/** `undefined` where there is no such file. */
export function digestConsole(path: string): ConsoleDigest | undefined {
  using file = openIfThere(path);
  if (file === undefined) return undefined;
  const hash = createHash("sha256");
  const buffer = new Uint8Array(READ_BYTES);
  let bytes = 0;
  for (let n = fill(file, buffer); n > 0; n = fill(file, buffer)) {
    hash.update(buffer.subarray(0, n));
    bytes += n;
  }
  return { bytes, sha256: hash.digest("hex") };
}

function compareFiles(pathA: string, pathB: string, complete: boolean): ConsoleComparison {
  using a = openIfThere(pathA);
  using b = openIfThere(pathB);
  if (a === undefined || b === undefined) return { result: "unknown" };
  const bufferA = new Uint8Array(READ_BYTES);
  const bufferB = new Uint8Array(READ_BYTES);
  let byte = 0;
  let line = 1;
  for (;;) {
    const partA = bufferA.subarray(0, fill(a, bufferA));
    const partB = bufferB.subarray(0, fill(b, bufferB));
    if (partA.length === 0 && partB.length === 0) return { result: "equal" };
    const same = Buffer.compare(partA, partB) === 0;
    const length = same ? partA.length : firstDifference(partA, partB);
    for (let i = 0; i < length; i++) if (partA[i] === LINE_FEED) line++;
    byte += length;
    if (same) continue;
    const cut = length === Math.min(partA.length, partB.length);
    return cut && !complete ? { result: "unknown" } : { result: "different", at: { byte, line } };
  }
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return length;
}

function openIfThere(path: string): Deno.FsFile | undefined {
  try {
    return Deno.openSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Reads until `buffer` is full or the file ends. */
function fill(file: Deno.FsFile, buffer: Uint8Array): number {
  let filled = 0;
  while (filled < buffer.length) {
    const n = file.readSync(buffer.subarray(filled));
    if (n === null) break;
    filled += n;
  }
  return filled;
}
