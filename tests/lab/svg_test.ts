import assert from "node:assert/strict";
import { linearTicks, logTicks, svgDocument, text } from "./svg.ts";

Deno.test("ticks of an axis are round and reach beyond every value", () => {
  assert.deepEqual(linearTicks(9.2), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(linearTicks(0.93, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(linearTicks(100, 5), [0, 20, 40, 60, 80, 100]);
  for (const max of [0.003, 1, 7.7, 29.99, 1234]) {
    const ticks = linearTicks(max);
    assert.ok(ticks.at(-1)! >= max, `${max}: ${ticks}`);
    assert.ok(ticks.length <= 8, `${max}: ${ticks}`);
  }
});

Deno.test("ticks of a logarithmic axis are powers of ten around all values", () => {
  assert.deepEqual(logTicks(2e5, 3e7), [1e5, 1e6, 1e7, 1e8]);
  assert.deepEqual(logTicks(1e5, 1e6), [1e5, 1e6]);
  assert.deepEqual(logTicks(5, 5), [1, 10]);
});

Deno.test("texts cannot break the picture, which has colours for light and dark", () => {
  const picture = svgDocument(100, 50, 'a < b & "c"', [text(1, 2, "<script>")]);
  assert.ok(picture.includes("<title>a &lt; b &amp; &quot;c&quot;</title>"));
  assert.equal(picture.includes("<script>"), false);
  assert.match(picture, /prefers-color-scheme: dark/);
});
