import assert from "node:assert/strict";
import { dispatchEvent, EVENT_BYTES } from "./events.ts";

/** An event in hex, as FORMAT.md lays it out. */
function dispatch(hex: string, length = EVENT_BYTES): unknown[] {
  const bytes = Uint8Array.from(hex.replace(/\s/g, "").match(/../g)!, (b) => parseInt(b, 16));
  const padded = new Uint8Array(8 + bytes.length);
  padded.set(bytes, 8);
  const calls: unknown[] = [];
  dispatchEvent(new DataView(padded.buffer), 8, length, {
    sent: (...args) => calls.push(["sent", ...args]),
    delivered: (...args) => calls.push(["delivered", ...args]),
  });
  return calls;
}

const CLOCKS = "0500000000000000 0203000000000100";
const REST = `${CLOCKS} 0000000000000000`;

Deno.test("a send", () => {
  const hex = `01000000 2a000000 2a000000 ea050000 0700000001000000 0700000001000000 ${REST}`;
  assert.deepEqual(dispatch(hex), [
    ["sent", 42, 2 ** 32 + 7, 1514, 0x1_0000_0000_0302n],
  ]);
});

Deno.test("a delivery of an internal frame", () => {
  const hex = `02000000 02000000 01000000 3c000000 0900000000000000 ffffff0000000000 ${REST}`;
  assert.deepEqual(dispatch(hex), [
    ["delivered", 2, 9, 1, 0xffffff, 60, 0x1_0000_0000_0302n, undefined],
  ]);
});

Deno.test("a delivery of a frame from another host", () => {
  const hash = "efcdab8967452381";
  const hex =
    `02000000 02000000 c8000000 3c000000 0900000000000000 0000000001000000 ${CLOCKS} ${hash}`;
  assert.deepEqual(dispatch(hex), [
    [
      "delivered",
      2,
      9,
      200,
      2 ** 32,
      60,
      0x1_0000_0000_0302n,
      0x8123_4567_89ab_cdefn,
    ],
  ]);
});

Deno.test("a delivery of an external frame has the send number -1", () => {
  const hex = `02000000 02000000 00000000 3c000000 0900000000000000 ffffffffffffffff ${REST}`;
  assert.deepEqual(dispatch(hex), [
    ["delivered", 2, 9, 0, -1, 60, 0x1_0000_0000_0302n, undefined],
  ]);
});

Deno.test("anything else is refused", () => {
  const body = `02000000 00000000 3c000000 0900000000000000 ffffffffffffffff ${REST}`;
  for (const type of ["00000000", "03000000", "01000001"]) {
    assert.throws(() => dispatch(`${type} ${body}`), /event of type/);
  }
  for (const length of [0, 48, 55, 57, 64]) {
    assert.throws(() => dispatch(`02000000 ${body}`, length), /event of \d+ bytes/);
  }
});
