/** Hybrid logs as they should be: written, read back, seeked in. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ClusterrrError } from "../errors.ts";
import { segmentName } from "./hybrid_log.ts";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { HybridLogWriter } from "./hybrid_log_writer.ts";
import { decodeIndex } from "./segment_layout.ts";
import {
  blocksOf,
  indexOffset,
  inTempDir,
  OPTIONS,
  SMALL,
  someItems,
  VM,
} from "./testdata/hybrid_log_fixture.ts";
import {
  arbitraryItems,
  assertSameLog,
  ordered,
  readItems,
  rrHeader,
  type TraceItem,
  TraceVisitor,
  writeItems,
} from "./testdata/item_trace.ts";

Deno.test("a log comes back as it was written, with its totals", () =>
  inTempDir((dir) => {
    const items = someItems(40);
    const writer = new HybridLogWriter(`${dir}/vms/web`, SMALL);
    writeItems(writer, items);
    const totals = writer.close(true);
    const { items: read, ending } = readItems(
      HybridLogReader.open(`${dir}/vms/web`, { ...VM, closed: true }),
    );
    assertSameLog(read, [...items, { item: "end", complete: true, icount: totals.icount }]);
    assert.equal(ending.complete, true);
    assert.equal(ending.reason, "complete");
    const eventBytes = ordered(items).reduce(
      (sum, item) => sum + (item.item === "events" ? item.bytes.length / 2 : 0),
      0,
    );
    const { segments, storedBytes, hybridBytes, ...rest } = totals;
    assert.deepEqual(rest, {
      rrLogBytes: eventBytes + 40 * (10 + 60) + 40 * (10 + 5),
      framesInternal: 40,
      framesExternal: 40,
      framesUnmatched: 0,
      framesSent: 40,
      checks: 8,
      epochs: 13,
      complete: true,
      closed: true,
      icount: eventBytes,
    });
    assert(segments.length > 3);
    assert(hybridBytes > eventBytes);
    let sum = 0;
    for (const [i, { file, bytes }] of segments.entries()) {
      assert.equal(file, segmentName(i));
      assert.equal(bytes, Deno.statSync(`${dir}/vms/web/${file}`).size);
      sum += bytes;
    }
    assert.equal(storedBytes, sum);
    assert.equal(writer.storedBytes, sum);
    assert.equal(writer.close(false), totals);
    assert.throws(() => writer.events(new Uint8Array(1), 0, 1, 1), /closed/);
  }));

Deno.test("property: read is the inverse of write, over many blocks and segments", () =>
  inTempDir((dir) => {
    let run = 0;
    const sizes = fc.tuple(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 4000 }));
    fc.assert(fc.property(
      arbitraryItems,
      sizes,
      fc.boolean(),
      (items, [blockBytes, segmentBytes], complete) => {
        const logDir = `${dir}/${run++}`;
        const writer = new HybridLogWriter(logDir, { ...OPTIONS, blockBytes, segmentBytes });
        writeItems(writer, items);
        const totals = writer.close(complete);
        const log = readItems(HybridLogReader.open(logDir, { ...VM, closed: true }));
        assertSameLog(log.items, [...items, { item: "end", complete, icount: totals.icount }]);
        assert.equal(log.ending.complete, complete);
        Deno.removeSync(logDir, { recursive: true });
      },
    ));
  }));

Deno.test("an empty log", () =>
  inTempDir((dir) => {
    const totals = new HybridLogWriter(dir, OPTIONS).close(false);
    const { items, ending } = readItems(HybridLogReader.open(dir, VM));
    assert.deepEqual(items, [{ item: "end", complete: false, icount: 0 }]);
    assert.equal(ending.complete, false);
    assert.equal(ending.reason, "closed early");
    assert.equal(totals.rrLogBytes, 0);
  }));

Deno.test("more rr headers than one block can name, and a frame larger than a block", () =>
  inTempDir((dir) => {
    const items: TraceItem[] = [];
    for (let i = 0; i < 100; i++) {
      const header = rrHeader(9, i, i * 0x0101_0101, 60);
      items.push({ item: "reference", header, source: 1, number: i, lamport: 0n });
    }
    const payload = "5a".repeat(200_000);
    const header = rrHeader(9, 0, 0, 200_000);
    items.push({ item: "frame", header, payload, lamport: 1n, origin: "unmatched" });
    const writer = new HybridLogWriter(dir, { ...OPTIONS, blockBytes: 64 << 10 });
    writeItems(writer, items);
    assert.equal(writer.close(true).framesUnmatched, 1);
    const log = readItems(HybridLogReader.open(dir, VM));
    assertSameLog(log.items, [...items, { item: "end", complete: true, icount: 0 }]);
    assert.equal(log.blocks, 5); // 32 + 32 + 32 headers, 4 and the frame, the end
  }));

Deno.test("flush makes what was written readable at once", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, OPTIONS);
    const items = someItems(3);
    writeItems(writer, items);
    assert.deepEqual(readItems(HybridLogReader.open(dir, VM)).items, []);
    writer.flush();
    writer.flush();
    const { items: read, blocks, ending } = readItems(HybridLogReader.open(dir, VM));
    assertSameLog(read, items);
    assert.equal(blocks, 1);
    assert.equal(ending.complete, false);
    assert.equal(ending.reason, "cut off: it ends without an index");
    writer.close(true);
  }));

Deno.test("seek goes on at the last block before an instruction count", () =>
  inTempDir((dir) => {
    seeksEverywhere(`${dir}/all-fresh`, 1);
    seeksEverywhere(`${dir}/some-fresh`, 250);
    seeksEverywhere(`${dir}/first-fresh`, Infinity);
  }));

function seeksEverywhere(dir: string, freshEveryBytes: number): void {
  const writer = new HybridLogWriter(dir, { ...SMALL, freshEveryBytes });
  writeItems(writer, someItems(40));
  const { icount } = writer.close(true);
  for (const closed of [true, false]) {
    if (!closed) { // without its index the last segment is walked
      const last = [...Deno.readDirSync(dir)].map(({ name }) => name).sort().at(-1)!;
      const bytes = Deno.readFileSync(`${dir}/${last}`);
      Deno.writeFileSync(`${dir}/${last}`, bytes.subarray(0, indexOffset(bytes)));
    }
    const blocks = blocksOf(dir);
    const all = blocks.at(-1)!.items;
    const reader = HybridLogReader.open(dir, { ...VM, closed });
    for (let target = 0; target <= icount + 10; target += 7) {
      reader.seek(target);
      const visitor = new TraceVisitor();
      assert(reader.nextBlock(visitor));
      const index = reader.block!.index;
      const expected = Math.max(0, blocks.findLastIndex((b) => b.firstIcount < target));
      assert.equal(index, expected, `instruction ${target}`);
      assert.equal(reader.block!.offset, blocks[index]!.offset);
    }
    reader.seek(icount >> 1);
    const rest = new TraceVisitor();
    if (closed) { while (reader.nextBlock(rest)); }
    else while (reader.nextBlock(rest));
    assert.deepEqual(rest.items, all.slice(-rest.items.length));
    assert(rest.items.length > 10 && rest.items.length < all.length - 10);
    reader.seek(0);
    const again = new TraceVisitor();
    while (reader.nextBlock(again));
    assert.deepEqual(again.items, all);
    reader.close();
  }
}

Deno.test("an index lists the blocks that a scan finds", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, SMALL);
    writeItems(writer, someItems(20));
    const { segments } = writer.close(true);
    const scanned = blocksOf(dir);
    const indexed = segments.flatMap(({ file }) => {
      const bytes = Deno.readFileSync(`${dir}/${file}`);
      const entries = decodeIndex(bytes.subarray(indexOffset(bytes) + 52, -24), file, 0);
      return entries.map(({ offset, firstIcount }) => ({ file, offset, firstIcount }));
    });
    assert.deepEqual(
      indexed,
      scanned.map(({ file, offset, firstIcount }) => ({
        file: file.slice(dir.length + 1),
        offset,
        firstIcount,
      })),
    );
  }));

Deno.test("a log is never overwritten", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, OPTIONS);
    assert.throws(
      () => new HybridLogWriter(dir, OPTIONS),
      (error) => error instanceof ClusterrrError && /exists already/.test(error.message),
    );
    writer.close(true);
  }));

Deno.test("wrong arguments throw at once", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, OPTIONS);
    const header = Uint8Array.fromHex(rrHeader(9, 0, 0, 4));
    assert.throws(() => writer.send(60, new Uint8Array(7), 0n), /hash of 7 bytes/);
    assert.throws(() => writer.frame(header, new Uint8Array(3), 0n, "external"), /3 bytes under/);
    assert.throws(() => writer.reference(header.subarray(1), 1, 0, 0n), /header of 9 bytes/);
    writer.close(false);
  }));

Deno.test("a log that starts from a snapshot: its first block starts at that count", () =>
  inTempDir((dir) => {
    const firstIcount = 5_000_000_000;
    const writer = new HybridLogWriter(`${dir}/vms/web`, { ...OPTIONS, firstIcount });
    writer.events(new Uint8Array(3), 0, 3, firstIcount + 9);
    assert.equal(writer.close(true).icount, firstIcount + 9);
    assert.equal(blocksOf(`${dir}/vms/web`)[0]!.firstIcount, firstIcount);
  }));
