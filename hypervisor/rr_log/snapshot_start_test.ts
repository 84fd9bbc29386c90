import assert from "node:assert/strict";
import { snapshotStart } from "./snapshot_start.ts";
import { tableForQemu } from "./tables.ts";

const table = tableForQemu("7.2.22");
const kindOf = (name: string) => table.kinds.findIndex((kind) => kind.name === name);
const CLOCK = Uint8Array.of(kindOf("CLOCK_HOST"), 0, 0, 26, 26, 26, 26, 26, 26);
const INIT = Uint8Array.of(kindOf("CHECKPOINT_INIT"));
const RESET = Uint8Array.of(kindOf("CHECKPOINT_RESET"));
const LOST = Uint8Array.of(kindOf("INTERRUPT"));
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
