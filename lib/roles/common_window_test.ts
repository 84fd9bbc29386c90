import assert from "node:assert/strict";
import type { VmNumber } from "../units.ts";
import { commonWindow } from "./common_window.ts";
import type { LogCensus } from "./log_census.ts";

/** A log with cuts of the epochs 1, 4 and 5, 100 instructions apart; the times of 2 and 3 were missed. */
const CUTS = [1, 4, 5].map((epoch, i) => ({ epoch, icount: 100 * (i + 1) }));
const LOG = { cuts: CUTS, receives: { lamports: new BigUint64Array() } } as unknown as LogCensus;
const [LEFT, RIGHT] = [1, 2] as VmNumber[];
const LOGS = new Map([[LEFT!, LOG], [RIGHT!, LOG]]);

Deno.test("VMs that begin on both sides of a cut do not wait for each other", () => {
  // A snapshot of epoch 2: the cut that comes next is that of 4, and the right VM stands behind it.
  const positions = new Map([[LEFT!, { icount: 150 }], [RIGHT!, { icount: 250 }]]);
  const window = commonWindow(LOGS, 1, positions);
  assert.equal(window.enter(LEFT!, 4), true);
  assert.equal(window.enter(RIGHT!, 5), true);
});

Deno.test("a VM that begins far ahead waits for those behind it", () => {
  const positions = new Map([[LEFT!, { icount: 50 }], [RIGHT!, { icount: 250 }]]);
  const window = commonWindow(LOGS, 2, positions);
  assert.equal(window.enter(RIGHT!, 5), false);
  assert.equal(window.enter(LEFT!, 1), true);
  assert.equal(window.enter(RIGHT!, 5), false);
  assert.equal(window.enter(LEFT!, 4), true);
  assert.equal(window.enter(RIGHT!, 5), true);
});

Deno.test("without positions every VM begins at its start", () => {
  const window = commonWindow(LOGS, 1);
  assert.equal(window.enter(LEFT!, 1), true);
  assert.equal(window.enter(LEFT!, 4), false);
});
