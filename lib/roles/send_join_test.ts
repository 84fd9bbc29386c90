import assert from "node:assert/strict";
import fc from "fast-check";
import { SentFrames } from "./frame_matcher.ts";
import { SendJoin } from "./send_join.ts";

const rarely = fc.integer({ min: 0, max: 9 }).map((n) => n === 9);

Deno.test("a refused send shifts the numbers of those behind it, and of no other", () => {
  const sent = new SentFrames(8);
  const join = new SendJoin(sent);
  for (const length of [60, 61, 99, 62]) sent.add(`${length}`, length); // 99 never reached the tap
  for (const [n, length] of [60, 61, 62].entries()) join.event(n, length, BigInt(10 * n + 10));
  const emitted: [number, bigint][] = [];
  join.join((n, lamport) => emitted.push([n, lamport]));
  assert.deepEqual(emitted, [[0, 10n], [1, 20n], [2, 21n], [3, 30n]]);
  assert.deepEqual([0, 1, 2, 3].map((n) => join.captureNumber(n)), [0, 1, 3, 4]);
});

Deno.test("an event that is read before its frame waits for it", () => {
  // Found by the simulation: a refused frame hides that the event's own frame has not been captured yet.
  const sent = new SentFrames(8);
  const join = new SendJoin(sent);
  const emitted: [number, bigint][] = [];
  const emit = (n: number, lamport: bigint) => void emitted.push([n, lamport]);
  sent.add("refused", 99);
  join.event(0, 60, 10n);
  join.join(emit);
  assert.deepEqual(emitted, []);
  sent.add("first", 60);
  join.join(emit);
  assert.deepEqual(emitted, [[0, 1n], [1, 10n]]);
  const drifts = [{ from: 0, frames: 1, doubtFrom: 0 }];
  assert.deepEqual(join.drifts(true), drifts);
  sent.add("refused too", 60);
  join.join(emit, true);
  assert.deepEqual(join.drifts(false), drifts, "it may have been its event that was lost");
  assert.deepEqual(join.drifts(true), [...drifts, { from: 1, frames: 2, doubtFrom: 0 }]);
});

Deno.test("the number of a frame that is long forgotten is no later frame's", () => {
  for (const every of [2, 3, 4, 5]) {
    const sent = new SentFrames(8);
    const join = new SendJoin(sent);
    const captured: number[] = []; // by the recorder's number
    for (let i = 0; i < 60; i++) {
      const refused = i % every === 0;
      const length = refused ? 99 : 60 + i % 7;
      sent.add(`${i}`, length);
      if (!refused) join.event(captured.push(i) - 1, length, BigInt(i + 1));
      join.join(() => {});
      for (const [n, truth] of captured.entries()) {
        const named = sent.hashOf(join.captureNumber(n));
        assert.ok(named === undefined || Number(named) <= truth, `${truth} is taken for ${named}`);
      }
    }
  }
});

Deno.test("an event that comes long after its frame identifies nothing", () => {
  const sent = new SentFrames(4);
  const join = new SendJoin(sent);
  for (const [n, length] of [60, 61, 60, 62, 63, 64].entries()) {
    sent.add(`${n}`, length);
    join.event(n, length, BigInt(10 * n + 10));
  }
  const emitted: bigint[] = [];
  join.join((_n, lamport) => emitted.push(lamport));
  assert.deepEqual(emitted, [1n, 2n, 30n, 40n, 50n, 60n]);
  assert.equal(join.captureNumber(5), 5, "no frame was refused");
});

Deno.test("property: the drifts give every frame its number, or say that there is doubt", () => {
  let translated = 0;
  let doubted = 0;
  fc.assert(
    fc.property(
      fc.array(fc.record({ length: fc.integer({ min: 60, max: 62 }), refused: rarely }), {
        maxLength: 60,
        size: "max",
      }),
      (frames) => {
        const sent = new SentFrames(64);
        const join = new SendJoin(sent);
        const truth: number[] = []; // by the recorder's number
        for (const [i, { length, refused }] of frames.entries()) {
          sent.add(`${i}`, length);
          if (!refused) join.event(truth.push(i) - 1, length, BigInt(i + 1));
          join.join(() => {});
        }
        const drifts = join.drifts(true);
        for (const [n, number] of truth.entries()) {
          const found = n + (drifts.findLast(({ from }) => from <= n)?.frames ?? 0);
          assert.ok(found <= number, "never a later frame");
          const doubt = drifts.some(({ from, doubtFrom }) => doubtFrom <= n && n < from);
          if (doubt) doubted++;
          else {
            assert.equal(found, number);
            if (found !== n) translated++;
          }
        }
      },
    ),
    { numRuns: 500 },
  );
  assert.ok(translated > 1000 && doubted > 100, `${translated}, ${doubted}: it says nothing`);
});
