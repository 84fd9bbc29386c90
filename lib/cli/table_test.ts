import assert from "node:assert/strict";
import { plural, renderTable } from "./table.ts";
import { jsonValue, paint } from "./terminal.ts";

Deno.test("columns line up, styles do not count, no line ends in blanks", () => {
  const text = renderTable(
    [{ title: "NAME" }, { title: "SIZE", align: "right" }, { title: "TAGS" }],
    [["a", "9.99 kB", "x"], ["größer", "1 B", ""], ["b", "", ""]],
    paint(false),
  );
  assert.equal(
    text,
    "NAME       SIZE  TAGS\n" +
      "a       9.99 kB  x\n" +
      "größer      1 B\n" +
      "b\n",
  );
  const colored = renderTable(
    [{ title: "A" }, { title: "B" }],
    [["x", "yy"]],
    paint(true),
    (cell, row, column) => `<${row}${column}:${cell}>`,
  );
  assert.equal(
    colored,
    "\x1b[2mA\x1b[22m  \x1b[2mB \x1b[22m\n<00:x>  <01:yy>\n".replace("B ", "B"),
  );
});

Deno.test("plurals", () => {
  assert.deepEqual([0, 1, 2].map((n) => plural(n, "VM")), ["0 VMs", "1 VM", "2 VMs"]);
});

Deno.test("JSON holds counts exactly", () => {
  const values = { small: 12n, huge: 2n ** 60n, text: "x" };
  assert.equal(
    JSON.stringify(values, jsonValue),
    '{"small":12,"huge":"1152921504606846976","text":"x"}',
  );
});
