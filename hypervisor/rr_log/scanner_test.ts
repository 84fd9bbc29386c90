import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../../lib/errors.ts";
import { concat } from "../../lib/bytes/concat.ts";
import { arbitraryEvent, encodeAll } from "./arbitrary_events.ts";
import { decodeEvents, encodeEvent, type RrEvent } from "./events.ts";
import { FRAME_HEADER_BYTES, type LogPlace, RrLogScanner, type RrLogSink } from "./scanner.ts";
import { ARRAY_BYTES_MAX, FRAME_BYTES_MAX, tableForQemu } from "./tables.ts";

const table = tableForQemu("7.2.22");
const golden = await Deno.readFile(new URL("testdata/seabios-7.2.rrlog", import.meta.url));
const VERSION_WORD = Uint8Array.of(0x00, 0xe0, 0x20, 0x0c);
const END = Uint8Array.of(39);

/** Copies what a scanner reports; `bytes` is everything in order, spans and frames alike. */
class Collector implements RrLogSink {
  readonly parts: Uint8Array[] = [];
  readonly frames: { at: number; payload: Uint8Array; icount: number }[] = [];
  /** Where spans ended, and the instruction count reported there. */
  readonly spans: { end: number; icount: number }[] = [];
  #at = 0;

  events(bytes: Uint8Array, start: number, end: number, icount: number): void {
    assert.ok(start < end);
    this.#take(bytes.slice(start, end));
    this.spans.push({ end: this.#at, icount });
  }

  frame(header: Uint8Array, payload: Uint8Array, icount: number): void {
    assert.equal(header.length, FRAME_HEADER_BYTES);
    this.frames.push({ at: this.#at, payload: payload.slice(), icount });
    this.#take(header.slice());
    this.#take(payload.slice());
  }

  get bytes(): Uint8Array {
    return concat(this.parts);
  }

  #take(part: Uint8Array): void {
    this.parts.push(part);
    this.#at += part.length;
  }
}

/** Chunks of `sizes`, over and over. */
function* chunksOf(bytes: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

interface Scanned {
  readonly sink: Collector;
  readonly scanner: RrLogScanner;
  readonly complete: boolean;
}

function scan(log: Uint8Array, sizes: readonly number[] = [log.length || 1]): Scanned {
  const sink = new Collector();
  const scanner = new RrLogScanner(table, sink, "test log");
  for (const chunk of chunksOf(log, sizes)) {
    // A copy that is wiped afterwards: what the scanner keeps must be its own.
    const lent = chunk.slice();
    scanner.push(lent);
    lent.fill(0xff);
  }
  return { sink, scanner, complete: scanner.finish() };
}

/** What a scan must find, by the decoder. */
function expectedOf(log: Uint8Array) {
  const events = [...decodeEvents(log, table, "test log")];
  const icountAt = new Map(events.map((event) => [event.offset, event.icount]));
  return { events, last: events.at(-1), icountAt };
}

function checkAgainstDecoder(log: Uint8Array, { sink, scanner }: Scanned): void {
  const { events, last } = expectedOf(log);
  const frames = events.filter((event) => event.type === "frame");
  assert.equal(scanner.events, events.length);
  assert.equal(scanner.frames, frames.length);
  assert.equal(scanner.icount, last?.icount ?? 0);
  assert.equal(scanner.ended, last?.type === "end");
  const bytes = sink.bytes;
  assert.equal(scanner.offset, bytes.length);
  assert.deepEqual(bytes, log.slice(0, bytes.length));
  assert.deepEqual(
    sink.frames,
    frames.map(({ offset, payload, icount }) => ({ at: offset, payload, icount })),
  );
  const counts = new Map<number, number>();
  events.forEach((event, i) => counts.set(events[i + 1]?.offset ?? bytes.length, event.icount));
  for (const { end, icount } of sink.spans) assert.equal(icount, counts.get(end));
}

function throwsFormatError(work: () => unknown, offset: number, text = ""): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.equal(error.file, "test log");
    assert.equal(error.offset, offset, error.message);
    assert.ok(error.message.includes(text), error.message);
    return true;
  });
}

Deno.test("the golden log gives the same for every chunk size", () => {
  for (const sizes of [[1], [2], [3], [5], [7], [4096], [golden.length]]) {
    const scanned = scan(golden, sizes);
    assert.equal(scanned.complete, true);
    assert.equal(scanned.sink.frames.length, 2);
    checkAgainstDecoder(golden, scanned);
  }
});

Deno.test("the golden log gives the same for random chunk sizes", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(sizes, (sizes) => {
      const scanned = scan(golden, sizes);
      assert.equal(scanned.complete, true);
      checkAgainstDecoder(golden, scanned);
    }),
    { numRuns: 50 },
  );
});

Deno.test("a chunk without frames is one span", () => {
  const { sink } = scan(golden);
  // Three spans around two frames; END belongs to the last, the version word to none.
  assert.equal(sink.spans.length, 3);
  assert.equal(sink.spans.at(-1)!.end, golden.length - 4);
});

Deno.test("every truncation of the golden log is recognised as cut off", () => {
  for (let length = 0; length < golden.length; length++) {
    const { complete, scanner } = scan(golden.subarray(0, length), [997]);
    assert.equal(complete, false, `${length} bytes`);
    assert.ok(scanner.offset <= length);
  }
});

Deno.test("a bad kind byte is found at its offset, in any chunks", () => {
  const { events } = expectedOf(golden);
  for (const { offset } of events.filter((_, i) => i % 37 === 0)) {
    for (const kind of [40, 200, 255]) {
      const damaged = golden.slice();
      damaged[offset] = kind;
      for (const sizes of [[1], [7], [golden.length]]) {
        throwsFormatError(() => scan(damaged, sizes), offset, `event kind ${kind} `);
      }
    }
  }
});

Deno.test("an impossible run length is found at its offset", () => {
  for (const count of [[0, 0, 0, 0], [0x80, 0, 0, 0], [0xff, 0xff, 0xff, 0xff]]) {
    for (const size of [1, 2, 100]) {
      const log = Uint8Array.of(37, 0, 0, 0, 0, 5, 0, ...count, 37);
      throwsFormatError(() => scan(log, [size]), 6, "an instruction run of");
    }
  }
});

Deno.test("arrays have bounds, and the largest ones pass", () => {
  const frame = encodeEvent(
    { kind: 9, type: "frame", id: 0, flags: 0, payload: new Uint8Array(FRAME_BYTES_MAX) },
    table,
  );
  const { sink, complete } = scan(concat([frame, END, VERSION_WORD]), [1000]);
  assert.equal(complete, true);
  assert.equal(sink.frames[0]!.payload.length, FRAME_BYTES_MAX);
  const tooLong = frame.slice(0, 10);
  new DataView(tooLong.buffer).setUint32(6, FRAME_BYTES_MAX + 1);
  for (const size of [1, 10]) throwsFormatError(() => scan(tooLong, [size]), 0, "at most");

  const random = encodeEvent(
    { kind: 27, type: "random", result: 0, bytes: new Uint8Array(ARRAY_BYTES_MAX) },
    table,
  );
  assert.equal(scan(concat([random, END, VERSION_WORD]), [65536]).complete, true);
  new DataView(random.buffer).setUint32(5, ARRAY_BYTES_MAX + 1);
  throwsFormatError(() => scan(random.subarray(0, 9), [1]), 0, "at most");
});

Deno.test("an empty chunk changes nothing", () => {
  const scanner = new RrLogScanner(table, new Collector(), "test log");
  for (const byte of golden) {
    scanner.push(new Uint8Array(0));
    scanner.push(Uint8Array.of(byte));
  }
  scanner.push(new Uint8Array(0));
  assert.equal(scanner.finish(), true);
});

Deno.test("the version word decides how a log ends", () => {
  assert.equal(scan(END).complete, false);
  assert.equal(scan(concat([END, VERSION_WORD.subarray(0, 3)])).complete, false);
  for (const size of [1, 2, 3, 4, 5]) {
    assert.equal(scan(concat([END, VERSION_WORD]), [size]).complete, true);
    throwsFormatError(
      () => scan(concat([END, Uint8Array.of(0, 0xe0, 0x20, 0x0a)]), [size]),
      1,
      "0xe0200a",
    );
    throwsFormatError(
      () => scan(concat([END, VERSION_WORD, Uint8Array.of(1, 2)]), [size]),
      5,
      "2 bytes follow",
    );
  }
});

Deno.test("any sequence of events scans as it decodes", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(fc.array(arbitraryEvent(table), { maxLength: 40 }), sizes, (events, sizes) => {
      const log = concat([encodeAll(events, table), END, VERSION_WORD]);
      const scanned = scan(log, sizes);
      assert.equal(scanned.complete, true);
      checkAgainstDecoder(log, scanned);
    }),
    { numRuns: 300 },
  );
});

Deno.test("arbitrary bytes scan as they decode: the same events, the same error", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 200 }).map((b) => Uint8Array.from(b)),
  );
  fc.assert(
    fc.property(bytes, fc.integer({ min: 1, max: 50 }), (bytes, size) => {
      const scanner = new RrLogScanner(table, new Collector(), "test log");
      let failure: unknown;
      try {
        for (const chunk of chunksOf(bytes, [size])) scanner.push(chunk);
        scanner.finish();
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        failure = error;
      }
      let events = 0;
      let offset = 0;
      try {
        for (const event of decodeEvents(bytes, table, "test log")) {
          events++;
          offset = event.offset + encodeEvent(event, table).length;
        }
        assert.equal(failure, undefined);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        // The decoder refuses a cut-off event and a partial version word; the scanner waits.
        if (failure === undefined) assert.match(error.message, /cut off|bytes? follow/);
        else if (!scanner.ended) {
          assert.equal((failure as FormatError).message, error.message);
        }
      }
      if (failure === undefined) {
        assert.equal(scanner.events, events);
        assert.equal(scanner.offset, offset);
      }
    }),
    { numRuns: 3000 },
  );
});

/**
 * Runs of 10, 1, 20 and 5 instructions: at 10 a CHECKPOINT, at 11 an INTERRUPT after one, at 31 a
 * CHECKPOINT, and after 36 nothing more.
 */
const RUNS = Uint8Array.of(
  ...[0, 0, 0, 0, 10, 30],
  ...[0, 0, 0, 0, 1, 30, 1, 30],
  ...[0, 0, 0, 0, 20, 30],
  ...[0, 0, 0, 0, 5, 30],
);

function watching(scanner: RrLogScanner): [number, LogPlace][] {
  const answers: [number, LogPlace][] = [];
  scanner.onWatch = (icount, place) => answers.push([icount, place]);
  return answers;
}

Deno.test("watches tell inside, quiet and eventful apart, in any chunks", () => {
  const watched = [0, 1, 9, 10, 11, 12, 12, 30, 31, 32, 36, 37];
  for (const size of [1, 2, 3, 100]) {
    const scanner = new RrLogScanner(table, new Collector(), "test log");
    const answers = watching(scanner);
    for (const icount of watched) scanner.watch(icount);
    for (const chunk of chunksOf(RUNS, [size])) scanner.push(chunk);
    assert.deepEqual(answers, [
      [0, "quiet"],
      [1, "inside"],
      [9, "inside"],
      [10, "quiet"],
      [11, "eventful"],
      [12, "inside"],
      [12, "inside"],
      [30, "inside"],
      [31, "quiet"],
      [32, "inside"],
    ]);
  }
});

Deno.test("a received frame makes its count eventful", () => {
  const frame = [9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xaa];
  const log = Uint8Array.of(0, 0, 0, 0, 4, ...frame, 30, 0, 0, 0, 0, 4);
  const scanner = new RrLogScanner(table, new Collector(), "test log");
  const answers = watching(scanner);
  scanner.watch(4);
  scanner.push(log);
  assert.deepEqual(answers, [[4, "eventful"]]);
});

Deno.test("a watch is answered as soon as the log has gone on", () => {
  const scanner = new RrLogScanner(table, new Collector(), "test log");
  const answers = watching(scanner);
  scanner.watch(5);
  scanner.watch(10);
  scanner.push(RUNS.subarray(0, 4));
  assert.deepEqual(answers, []);
  scanner.push(RUNS.subarray(4, 6));
  assert.deepEqual(answers, [[5, "inside"]]);
  scanner.push(RUNS.subarray(6, 11));
  assert.deepEqual(answers, [[5, "inside"], [10, "quiet"]]);
});

Deno.test("late watches are answered from the last run, earlier ones as eventful", () => {
  const scanner = new RrLogScanner(table, new Collector(), "test log");
  const answers = watching(scanner);
  scanner.push(RUNS);
  for (const icount of [5, 12, 31, 32, 36]) scanner.watch(icount);
  assert.deepEqual(answers, [[5, "eventful"], [12, "eventful"], [31, "quiet"], [32, "inside"]]);
});

Deno.test("a watch may be set from a callback, and must rise", () => {
  const scanner = new RrLogScanner(table, new Collector(), "test log");
  const answers: [number, LogPlace][] = [];
  scanner.onWatch = (icount, place) => {
    answers.push([icount, place]);
    if (icount === 5) scanner.watch(20);
  };
  scanner.watch(5);
  assert.throws(() => scanner.watch(4), /watches must rise/);
  scanner.push(RUNS);
  assert.deepEqual(answers, [[5, "inside"], [20, "inside"]]);
});

Deno.test("watches over the golden log agree with its runs", () => {
  const { events } = expectedOf(golden);
  const last = events.at(-1)!.icount;
  const scanner = new RrLogScanner(table, new Collector(), "test log");
  const answers = watching(scanner);
  const watched = new Set<number>();
  for (const { icount } of events) for (const n of [icount - 1, icount, icount + 1]) watched.add(n);
  const rising = [...watched].filter((n) => n > 0).sort((a, b) => a - b);
  for (const icount of rising) scanner.watch(icount);
  for (const chunk of chunksOf(golden, [61])) scanner.push(chunk);
  assert.deepEqual(
    answers,
    rising.filter((n) => n < last).map((n) => [n, placeIn(events, n)]),
  );
});

/** What the decoded events say of a count. */
function placeIn(events: readonly RrEvent[], icount: number): LogPlace {
  const there = events.filter((event) => event.icount === icount);
  if (there.length === 0) return "inside";
  const changing = /^(INTERRUPT|EXCEPTION|ASYNC|SHUTDOWN|CHAR_READ|AUDIO|RANDOM|END)/;
  return there.some(({ name }) => changing.test(name)) ? "eventful" : "quiet";
}

Deno.test("a log that starts from a snapshot counts on from there", () => {
  const first = 5_000_000_000;
  const sink = new Collector();
  const scanner = new RrLogScanner(table, sink, "test log", first);
  assert.equal(scanner.icount, first);
  const places: [number, LogPlace][] = [];
  scanner.onWatch = (icount, place) => places.push([icount, place]);
  scanner.watch(first);
  scanner.watch(first + 3);
  scanner.push(Uint8Array.of(1, 0, 0, 0, 0, 7)); // INTERRUPT, INSTRUCTION 7
  assert.equal(scanner.icount, first + 7);
  assert.equal(sink.spans.at(-1)!.icount, first + 7);
  assert.deepEqual(places, [[first, "eventful"], [first + 3, "inside"]]);
});
