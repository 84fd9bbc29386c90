import assert from "node:assert/strict";
import { compare, median, percentile, spreadOf } from "./statistics.ts";

Deno.test("the median is the middle value, or between the two middle ones", () => {
  assert.equal(median([3]), 3);
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 10, 1, 2]), 3);
  assert.equal(median([100, 20, 3]), 20, "by number, not by text");
  assert.throws(() => median([]), /no values/);
});

Deno.test("the median leaves its input as it is", () => {
  const values = [3, 1, 2];
  median(values);
  assert.deepEqual(values, [3, 1, 2]);
});

Deno.test("a spread holds the extremes", () => {
  assert.deepEqual(spreadOf([2, 9, 4]), { median: 4, min: 2, max: 9 });
});

Deno.test("a comparison takes the medians' ratio, and shows each round's own", () => {
  const { ratio, rounds, ours, other } = compare([2, 4, 9], [4, 2, 3]);
  assert.equal(ours.median, 4);
  assert.equal(other.median, 3);
  assert.equal(ratio, 4 / 3);
  assert.deepEqual(rounds, { median: 2, min: 0.5, max: 3 });
});

Deno.test("rounds that are missing on one side are a mistake", () => {
  assert.throws(() => compare([1, 2], [1]), /2 rounds against 1/);
});

Deno.test("a percentile is one of the values", () => {
  const values = Array.from({ length: 200 }, (_, i) => 200 - i);
  assert.deepEqual([0.005, 0.5, 0.99, 1].map((share) => percentile(values, share)), [
    1,
    100,
    198,
    200,
  ]);
  assert.equal(percentile([7], 0.5), 7);
  assert.throws(() => percentile([], 0.5), /no values/);
});
