import assert from "node:assert/strict";
import { encodeEvent } from "../../hypervisor/rr_log/events.ts";
import { tableForQemu } from "../../hypervisor/rr_log/tables.ts";
import { concat } from "../../lib/bytes/concat.ts";
import { PhaseCounter, phaseMarks } from "./profile_phases.ts";

const TABLE = tableForQemu("7.2.22");
const kindOf = (name: string) => TABLE.kinds.findIndex((kind) => kind.name === name);
const run = (count: number) => encodeEvent({ type: "instruction", kind: 0, count }, TABLE);
const write = (written: number) =>
  encodeEvent({ type: "charWrite", kind: kindOf("CHAR_WRITE"), result: written, written }, TABLE);

Deno.test("profile: marks count bytes of the console, whatever they are", () => {
  const console = new TextEncoder().encode("é\nPHASE idle\r\nxPHASE no\nPHASE end\n");
  assert.deepEqual(phaseMarks(console), [{ name: "idle", at: 3 }, { name: "end", at: 25 }]);
});

Deno.test("profile: a phase begins with the write that has its mark's first byte", () => {
  const counter = new PhaseCounter([{ name: "idle", at: 2 }, { name: "end", at: 5 }], TABLE);
  counter.events(concat([run(100), write(1), run(10), write(1), run(7), write(1)]));
  counter.reference();
  counter.events(concat([run(5), write(2), run(4)]));
  counter.events(concat([write(1), run(3)]));
  const seen = counter.phases.map(({ name, instructions, events, bytes }) =>
    [name, instructions, events, bytes] as const
  );
  assert.deepEqual(seen, [
    ["boot", 117, 5, 3 * 5 + 2 * 9],
    ["idle", 9, 5, 9 + 10 + 5 + 9 + 5],
    ["end", 3, 2, 9 + 5],
  ]);
  assert.equal(counter.phases[1]!.kinds.get("ASYNC_NET"), 1);
});
