import assert from "node:assert/strict";
import { hexDump } from "./hex_dump.ts";

const bytes = Uint8Array.from({ length: 18 }, (_, i) => 0x3c + i * 4);

Deno.test("16 bytes a line: offset, hex, text", () => {
  assert.equal(
    hexDump(bytes),
    "  0000  3c 40 44 48 4c 50 54 58 5c 60 64 68 6c 70 74 78  <@DHLPTX\\`dhlptx\n" +
      "  0010  7c 80" + " ".repeat(42) + "  |.",
  );
  assert.equal(hexDump(new Uint8Array(0)), "");
});

Deno.test("lines that differ are marked, also where the other frame is shorter", () => {
  const marked = (other: Uint8Array) =>
    hexDump(bytes, other).split("\n").map((line) => line.endsWith("  *"));
  assert.deepEqual(marked(bytes), [false, false]);
  assert.deepEqual(marked(bytes.with(3, 0)), [true, false]);
  assert.deepEqual(marked(bytes.subarray(0, 17)), [false, true]);
});
