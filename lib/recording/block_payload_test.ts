import assert from "node:assert/strict";
import fc from "fast-check";
import { zstdCompressSync } from "node:zlib";
import { ByteWriter } from "../bytes/byte_writer.ts";
import { FormatError } from "../errors.ts";
import { Column, COLUMNS } from "./block_columns.ts";
import { decodeBlock } from "./block_decoder.ts";
import { BlockEncoder } from "./block_encoder.ts";
import { ColumnUnpacker } from "./column_unpacker.ts";
import type { CheckPoint } from "./hybrid_log.ts";
import { HYBRID_LOG_VERSION } from "./segment_layout.ts";
import { TraceVisitor } from "./testdata/item_trace.ts";

const BLOCK = { index: 4, firstIcount: 100, sends: 10, receives: 20, file: "h.seg", offset: 500 };

/** The version whose columns are stored one by one. */
const BY_COLUMNS = 2;

function decode(
  payload: Uint8Array,
  rawBytes: number,
  version: number,
  unpacker = new ColumnUnpacker(),
  header = { number: BLOCK.index, goesOn: false },
) {
  const visitor = new TraceVisitor();
  const block = { ...header, rawBytes };
  const contents = decodeBlock(payload, block, version, BLOCK, unpacker, visitor);
  return { items: visitor.items, contents };
}

/** A payload of version 2 with these columns, hex, stored as they are. */
function payloadOf(columns: Partial<Record<keyof typeof Column, string>>): [Uint8Array, number] {
  const out = new ByteWriter();
  const bytes = Object.keys(Column).map((name) =>
    Uint8Array.fromHex(columns[name as keyof typeof Column] ?? "")
  );
  for (const { length } of bytes) {
    out.varint(length);
    if (length > 0) out.varint(length);
  }
  for (const column of bytes) out.bytes(column);
  return [out.view(), bytes.reduce((sum, { length }) => sum + length, 0)];
}

Deno.test("one block with every kind of item, exact bytes", () => {
  const encoder = new BlockEncoder(3);
  assert(encoder.empty);
  encoder.events(Uint8Array.fromHex("ff000000ffee"), 1, 4);
  const header = Uint8Array.fromHex("0900" + "00000001" + "0000003c");
  assert.equal(encoder.reference(header, 2, 5, 7n), 60);
  encoder.reference(header, 2, 6, 9n);
  encoder.events(Uint8Array.of(0xaa), 0, 1);
  encoder.send(300, Uint8Array.fromHex("0102030405060708"), 8n, Uint8Array.of(0xc0, 0xde));
  encoder.events(Uint8Array.of(0xbb), 0, 1);
  const other = Uint8Array.fromHex("0901" + "00000000" + "00000002");
  encoder.frame(other, Uint8Array.of(0xf0, 0x0d), 8n, "external");
  encoder.frame(header.with(9, 1), Uint8Array.of(0x11), 10n, "unmatched");
  encoder.end(true, 105);
  const out = new ByteWriter();
  const rawBytes = encoder.finish(out, true);
  assert(encoder.empty);
  const columns = payloadOf({
    items: "00" + "01" + "01" + "04" + "00" + "0a" + "03" + "0e",
    runs: "03" + "02" + "69",
    events: "000000" + "aabb",
    headers: "090000000001" + "090100000000",
    sources: "0202",
    numbers: "0a00",
    lengths: "3c3c0201",
    receiveTimes: "0e" + "04" + "01" + "04",
    frames: "f00d" + "11",
    sendLengths: "ac02",
    sendTimes: "10",
    sendHashes: "0102030405060708",
    headLengths: "02",
    heads: "c0de",
  });
  assert.equal(rawBytes, columns[1]);
  const label = "block";
  const unpacked = [[out.view(), HYBRID_LOG_VERSION], [columns[0], BY_COLUMNS]] as const;
  const [modelled, expected] = unpacked.map(([payload, version]) =>
    new ColumnUnpacker().unpack(payload, { number: 0, rawBytes, goesOn: false }, version, label)
      .map((column) => column.bytes(column.remaining).toHex())
  );
  assert.deepEqual(modelled, expected);
  const hex = header.toHex();
  assert.deepEqual(decode(out.view(), rawBytes, HYBRID_LOG_VERSION), {
    items: [
      { item: "events", bytes: "000000" },
      { item: "reference", header: hex, source: 2, number: 5, lamport: 7n },
      { item: "reference", header: hex, source: 2, number: 6, lamport: 9n },
      {
        item: "send",
        number: 10,
        length: 300,
        hash: "0102030405060708",
        lamport: 8n,
        head: "c0de",
      },
      { item: "events", bytes: "aabb" },
      { item: "frame", header: other.toHex(), payload: "f00d", lamport: 8n, origin: "external" },
      {
        item: "frame",
        header: header.with(9, 1).toHex(),
        payload: "11",
        lamport: 10n,
        origin: "unmatched",
      },
      { item: "end", complete: true, icount: 105 },
    ],
    contents: { sends: 1, receives: 4, complete: true },
  });
});

Deno.test("like columns are compressed, hashes are not", () => {
  const encoder = new BlockEncoder(3);
  encoder.events(new Uint8Array(1000), 0, 1000);
  const hash = new Uint8Array(8);
  for (let i = 0; i < 100; i++) encoder.send(60, hash, BigInt(i));
  const out = new ByteWriter();
  const rawBytes = encoder.finish(out, true);
  assert(out.length > 800 && out.length < 950, `${out.length} bytes`);
  assert.equal(decode(out.view(), rawBytes, HYBRID_LOG_VERSION).items.length, 101);
});

Deno.test("a check has the digest of its version", () => {
  const state = { icount: 5, inside: true, registers: "", ramBytes: 1, wallMs: 0 };
  const hex = "ab".repeat(32);
  const older = { ...state, ramSha256: hex };
  const newer: CheckPoint = { ...state, ramDigest: `xxh64:${hex}` };
  const byColumns = (check: unknown) => {
    const json = new TextEncoder().encode(JSON.stringify(check));
    const length = Uint8Array.of(json.length & 0x7f | 0x80, json.length >> 7).toHex();
    const [payload, rawBytes] = payloadOf({ items: "05", checks: length + json.toHex() });
    return decode(payload, rawBytes, BY_COLUMNS).items;
  };
  const today = (check: unknown) => {
    const encoder = new BlockEncoder(3);
    encoder.check(check as CheckPoint);
    const out = new ByteWriter();
    const rawBytes = encoder.finish(out, true);
    return decode(out.view(), rawBytes, HYBRID_LOG_VERSION).items;
  };
  const ramDigest = `sha256:${hex}`;
  assert.deepEqual(byColumns(older), [{ item: "check", check: { ...state, ramDigest } }]);
  assert.deepEqual(today(newer), [{ item: "check", check: newer }]);
  assert.throws(() => byColumns(newer), /not a check/);
  for (const bad of [older, { ...state, ramDigest: hex }, { ...state, ramDigest: `md5:${hex}` }]) {
    assert.throws(() => today(bad), /not a check/);
  }
});

Deno.test("what a writer of ours never writes is refused, naming block and column", () => {
  const cases: [Parameters<typeof payloadOf>[0], RegExp][] = [
    [{ items: "0f" }, /h\.seg \(block 4 at 500\), column "items" at byte 0: no such item: 15/],
    [{ items: "07", epochs: "01" }, /column "epochs"/],
    [{ items: "08", runs: "01", events: "00" }, /no such item: 8/],
    [{ items: "01" }, /no such item: 1/],
    [{ items: "0c" }, /no such item: 12/],
    [{ items: "0d" }, /no such item: 13/],
    [{ items: "16" }, /no such item: 22/],
    [{ items: "00", runs: "00" }, /empty run/],
    [{ items: "00", runs: "02", events: "00" }, /column "events" at byte 0: 2 bytes expected/],
    [{ items: "00", runs: "01", events: "0000" }, /column "events" at byte 1: 1 bytes too many/],
    [{ items: "0e00", runs: "0001", events: "00" }, /its end is not the last item/],
    [{ headers: "0900000000" }, /column "headers" at byte 0: 6 bytes expected, 5 left/],
    [{ items: "05", checks: "027b7d" }, /not a check/],
    [{ items: "05", checks: "0100" }, /not a check/],
    [
      { items: "01", headers: "090000000000", lengths: "01", sources: "01", numbers: "01" },
      /not a send number: -1/,
    ],
    [
      { items: "01", headers: "090000000000", lengths: "8080808010" },
      /frame of 4294967296 bytes/,
    ],
  ];
  for (const [columns, message] of cases) {
    assert.throws(() => decode(...payloadOf(columns), BY_COLUMNS), (error) => {
      assert(error instanceof FormatError);
      assert.match(error.message, message);
      return true;
    });
  }
  const [payload, rawBytes] = payloadOf({ items: "00", runs: "01", events: "00" });
  assert.throws(
    () => decode(payload, rawBytes + 1, BY_COLUMNS),
    /columns of 3 bytes, 4 in the header/,
  );
  assert.throws(
    () => decode(Uint8Array.of(...payload, 0), rawBytes, BY_COLUMNS),
    /1 bytes too many/,
  );
  for (let n = 0; n < payload.length; n++) {
    assert.throws(() => decode(payload.subarray(0, n), rawBytes, BY_COLUMNS), FormatError);
  }
});

Deno.test("compressed columns that lie about their size are refused", () => {
  const build = (claimed: number, packed: Uint8Array) => {
    const out = new ByteWriter();
    out.varint(claimed);
    out.varint(packed.length);
    for (let i = 1; i < COLUMNS; i++) out.varint(0);
    out.bytes(packed);
    return out.view();
  };
  const packed = zstdCompressSync(new Uint8Array(10_000));
  assert.throws(
    () => decode(build(9_999, packed), 9_999, BY_COLUMNS),
    /column "items" at byte 0: zstd/,
  );
  assert.throws(
    () => decode(build(10_001, packed), 10_001, BY_COLUMNS),
    /10001 bytes expected, 10000 unpacked/,
  );
  assert.throws(
    () => decode(build(10_000, packed.subarray(0, 9)), 10_000, BY_COLUMNS),
    /column "items"/,
  );
  assert.throws(
    () => decode(build(100, new Uint8Array(20)), 100, BY_COLUMNS),
    /column "items" at byte 0: zstd/,
  );
});

Deno.test("property: arbitrary payloads give items or FormatError", () => {
  const column = fc.uint8Array({ maxLength: 12 }).map((bytes) => bytes.toHex());
  const columns = fc.record(
    Object.fromEntries(Object.keys(Column).map((name) => [name, column])),
  );
  fc.assert(
    fc.property(columns, fc.uint8Array({ maxLength: 40 }), fc.nat(100), (some, bytes, length) => {
      const [payload, rawBytes] = payloadOf(some);
      const cases: [Uint8Array, number, number][] = [
        [payload, rawBytes, BY_COLUMNS],
        [bytes, length, BY_COLUMNS],
        [bytes, length, HYBRID_LOG_VERSION],
      ];
      for (const parts of cases) {
        try {
          decode(...parts);
        } catch (error) {
          assert(error instanceof FormatError, String(error));
        }
      }
    }),
    { numRuns: 1000 },
  );
});
