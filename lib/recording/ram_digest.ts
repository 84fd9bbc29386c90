/** How the RAM of a VM is named by what it holds: an algorithm, a colon, 64 hex digits. `FORMAT.md` says which. */
import { z } from "zod";

/**
 * `xxh64` is what a state is taken with; recordings up to version 3 of the hybrid log have `sha256`. It guards
 * against accidents, and takes a sixth of the time.
 */
const ramAlgorithmSchema = z.enum(["xxh64", "sha256"]);
export type RamAlgorithm = z.infer<typeof ramAlgorithmSchema>;

/** Two digests tell whether the RAM is the same only if their algorithms are. */
export const ramDigestSchema = z.templateLiteral([
  ramAlgorithmSchema,
  ":",
  z.string().regex(/^[0-9a-f]{64}$/),
]);
export type RamDigest = z.infer<typeof ramDigestSchema>;

/** What `digest` was made with. */
export function ramAlgorithmOf(digest: RamDigest): RamAlgorithm {
  return ramAlgorithmSchema.parse(digest.split(":", 1)[0]);
}

/** Whether the RAM is known to be another. */
export function ramDiffers(a: RamDigest, b: RamDigest): boolean {
  return a !== b && ramAlgorithmOf(a) === ramAlgorithmOf(b);
}

/** For the eye. */
export function shortDigest(digest: RamDigest): string {
  return digest.slice(0, digest.indexOf(":") + 17) + "…";
}
