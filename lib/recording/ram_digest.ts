/** How the RAM of a VM is named by what it holds: an algorithm, a colon, 64 hex digits. `FORMAT.md` says which. */
import { z } from "zod";
import { sha256 } from "./manifest.ts";

/** Recordings up to version 3 of the hybrid log have `sha256`. */
const ramAlgorithmSchema = z.enum(["xxh64", "sha256"]);
export type RamAlgorithm = z.infer<typeof ramAlgorithmSchema>;

/** What states are taken with: it tells accidents, not forgeries, and takes a sixth of the time of `sha256`. */
export const RAM_ALGORITHM: RamAlgorithm = "xxh64";

/** Two digests tell whether the RAM is the same only if their algorithms are. */
export const ramDigestSchema = z.templateLiteral([ramAlgorithmSchema, ":", sha256]);
export type RamDigest = z.infer<typeof ramDigestSchema>;

/** What `digest` was made with. */
export function ramAlgorithmOf(digest: RamDigest): RamAlgorithm {
  return ramAlgorithmSchema.parse(digest.split(":", 1)[0]);
}

/** Whether two digests can be compared. */
export function sameAlgorithm(a: RamDigest, b: RamDigest): boolean {
  return ramAlgorithmOf(a) === ramAlgorithmOf(b);
}

/** Whether the RAM is known to be another. */
export function ramDiffers(a: RamDigest, b: RamDigest): boolean {
  return a !== b && sameAlgorithm(a, b);
}

/** For the eye. */
export function shortDigest(digest: RamDigest): string {
  return digest.slice(0, digest.indexOf(":") + 17) + "…";
}
