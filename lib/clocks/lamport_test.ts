import assert from "node:assert/strict";
import fc from "fast-check";
import { lamportTime } from "../units.ts";
import { afterReceive, afterSend, EPOCH_MAX, epochOf, epochStart } from "./lamport.ts";

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

Deno.test("a send is later than the clock, a receive later than clock and stamp", () => {
  assert.equal(afterSend(lamportTime(7)), 8n);
  assert.equal(afterReceive(lamportTime(7), lamportTime(3)), 8n);
  assert.equal(afterReceive(lamportTime(3), lamportTime(7)), 8n);
  assert.equal(afterReceive(lamportTime(7), lamportTime(7)), 8n);
});

Deno.test("property: causality orders times", () => {
  const time = fc.bigInt(0n, (1n << 63n) - 3n).map((n) => lamportTime(n));
  fc.assert(fc.property(time, time, (sender, receiver) => {
    const stamp = afterSend(sender);
    const received = afterReceive(receiver, stamp);
    assert(stamp > sender);
    assert(received > stamp && received > receiver);
    assert(epochOf(received) >= epochOf(stamp));
    assert(epochStart(epochOf(stamp)) <= stamp);
  }));
});
