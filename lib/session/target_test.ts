/** Points of a recording: text in, text out, and what is none. */
import assert from "node:assert/strict";
import { formatTarget, parseTarget, requireTarget } from "./target.ts";

Deno.test("targets: checkpoints, instructions, times", () => {
  assert.deepEqual(parseTarget("42"), { kind: "checkpoint", epoch: 42 });
  assert.deepEqual(parseTarget("1234567@left-2"), {
    kind: "instruction",
    vm: "left-2",
    icount: 1_234_567,
  });
  assert.deepEqual(parseTarget("12.5s"), { kind: "time", ms: 12_500 });
  assert.deepEqual(parseTarget("250ms"), { kind: "time", ms: 250 });
  assert.deepEqual(parseTarget("2m"), { kind: "time", ms: 120_000 });
  for (const text of ["42", "7@a", "0.25s"]) assert.equal(formatTarget(parseTarget(text)!), text);
});

Deno.test("targets: anything else is refused with what would be right", () => {
  for (const text of ["", "-1", "4.5", "x@left", "5@", "5@Left", "12.5", "s", "1e3", "5 s"]) {
    assert.equal(parseTarget(text), undefined, text);
    assert.throws(() => requireTarget(text), /checkpoint \(42\), an instruction/);
  }
});
