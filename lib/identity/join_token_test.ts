/** Join tokens as text. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ClusterrrError } from "../errors.ts";
import { decodeToken, encodeToken, hashSecret, randomSecret } from "./join_token.ts";

const GOLDEN = "clrr1.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vbpNogDzgl3M";

const hex = (from: number, bytes: number) =>
  Array.from({ length: bytes }, (_, i) => (from + i).toString(16).padStart(2, "0")).join("");

Deno.test("the layout of a token", () => {
  const token = {
    fingerprint: hex(0, 32),
    secret: hex(32, 16),
    expiresAt: new Date(0x6e936880 * 1000),
  };
  const text = encodeToken(token);
  assert.equal(text, GOLDEN);
  assert.match(text, /^clrr1\.[A-Za-z0-9_-]{75}$/);
  assert.deepEqual(decodeToken(text), token);
  assert.deepEqual(decodeToken(` ${text}\n`), token);
});

Deno.test("property: decoding is the inverse of encoding; a changed character is found", () => {
  const bytes = (n: number) =>
    fc.uint8Array({ minLength: n, maxLength: n }).map((bytes) => bytes.toHex());
  const token = fc.record({
    fingerprint: bytes(32),
    secret: bytes(16),
    expiresAt: fc.integer({ min: 0, max: 0xffff_ffff }).map((seconds) => new Date(seconds * 1000)),
  }, { noNullPrototype: true });
  fc.assert(
    fc.property(token, fc.nat(80), fc.constantFrom(..."ABCxyz019-_ ."), (token, at, character) => {
      const text = encodeToken(token);
      assert.deepEqual(decodeToken(text), token);
      const changed = text.slice(0, at) + character + text.slice(at + 1);
      if (changed.trim() === text) return;
      assert.throws(() => decodeToken(changed), ClusterrrError);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("property: arbitrary texts are refused, and not repeated in the message", () => {
  fc.assert(fc.property(fc.string({ minLength: 12, unit: "binary" }), (text) => {
    for (const token of [text, `clrr1.${text}`]) {
      assert.throws(() => decodeToken(token), (error) => {
        assert.ok(error instanceof ClusterrrError);
        return !error.message.includes(text);
      });
    }
  }));
});

Deno.test("secrets are random and hashed", () => {
  const secret = randomSecret();
  assert.match(secret, /^[0-9a-f]{32}$/);
  assert.notEqual(randomSecret(), secret);
  assert.match(hashSecret(secret), /^[0-9a-f]{64}$/);
  assert.equal(
    hashSecret("00".repeat(16)),
    "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb",
  );
});
