/** The retransmission queue: what is kept, for whom, for how long. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { RetransmissionQueue } from "./queue.ts";

const usesOf = (counts: Record<number, number[]>) =>
  new Map(Object.entries(counts).map(([vm, uses]) => [Number(vm), Uint16Array.from(uses)]));

Deno.test("a frame can be taken once it has come in, as often as it was counted", () => {
  const queue = new RetransmissionQueue(usesOf({ 1: [2, 1] }));
  const first = Uint8Array.of(1, 2, 3);
  const second = Uint8Array.of(4);
  assert.equal(queue.take(1, 0), undefined);
  assert.equal(queue.arrived(1), 0);
  assert.equal(queue.add(1, first), 0);
  assert.equal(queue.take(1, 1), undefined, "the second one has not come in");
  assert.equal(queue.add(1, second), 1);
  assert.equal(queue.arrived(1), 2);
  assert.equal(queue.heldBytes, 4);
  assert.equal(queue.take(1, 1), second, "an earlier frame that waits holds nothing up");
  assert.equal(queue.take(1, 0), first);
  assert.equal(queue.heldBytes, 3, "freed with its last use only");
  assert.equal(queue.take(1, 0), first);
  assert.equal(queue.heldBytes, 0);
  assert.equal(queue.heldBytesMax, 4);
  assert.throws(() => queue.take(1, 0), /frame 0 of VM 1 was taken more often than recorded/);
});

Deno.test("frames that nobody received are numbered and not kept", () => {
  const queue = new RetransmissionQueue(usesOf({ 1: [0, 1] }));
  assert.equal(queue.add(1, new Uint8Array(100)), 0);
  assert.equal(queue.add(2, new Uint8Array(100)), 0, "a VM without any receiver");
  assert.equal(queue.heldBytesMax, 0);
  assert.throws(() => queue.take(1, 0), /more often/);
  assert.throws(() => queue.take(2, 0), /more often/);
  assert.equal(queue.take(2, 1), undefined);
  assert.equal(queue.add(1, Uint8Array.of(7)), 1);
  assert.equal(queue.add(1, new Uint8Array(100)), 2, "behind the last one that was counted");
  assert.equal(queue.heldBytes, 1);
});

const SENDERS = 3;

/** What each sender sends (lengths), what each receiver takes, in its recorded order. */
const traffic = fc.tuple(
  fc.array(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 12 }), {
    minLength: SENDERS,
    maxLength: SENDERS,
  }),
  fc.array(fc.array(fc.tuple(fc.nat(SENDERS - 1), fc.nat(11)), { maxLength: 20 }), {
    maxLength: 3,
  }),
).map(([lengths, wishes]) => ({
  frames: lengths.map((sizes, s) => sizes.map((size, n) => new Uint8Array(size).fill(s * 16 + n))),
  receivers: wishes.map((wish) => wish.filter(([s, n]) => n < lengths[s]!.length)),
}));

Deno.test("property: what a receiver gets does not depend on who is faster, and nothing is left", () =>
  fc.assert(
    fc.property(traffic, fc.infiniteStream(fc.nat(100)), ({ frames, receivers }, turns) => {
      const uses = frames.map((sent) => new Uint16Array(sent.length));
      for (const [s, n] of receivers.flat()) uses[s]![n]!++;
      const queue = new RetransmissionQueue(new Map(uses.map((counts, s) => [s + 1, counts])));
      const sent = frames.map(() => 0);
      const got = receivers.map((): Uint8Array[] => []);
      const left = uses.map((counts) => [...counts]);
      let heldMax = 0;
      const held = () =>
        frames.flatMap((all, s) => all.filter((_, n) => n < sent[s]! && left[s]![n]! > 0))
          .reduce((sum, frame) => sum + frame.length, 0);
      const actors = [
        ...frames.map((all, s) => () => {
          if (sent[s] === all.length) return false;
          assert.equal(queue.add(s + 1, all[sent[s]!]!), sent[s]);
          sent[s]!++;
          return true;
        }),
        ...receivers.map((wish, r) => () => {
          const next = wish[got[r]!.length];
          if (next === undefined) return false;
          const [s, n] = next;
          const frame = queue.take(s + 1, n);
          assert.equal(frame, n < sent[s]! ? frames[s]![n] : undefined);
          if (frame === undefined) return false;
          got[r]!.push(frame);
          left[s]![n]!--;
          return true;
        }),
      ];
      // Whoever's turn it is, the others follow: some actor always gets on until all is done.
      for (let moved = true; moved;) {
        const first = turns.next().value % actors.length;
        moved = [...actors.slice(first), ...actors.slice(0, first)].some((act) => act());
        heldMax = Math.max(heldMax, held());
        assert.equal(queue.heldBytes, held());
        assert.equal(queue.heldBytesMax, heldMax);
      }
      assert.deepEqual(got, receivers.map((wish) => wish.map(([s, n]) => frames[s]![n]!)));
      assert.equal(queue.heldBytes, 0);
    }),
    { numRuns: 300 },
  ));
