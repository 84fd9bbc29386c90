/** From recorded hybrid logs back to the rr streams that replays are fed with. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../errors.ts";
import { HybridLogReader } from "../recording/hybrid_log_reader.ts";
import { HybridLogWriter } from "../recording/hybrid_log_writer.ts";
import {
  inTempDir,
  OPTIONS,
  SMALL,
  someItems,
  VM,
} from "../recording/testdata/hybrid_log_fixture.ts";
import {
  arbitraryItems,
  rrHeader,
  type TraceItem,
  writeItems,
} from "../recording/testdata/item_trace.ts";
import type { Piece } from "./replay_feed.ts";
import { countUses, type LogCensus, takeCensus } from "./log_census.ts";
import type { RunReader } from "./ports.ts";
import { HybridSource } from "./replay_source.ts";

const PREAMBLE = Uint8Array.of(0, 0xe0, 0x20, 0x0c);
const ENDING = Uint8Array.of(12, 39);
/** The items of these tests count an instruction a byte. */
const readRuns: RunReader = (events, visit) => void visit(events.length, events.length);

/** Opens the log in `dir` twice: once to count, once to replay. */
function openLog(dir: string): { census: LogCensus; source: HybridSource; close(): void } {
  const counted = HybridLogReader.open(dir, VM);
  const census = takeCensus(counted, readRuns);
  counted.close();
  const reader = HybridLogReader.open(dir, VM);
  const source = new HybridSource(reader, census, { preamble: PREAMBLE, ending: ENDING });
  return { census, source, close: () => reader.close() };
}

/** A stream as hex, frames that others have to send as `<source/number/length>`. */
function readStream(source: HybridSource): string {
  const shown = (piece: Piece) =>
    piece.kind === "bytes"
      ? piece.bytes.toHex()
      : piece.kind === "epoch"
      ? ""
      : `<${piece.source}/${piece.sendNumber}/${piece.length}>`;
  const blocks: Piece[][] = [];
  for (let block = source.pieces(); block !== undefined; block = source.pieces()) {
    blocks.push(block);
  }
  assert.equal(source.pieces(), undefined, "it stays at its end");
  return blocks.flat().map(shown).join(""); // late: pieces must outlive the reader's buffers
}

const lengthOf = (header: string) => parseInt(header.slice(-8), 16);

/** The stream that `items` were recorded from, in the form of {@link readStream}. */
function streamOf(items: readonly TraceItem[]): string {
  return items.map((item) => {
    if (item.item === "events") return item.bytes;
    if (item.item === "frame") return item.header + item.payload;
    if (item.item !== "reference") return "";
    return `${item.header}<${item.source}/${item.number}/${lengthOf(item.header)}>`;
  }).join("");
}

function sendsOf(source: HybridSource) {
  const sends = [];
  for (let send = source.nextSend(); send !== undefined; send = source.nextSend()) {
    sends.push({ length: send.length, hash: send.hash.toHex(), head: send.head.toHex() });
  }
  return sends;
}

const recordedSends = (items: readonly TraceItem[]) =>
  items.flatMap((item) =>
    item.item === "send" ? [{ length: item.length, hash: item.hash, head: item.head }] : []
  );

Deno.test("property: the rebuilt rr stream is the recorded one, byte for byte", () =>
  inTempDir((root) => {
    let run = 0;
    const blockBytes = fc.integer({ min: 1, max: 2000 });
    fc.assert(
      fc.property(arbitraryItems, blockBytes, fc.boolean(), (items, blockBytes, complete) => {
        const dir = `${root}/${run++}`;
        const writer = new HybridLogWriter(dir, { ...OPTIONS, blockBytes, segmentBytes: 3000 });
        writeItems(writer, items);
        const { rrLogBytes, framesSent, icount } = writer.close(complete);
        const { census, source, close } = openLog(dir);
        const stream = readStream(source);
        const ending = complete ? "" : ENDING.toHex();
        assert.equal(stream, PREAMBLE.toHex() + streamOf(items) + ending);
        assert.deepEqual(sendsOf(source), recordedSends(items));
        assert.equal(census.bytes, rrLogBytes);
        assert.equal(census.sendTimes.length, framesSent);
        assert.equal(census.icount, icount);
        const given = PREAMBLE.length + rrLogBytes + (complete ? 0 : ENDING.length);
        assert.equal(source.shareAt(given), icount === 0 ? 0 : 1);
        assert.equal(source.sendsTotal, framesSent);
        assert.equal(source.complete, complete);
        const checks = items.flatMap((item) => item.item === "check" ? [item.check] : []);
        assert.deepEqual(
          census.checks,
          checks.sort((a, b) => a.icount - b.icount),
        );
        const references = items.filter((item) => item.item === "reference");
        const { sources, numbers, lamports } = census.receives;
        const named = [...sources].flatMap((source, i) =>
          source === 0 ? [] : [[source, numbers[i], lamports[i]]]
        );
        assert.deepEqual(named, references.map((r) => [r.source, r.number, r.lamport]));
        const epochs = items.filter((item) => item.item === "epoch");
        assert.deepEqual(
          census.cuts.map(({ epoch, icount }) => ({ item: "epoch", epoch, icount })),
          epochs,
        );
        close();
        Deno.removeSync(dir, { recursive: true });
      }),
      { numRuns: 60 },
    );
  }));

Deno.test("sends are there as soon as the block is that holds them", () =>
  inTempDir((dir) => {
    const items = someItems(40);
    const writer = new HybridLogWriter(dir, SMALL);
    writeItems(writer, items);
    const { icount } = writer.close(true);
    const { source, close } = openLog(dir);
    assert.equal(source.nextSend(), undefined, "nothing has been read");
    const sends = [];
    const places: number[] = [];
    const shares: number[] = [];
    let given = 0;
    for (let pieces = source.pieces(); pieces !== undefined; pieces = source.pieces()) {
      sends.push(...sendsOf(source));
      places.push(source.icountNear);
      shares.push(source.shareAt(given));
      for (const piece of pieces) {
        if (piece.kind !== "epoch") {
          given += piece.kind === "bytes" ? piece.bytes.length : piece.length;
        }
      }
    }
    assert.deepEqual(sends, recordedSends(items));
    assert.ok(places.length > 10, "several blocks");
    assert.deepEqual(places, places.toSorted((a, b) => a - b));
    assert.ok(places.at(-1)! <= icount && places.at(-1)! > icount / 2);
    assert.deepEqual(shares.slice(1), places.slice(1).map((place) => place / icount));
    assert.equal(source.shareAt(given), 1);
    close();
  }));

Deno.test("a log that was cut off is closed by the given ending, wherever it was cut", () =>
  inTempDir((root) => {
    const items = someItems(5);
    const writer = new HybridLogWriter(`${root}/whole`, { ...OPTIONS, blockBytes: 100 });
    writeItems(writer, items);
    const { segments } = writer.close(true);
    assert.equal(segments.length, 1);
    const { file } = segments[0]!;
    const path = `${root}/whole/${file}`;
    const bytes = Deno.statSync(path).size;
    const preamble = PREAMBLE.toHex();
    const stream = preamble + streamOf(items);
    let last = stream.length;
    let cutOff = 0;
    for (let length = bytes; length >= 0; length--) {
      Deno.truncateSync(path, length);
      const { census, source, close } = openLog(`${root}/whole`);
      const rebuilt = readStream(source);
      const known = rebuilt.slice(0, census.complete ? undefined : -ENDING.length * 2);
      assert.equal(rebuilt, known + (census.complete ? "" : ENDING.toHex()));
      assert.ok(stream.startsWith(known), `cut at ${length}`);
      assert.ok(known.length <= last, "a shorter file never gives more");
      assert.ok(length < bytes || known === stream);
      last = known.length;
      if (!census.complete) cutOff++;
      close();
    }
    assert.equal(last, preamble.length, "of nothing comes nothing");
    assert.ok(cutOff > 300, `${cutOff} of ${bytes} were cut off`);
  }));

Deno.test("damage is found by the census, before any VM starts", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, SMALL);
    writeItems(writer, someItems(20));
    const { segments } = writer.close(true);
    const path = `${dir}/${segments[1]!.file}`;
    const bytes = Deno.readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    Deno.writeFileSync(path, bytes);
    assert.throws(() => openLog(dir), FormatError);
  }));

Deno.test("uses are added up over all receivers", () =>
  inTempDir((root) => {
    const received = [[[1, 0], [1, 4], [3, 2]], [[1, 4]], []];
    const censuses = received.map((frames, i) => {
      const writer = new HybridLogWriter(`${root}/${i}`, OPTIONS);
      const header = rrHeader(9, 0, 0, 60);
      writeItems(
        writer,
        frames.map(([source, number]) => {
          return { item: "reference", header, source: source!, number: number!, lamport: 1n };
        }),
      );
      writer.close(true);
      const { census, close } = openLog(`${root}/${i}`);
      close();
      return [i + 1, census] as const;
    });
    const position = (receives: number) => ({ icount: 0, receives, sends: 0 });
    assert.deepEqual(
      countUses(new Map(censuses), new Map([[1, position(2)], [2, position(1)]])),
      new Map([[3, Uint16Array.of(0, 0, 1)]]),
      "from a position on",
    );
    assert.deepEqual(
      countUses(new Map(censuses)),
      new Map([[1, Uint16Array.of(1, 0, 0, 0, 2)], [3, Uint16Array.of(0, 0, 1)]]),
    );
    assert.deepEqual(countUses(new Map()), new Map());
  }));
