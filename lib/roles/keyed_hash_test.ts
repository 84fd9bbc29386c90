import assert from "node:assert/strict";
import fc from "fast-check";
import { hashKeyed } from "./keyed_hash.ts";

const KEY = 0x0123_4567_89ab_cdefn;

Deno.test("known answers", () => {
  const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i);
  const hex = (length: number) => hashKeyed(counting(length), KEY)!.toString(16).padStart(16, "0");
  // From another implementation, written from net/bpf/FORMAT.md.
  assert.deepEqual([14, 15, 16, 60, 1514].map(hex), [
    "65f9e143884a3b2f",
    "2a41b2b4675519cd",
    "c998435d437686e7",
    "ac96acd379efc1a6",
    "5452c1a1930e9ca5",
  ]);
});

Deno.test("only the lengths of frames have a hash", () => {
  for (const length of [0, 13, 1523, 65_536]) {
    assert.equal(hashKeyed(new Uint8Array(length), KEY), undefined);
  }
  for (const length of [14, 1522]) {
    const hash = hashKeyed(new Uint8Array(length), KEY);
    assert.ok(typeof hash === "bigint" && hash !== 0n, `${length} bytes: ${hash}`);
  }
});

Deno.test("property: it depends on every bit, on the length, on the key, and not on the place in memory", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 14, maxLength: 1521 }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.nat(),
      fc.integer({ min: 0, max: 63 }),
      (frame, key, at, bit) => {
        const hash = hashKeyed(frame, key);
        const changed = frame.slice();
        changed[at % frame.length]! ^= 1 << bit % 8;
        assert.notEqual(hashKeyed(changed, key), hash);
        assert.notEqual(hashKeyed(frame, key ^ 1n << BigInt(bit)), hash);
        const longer = new Uint8Array(frame.length + 1);
        longer.set(frame);
        assert.notEqual(hashKeyed(longer, key), hash);
        const moved = new Uint8Array(frame.length + 3);
        moved.set(frame, 3);
        assert.equal(hashKeyed(moved.subarray(3), key), hash);
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("half of the bits change, in both halves", () => {
  const frame = new Uint8Array(60);
  const before = hashKeyed(frame, KEY)!;
  let upper = 0;
  let lower = 0;
  const count = (bits: bigint) => bits.toString(2).replaceAll("0", "").length;
  for (let bit = 0; bit < 480; bit++) {
    const changed = frame.slice();
    changed[bit >> 3] = 1 << (bit & 7);
    const difference = hashKeyed(changed, KEY)! ^ before;
    upper += count(difference >> 32n) / 480;
    lower += count(difference & 0xffff_ffffn) / 480;
  }
  assert.ok(Math.abs(upper - 16) < 0.5 && Math.abs(lower - 16) < 0.5, `${upper} ${lower}`);
});
