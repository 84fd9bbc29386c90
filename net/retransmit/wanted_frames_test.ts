import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import { LIST_ENTRIES_MAX, type SendRun } from "../../lib/protocol/link_messages.ts";
import { WantedFrames } from "./wanted_frames.ts";

Deno.test("property: wanted frames: sequences count the used numbers, and parts make them again", () =>
  fc.assert(fc.property(fc.array(fc.nat(2), { maxLength: 200 }), fc.nat(250), (uses, from) => {
    const wanted = WantedFrames.ofUses(uses, from);
    const numbers = uses.flatMap((count, number) => count > 0 && number >= from ? [number] : []);
    assert.equal(wanted.count, numbers.length);
    assert.equal(wanted.end, (numbers.at(-1) ?? -1) + 1);
    for (const [sequence, number] of numbers.entries()) {
      assert.equal(wanted.numberOf(sequence), number);
    }
    for (let number = 0; number < 260; number++) {
      const sequence = numbers.indexOf(number);
      assert.equal(wanted.sequenceOf(number), sequence < 0 ? undefined : sequence);
    }
    const again = new WantedFrames();
    for (const { runs } of wanted.parts()) for (const run of runs) again.append(run);
    assert.ok(again.equals(wanted));
    assert.equal(new WantedFrames().equals(wanted), numbers.length === 0);
  })));

Deno.test("wanted frames: many runs come in parts, the last of which is marked", () => {
  const uses = Uint16Array.from({ length: 5 * LIST_ENTRIES_MAX }, (_, i) => i % 2);
  const parts = [...WantedFrames.ofUses(uses).parts()];
  assert.deepEqual(parts.map(({ runs, last }) => [runs.length, last]), [
    [LIST_ENTRIES_MAX, false],
    [LIST_ENTRIES_MAX, false],
    [LIST_ENTRIES_MAX / 2, true],
  ]);
  const wanted = WantedFrames.ofUses([1]);
  assert.throws(() => wanted.append({ first: 0, count: 1 }), ProtocolError);
});

/** The runs, with those made one that no more than `gap` frames lie between. */
function joined(runs: readonly SendRun[], gap: number): SendRun[] {
  const all: SendRun[] = [];
  for (const run of runs) {
    const last = all.at(-1);
    if (last === undefined || run.first - last.first - last.count > gap) all.push(run);
    else all[all.length - 1] = { first: last.first, count: run.first + run.count - last.first };
  }
  return all;
}

Deno.test("property: wanted frames: too many runs are joined where the gaps are smallest", () =>
  fc.assert(fc.property(
    fc.array(fc.nat(1), { maxLength: 200 }),
    fc.integer({ min: 1, max: 20 }),
    (uses, runsMax) => {
      const wanted = WantedFrames.ofUses(uses, 0, runsMax);
      const exact = WantedFrames.ofUses(uses);
      const runs = [...wanted.parts()].flatMap(({ runs }) => runs);
      assert.ok(runs.length <= runsMax);
      assert.equal(wanted.end, exact.end);
      for (const [number, count] of uses.entries()) {
        if (count > 0) assert.notEqual(wanted.sequenceOf(number), undefined);
      }
      for (const run of runs) {
        assert.ok(uses[run.first]! > 0 && uses[run.first + run.count - 1]! > 0);
      }
      const exactRuns = [...exact.parts()].flatMap(({ runs }) => runs);
      let gap = 0;
      while (joined(exactRuns, gap).length > runsMax) gap = 2 * gap + 1;
      assert.deepEqual(runs, joined(exactRuns, gap));
    },
  )));
