import assert from "node:assert/strict";
import {
  ramAlgorithmOf,
  ramDiffers,
  type RamDigest,
  ramDigestSchema,
  sameAlgorithm,
  shortDigest,
} from "./ram_digest.ts";

const A = "0123456789abcdef".repeat(4);
const B = "f".repeat(64);

Deno.test("a digest is an algorithm that is known and 64 hex digits", () => {
  for (const good of [`xxh64:${A}`, `sha256:${B}`]) {
    assert.equal(ramDigestSchema.parse(good), good);
  }
  const bad = [A, `md5:${A}`, `xxh64:${A.slice(1)}`, `xxh64:${A}0`, `xxh64:${B.toUpperCase()}`, ""];
  for (const text of [...bad, ` xxh64:${A}`, `xxh64:${A}\n`]) {
    assert.equal(ramDigestSchema.safeParse(text).success, false, JSON.stringify(text));
  }
});

Deno.test("digests of two algorithms say nothing of whether the RAM is the same", () => {
  const digests: RamDigest[] = [`xxh64:${A}`, `xxh64:${B}`, `sha256:${A}`];
  const [a, b, other] = digests as [RamDigest, RamDigest, RamDigest];
  assert.deepEqual([ramDiffers(a, a), ramDiffers(a, b), ramDiffers(a, other)], [
    false,
    true,
    false,
  ]);
  assert.deepEqual([sameAlgorithm(a, b), sameAlgorithm(a, other)], [true, false]);
  assert.deepEqual(digests.map(ramAlgorithmOf), ["xxh64", "xxh64", "sha256"]);
  assert.equal(shortDigest(a), "xxh64:0123456789abcdef…");
});
