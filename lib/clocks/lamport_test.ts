import assert from "node:assert/strict";
import { lamportTime } from "../units.ts";
import { EPOCH_MAX, epochOf, epochStart } from "./lamport.ts";

Deno.test("an epoch starts at epoch << 40", () => {
  assert.equal(epochStart(0), 0n);
  assert.equal(epochStart(3), 3n << 40n);
  assert.equal(epochStart(EPOCH_MAX), 0x7f_ffffn << 40n);
  assert.equal(epochOf(lamportTime((3n << 40n) - 1n)), 2);
  assert.equal(epochOf(lamportTime(3n << 40n)), 3);
  assert.throws(() => epochStart(-1), /not an epoch/);
  assert.throws(() => epochStart(EPOCH_MAX + 1), /not an epoch/);
  assert.throws(() => epochStart(0.5), /not an epoch/);
});
