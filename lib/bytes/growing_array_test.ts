/** Growing arrays hold what was pushed; the search finds where a value would stand. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { countBelow, GrowingArray } from "./growing_array.ts";

Deno.test("property: growing arrays hold what was pushed, in order", () =>
  fc.assert(fc.property(fc.array(fc.maxSafeNat(), { maxLength: 500 }), (values) => {
    const numbers = GrowingArray.numbers();
    const bigints = GrowingArray.bigints();
    for (const value of values) {
      numbers.push(value);
      bigints.push(BigInt(value));
    }
    assert.deepEqual([...numbers.view()], values);
    assert.deepEqual([...bigints.view()], values.map(BigInt));
  })));

Deno.test("property: countBelow counts what is less", () =>
  fc.assert(fc.property(fc.array(fc.nat(50)), fc.nat(60), (values, value) => {
    const sorted = values.toSorted((a, b) => a - b);
    assert.equal(countBelow(sorted, value), values.filter((each) => each < value).length);
    const bigints = BigUint64Array.from(sorted.map(BigInt));
    assert.equal(countBelow(bigints, BigInt(value)), countBelow(sorted, value));
  })));
