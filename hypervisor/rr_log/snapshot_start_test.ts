import assert from "node:assert/strict";
import { snapshotStart } from "./snapshot_start.ts";
import { tableForQemu } from "./tables.ts";

const table = tableForQemu("7.2.22");
const kindOf = (name: string) => table.kinds.findIndex((kind) => kind.name === name);
const CLOCK = Uint8Array.of(kindOf("CLOCK_HOST"), 0, 0, 26, 26, 26, 26, 26, 26);
const INIT = Uint8Array.of(kindOf("CHECKPOINT_INIT"));
const RESET = Uint8Array.of(kindOf("CHECKPOINT_RESET"));
const LOST = Uint8Array.of(kindOf("INTERRUPT"));
const LOOK = Uint8Array.of(kindOf("CHECKPOINT_CLOCK_VIRTUAL_RT"));
const WARP_START = Uint8Array.of(kindOf("CHECKPOINT_CLOCK_WARP_START"));
const time = (value: number) =>
  Uint8Array.of(kindOf("CLOCK_VIRTUAL_RT"), 0, 0, 0, 0, 0, 0, 0, value);
const RUN = Uint8Array.of(0, 0, 0, 1, 0);

function joined(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("start from a snapshot: an event to lose stands behind the first CHECKPOINT_RESET", () => {
  const start = snapshotStart(table);
  assert.deepEqual(start(joined(CLOCK, INIT, RESET, RUN)), joined(CLOCK, INIT, RESET, LOST, RUN));
  const later = joined(RESET, RUN);
  assert.equal(start(later), later, "only there");
});

Deno.test("start from a snapshot: in whatever portions the events come", () => {
  for (const portions of [[[CLOCK], [INIT, RESET], [RUN]], [[CLOCK, INIT], [RESET], [RUN]]]) {
    const start = snapshotStart(table);
    const out = portions.map((parts) => start(joined(...parts)));
    assert.deepEqual(joined(...out), joined(CLOCK, INIT, RESET, LOST, RUN));
  }
});

Deno.test("start from a snapshot: the byte of CHECKPOINT_RESET inside another event is none", () => {
  const value = new Uint8Array(8).fill(RESET[0]!);
  const clock = joined(Uint8Array.of(kindOf("CLOCK_HOST")), value);
  assert.deepEqual(snapshotStart(table)(joined(clock, RUN)), joined(clock, RUN));
});

Deno.test("start from a snapshot: a guest that was saved asleep takes its timer only once it runs", () => {
  const asleep = joined(time(5), LOOK, time(5), time(5), LOOK, time(9), RUN);
  assert.deepEqual(
    snapshotStart(table)(joined(CLOCK, INIT, RESET, asleep)),
    joined(CLOCK, INIT, RESET, LOST, WARP_START, time(5), asleep),
  );
  const inPortions = snapshotStart(table);
  assert.deepEqual(inPortions(joined(CLOCK, INIT, RESET)), joined(CLOCK, INIT, RESET, LOST));
  assert.deepEqual(inPortions(asleep), joined(WARP_START, time(5), asleep));
  assert.equal(inPortions(asleep), asleep, "only there");
});

Deno.test("start from a snapshot: a guest that was saved awake, or whose sleep was over, has no such timer", () => {
  const awake = joined(Uint8Array.of(kindOf("CHECKPOINT_CLOCK_WARP_ACCOUNT")), time(5), RUN);
  assert.deepEqual(snapshotStart(table)(joined(RESET, awake)), joined(RESET, LOST, awake));
});
