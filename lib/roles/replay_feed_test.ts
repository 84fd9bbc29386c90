/** The feed of a replay: what is offered when, under every split of the writes. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type Piece, ReplayFeed } from "./replay_feed.ts";

const bytes = (...values: number[]): Piece => ({ kind: "bytes", bytes: Uint8Array.from(values) });
const frame = (source: number, sendNumber: number, length: number): Piece => ({
  kind: "frame",
  source,
  sendNumber,
  length,
});

/** A feed over `blocks`, with a FIFO that takes everything and frames that are added by hand. */
function feedOf(blocks: Piece[][]) {
  const written: number[] = [];
  const frames = new Map<string, Uint8Array>();
  let asked = 0;
  const fifo = { write: (part: Uint8Array): number | "again" | "closed" => part.length };
  const feed = new ReplayFeed(
    () => blocks[asked++],
    (part) => {
      const went = fifo.write(part);
      if (typeof went === "number") written.push(...part.subarray(0, went));
      return went;
    },
    (source, sendNumber) => frames.get(`${source}/${sendNumber}`),
  );
  return { feed, fifo, frames, written, asked: () => asked };
}

Deno.test("everything up to the header of a frame is offered before its bytes are waited for", () => {
  const { feed, frames, written } = feedOf([
    [bytes(1, 2), bytes(9, 0, 0, 2), frame(3, 7, 2), bytes(5)],
  ]);
  assert.equal(feed.awaited, undefined);
  assert.equal(feed.pump(), "waiting");
  assert.deepEqual(written, [1, 2, 9, 0, 0, 2]);
  assert.equal(feed.bytesFed, 6);
  const { source, sendNumber } = feed.awaited!;
  assert.deepEqual({ source, sendNumber }, { source: 3, sendNumber: 7 });
  assert.equal(feed.pump(), "waiting", "still");
  frames.set("3/7", Uint8Array.of(70, 71));
  assert.equal(feed.pump(), "done");
  assert.deepEqual(written, [1, 2, 9, 0, 0, 2, 70, 71, 5]);
  assert.equal(feed.bytesFed, 9);
  assert.equal(feed.awaited, undefined);
  assert.equal(feed.pump(), "done", "for good");
});

Deno.test("a full FIFO keeps the log on disk: no block is read before the last one is written", () => {
  const { feed, fifo, written, asked } = feedOf([[bytes(1, 2, 3)], [], [bytes(4)]]);
  fifo.write = () => "again";
  assert.equal(feed.pump(), "full");
  assert.equal(feed.pump(), "full");
  assert.equal(asked(), 1);
  let room = 2;
  fifo.write = (part) => {
    const went = Math.min(room, part.length);
    room -= went;
    return went === 0 ? "again" : went;
  };
  assert.equal(feed.pump(), "full");
  assert.deepEqual(written, [1, 2]);
  assert.equal(asked(), 1);
  room = 100;
  assert.equal(feed.pump(), "done");
  assert.deepEqual(written, [1, 2, 3, 4]);
  assert.equal(asked(), 4);
});

Deno.test("a frame is taken once, however its bytes are split", () => {
  let taken = 0;
  const written: number[] = [];
  let turn = 0;
  const feed = new ReplayFeed(
    () => turn === 0 ? [frame(1, 0, 3)] : undefined,
    (part) => {
      if (turn++ % 2 === 0) return "again";
      written.push(part[0]!);
      return 1;
    },
    () => {
      taken++;
      return Uint8Array.of(7, 8, 9);
    },
  );
  for (let i = 0; i < 3; i++) assert.equal(feed.pump(), "full");
  assert.equal(feed.pump(), "done");
  assert.deepEqual(written, [7, 8, 9]);
  assert.equal(taken, 1);
});

Deno.test("a frame that cannot be the one that was received is not written", () => {
  const { feed, frames, written } = feedOf([[
    bytes(1),
    frame(3, 7, 60),
    frame(3, 8, 61),
    bytes(2),
  ]]);
  frames.set("3/7", new Uint8Array(42).fill(7));
  frames.set("3/8", new Uint8Array(60).fill(8));
  assert.equal(feed.pump(), "misfit");
  const padding = new Array<number>(18).fill(0);
  assert.deepEqual(written, [1, ...new Array<number>(42).fill(7), ...padding], "QEMU padded it");
  assert.deepEqual(feed.misfit, {
    kind: "frame",
    source: 3,
    sendNumber: 8,
    length: 61,
    sent: frames.get("3/8"),
  });
  assert.equal(feed.pump(), "misfit", "for good");
  assert.equal(feed.awaited, undefined);
  assert.equal(written.length, 61);
});

Deno.test("a QEMU that has gone ends the feed", () => {
  const { feed, fifo, written, asked } = feedOf([[bytes(1)], [bytes(2)], [bytes(3)]]);
  fifo.write = (part) => part[0] === 2 ? "closed" : part.length;
  assert.equal(feed.pump(), "closed");
  fifo.write = (part) => part.length;
  assert.equal(feed.pump(), "closed", "for good");
  assert.equal(feed.state, "closed");
  assert.deepEqual(written, [1]);
  assert.equal(asked(), 2);
});

Deno.test("what the log's reader throws comes through, and nothing of its block is written", () => {
  const feed = new ReplayFeed(
    () => {
      throw new Error("block 7 is damaged");
    },
    (part) => part.length,
    () => undefined,
  );
  assert.throws(() => feed.pump(), /block 7 is damaged/);
  assert.equal(feed.bytesFed, 0);
});

/** Blocks of pieces; the frames are numbered in the order of the stream. */
const blocks = fc.array(
  fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant("bytes"), bytes: fc.uint8Array({ maxLength: 20 }) }),
      fc.record({ kind: fc.constant("frame"), bytes: fc.uint8Array({ maxLength: 20 }) }),
    ),
    { maxLength: 8 },
  ),
  { maxLength: 5 },
);

Deno.test("property: the stream is whole and in order, whatever the writes and arrivals", () =>
  fc.assert(
    fc.property(blocks, fc.infiniteStream(fc.nat(25)), (parts, chance) => {
      const next = () => chance.next().value as number;
      const frames: Uint8Array[] = [];
      const places: number[] = []; // where in the stream each frame starts
      let length = 0;
      const pieces = parts.map((block) =>
        block.map((part): Piece => {
          const at = length;
          length += part.bytes.length;
          if (part.kind === "bytes") return { kind: "bytes", bytes: part.bytes };
          places.push(at);
          return frame(1, frames.push(part.bytes) - 1, part.bytes.length);
        })
      );
      let arrived = 0;
      let block = 0;
      const written: number[] = [];
      const feed = new ReplayFeed(
        () => pieces[block++],
        (part) => {
          const room = next();
          if (room === 0 && part.length > 0) return "again";
          const went = Math.min(room, part.length);
          written.push(...part.subarray(0, went));
          return went;
        },
        (_source, sendNumber) => sendNumber < arrived ? frames[sendNumber] : undefined,
      );
      let state = feed.state;
      for (let turns = 0; state !== "done"; turns++) {
        assert.ok(turns < 5000, `stands still: ${state}`);
        state = feed.pump();
        assert.equal(feed.bytesFed, written.length);
        assert.equal(feed.awaited?.sendNumber, state === "waiting" ? arrived : undefined);
        if (state !== "waiting") continue;
        assert.equal(written.length, places[arrived], "all that stands before it was offered");
        if (next() > 12) arrived++;
      }
      assert.deepEqual(written, parts.flat().flatMap((part) => [...part.bytes]));
    }),
    { numRuns: 300 },
  ));

Deno.test("a frame that is written in part is under way, not lost", () => {
  const { feed, fifo, frames } = feedOf([[frame(3, 7, 3), frame(3, 8, 1)]]);
  frames.set("3/7", Uint8Array.of(1, 2, 3));
  let room = 2;
  fifo.write = (part) => {
    const went = Math.min(room, part.length);
    room -= went;
    return went === 0 ? "again" : went;
  };
  assert.equal(feed.recentFrame(3, 7), undefined, "its sender's queue has it");
  assert.equal(feed.pump(), "full");
  assert.deepEqual(feed.recentFrame(3, 7), Uint8Array.of(1, 2, 3));
  assert.equal(feed.recentFrame(3, 8), undefined);
  room = 1;
  assert.equal(feed.pump(), "waiting");
  assert.deepEqual(feed.recentFrame(3, 7), Uint8Array.of(1, 2, 3), "and behind it");
});
