import assert from "node:assert/strict";
import fc from "fast-check";
import { editDistance, nearestName } from "./spelling.ts";

Deno.test("edit distance of known pairs", () => {
  const known: [string, string, number][] = [
    ["", "", 0],
    ["", "abc", 3],
    ["kitten", "sitting", 3],
    ["memroy", "memory", 1],
    ["ca", "abc", 3], // the restricted form: no letter is edited twice
  ];
  for (const [a, b, distance] of known) assert.equal(editDistance(a, b), distance, `${a} ${b}`);
});

Deno.test("edit distance is symmetric, zero only for equals, and bounded by the longer word", () => {
  const word = fc.string({ maxLength: 12, unit: fc.constantFrom("a", "b", "c") });
  fc.assert(fc.property(word, word, (a, b) => {
    const distance = editDistance(a, b);
    assert.equal(distance, editDistance(b, a));
    assert.equal(distance === 0, a === b);
    assert(distance <= Math.max(a.length, b.length));
    assert(distance >= Math.abs(a.length - b.length));
  }));
});

Deno.test("nearest name: slips are found, other words are not", () => {
  const keys = ["name", "memory", "disk", "disks", "mac"];
  assert.equal(nearestName("Memory", keys), "memory");
  assert.equal(nearestName("memoy", keys), "memory");
  assert.equal(nearestName("dsik", keys), "disk");
  assert.equal(nearestName("colour", keys), undefined);
  assert.equal(nearestName("x", []), undefined);
});
