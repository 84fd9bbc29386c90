import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteWriter } from "../bytes/byte_writer.ts";
import { FormatError } from "../errors.ts";
import { Column, COLUMN_NAMES } from "./block_columns.ts";
import { BlockEncoder } from "./block_encoder.ts";
import { BlockModel } from "./block_model.ts";
import { ColumnUnpacker } from "./column_unpacker.ts";
import { EventSymbols } from "./event_symbols.ts";
import { RangeDecoder, RangeEncoder } from "./range_coder.ts";
import { HYBRID_LOG_VERSION } from "./segment_layout.ts";

/** The first column of events is the one of `events`; the others are empty or as given. */
function columnsOf(events: Uint8Array, others: Partial<Record<keyof typeof Column, Uint8Array>>) {
  return COLUMN_NAMES.map((name) =>
    name === "events" ? events : others[name as keyof typeof Column] ?? new Uint8Array(0)
  );
}

/** Codes blocks with one model and decodes them with another. */
function codeAndBack(blocks: readonly (readonly Uint8Array[])[]): Uint8Array[][] {
  const coder = new RangeEncoder();
  const [writer, reader] = [new BlockModel(), new BlockModel()];
  return blocks.map((columns) => {
    writer.code(coder, columns.map((column) => column.slice()), "written");
    const coded = coder.finish().slice();
    const decoder = new RangeDecoder(coded, "read");
    const back = columns.map(({ length }) => new Uint8Array(length));
    reader.code(decoder, back, "read");
    decoder.end();
    return back;
  });
}

/** Events as QEMU writes them most: all lengths of numbers, clocks that go back, arrays cut off. */
const eventBytes = fc.array(
  fc.oneof(
    fc.nat(0xffff_ffff).map((count) => [0, ...u32(count)]),
    fc.nat(300).map((count) => [0, ...u32(count)]),
    fc.constantFrom([1], [2], [31], [34], [39], [31, 34], [5], [63], [255]),
    fc.tuple(fc.constantFrom(3, 8, 22, 29), fc.bigInt(0n, 2n ** 64n - 1n))
      .map((
        [kind, value],
      ) => [kind, ...u32(Number(value >> 32n)), ...u32(Number(value % 2n ** 32n))]),
    fc.nat(0xffff_ffff).map((nanoseconds) => [29, 0, 0, 0, 5, ...u32(nanoseconds)]),
    fc.uint8Array({ maxLength: 20 }).map((text) => [7, 0, ...u32(text.length), ...text]),
    fc.nat(1000).map((length) => [27, ...u32(8), ...u32(length)]),
    fc.uint8Array({ maxLength: 20 }).map((bytes) => [...bytes]),
  ),
  { maxLength: 60 },
).map((events) => Uint8Array.from(events.flat()));

function u32(value: number): number[] {
  return [value >>> 24, value >>> 16 & 255, value >>> 8 & 255, value & 255];
}

Deno.test("property: any events come back, block after block", () => {
  fc.assert(fc.property(fc.array(eventBytes, { maxLength: 4 }), (blocks) => {
    const columns = blocks.map((events) => columnsOf(events, {}));
    assert.deepEqual(codeAndBack(columns), columns);
  }));
});

Deno.test("property: any columns come back", () => {
  const bytes = fc.uint8Array({ maxLength: 80 });
  const heads = fc.array(fc.tuple(fc.nat(70_000), fc.uint8Array({ maxLength: 100 })));
  const ipv4 = fc.array(fc.tuple(fc.nat(1500), fc.uint8Array({ minLength: 38, maxLength: 64 })));
  fc.assert(fc.property(bytes, bytes, heads, ipv4, (items, checks, heads, ipv4) => {
    const sends = [
      ...heads,
      ...ipv4.map(([length, head]) => [length, asIpv4(head)] as const),
    ];
    const columns = columnsOf(new Uint8Array(0), {
      items,
      checks,
      sendLengths: varints(sends.map(([length]) => length)),
      headLengths: varints(sends.map(([, head]) => head.length)),
      heads: Uint8Array.from(sends.flatMap(([, head]) => [...head])),
    });
    assert.deepEqual(codeAndBack([columns, columns]), [columns, columns]);
  }));
});

function varints(values: readonly number[]): Uint8Array {
  const out = new ByteWriter();
  for (const value of values) out.varint(value);
  return out.view();
}

/** Fragments of few flows, TCP and others. */
function asIpv4(head: Uint8Array): Uint8Array {
  const bytes = head.slice();
  bytes.set([8, 0, 0x45], 12);
  bytes[20]! &= 0x3f;
  bytes[23] = head[23]! % 2 === 0 ? 6 : 17;
  for (let at = 26; at < 34; at++) bytes[at]! &= 1;
  return bytes;
}

Deno.test("more events than are coded together", () => {
  const events = new Uint8Array(200_000).map((_, i) => i % 3 === 0 ? 31 : 34);
  const columns = columnsOf(events, {});
  assert.deepEqual(codeAndBack([columns]), [columns]);
});

Deno.test("a steady log costs next to nothing, and less once it is known", () => {
  const tick = [0, 0, 7, 160, 212, 31, 34, 31, 0, 0, 0, 0, 105, 31, 34, 31, 1];
  const events = Uint8Array.from({ length: 17 * 500 }, (_, i) => tick[i % 17]!);
  const coder = new RangeEncoder();
  const model = new BlockModel();
  const sizes = [1, 2].map(() => {
    model.code(coder, columnsOf(events.slice(), {}), "written");
    return coder.finish().length;
  });
  assert(sizes[0]! < 300, `${sizes[0]} bytes`);
  assert(sizes[1]! < sizes[0]! / 2, `${sizes}`);
});

Deno.test("a block that goes on is refused without the one before, and readable after it", () => {
  const encoder = new BlockEncoder(3);
  const blocks = [0, 1, 2].map((i) => {
    encoder.events(new Uint8Array(500).fill(31 + i), 0, 500);
    const out = new ByteWriter();
    const rawBytes = encoder.finish(out, i !== 1);
    return { payload: out.view(), header: { number: 7 + i, rawBytes, goesOn: i === 1 } };
  });
  const unpack = (unpacker: ColumnUnpacker, i: number) =>
    unpacker.unpack(blocks[i]!.payload, blocks[i]!.header, HYBRID_LOG_VERSION, "f")[Column.events]!
      .bytes(500);
  const unpacker = new ColumnUnpacker();
  assert.throws(() => unpack(unpacker, 1), /goes on from one that was not read/);
  for (const i of [0, 1, 2]) assert.equal(unpack(unpacker, i)[0], 31 + i);
  assert.throws(() => unpack(unpacker, 1), FormatError);
  assert.equal(unpack(unpacker, 2)[0], 33);
});

Deno.test("every truncation and every changed byte of a payload gives FormatError or columns", () => {
  const encoder = new BlockEncoder(3);
  encoder.events(Uint8Array.from([0, 0, 0, 1, 2, 31, 29, 0, 0, 0, 0, 0, 0, 1, 2, 99, 7]), 0, 17);
  encoder.send(60, new Uint8Array(8), 5n, new Uint8Array(60).fill(9));
  const out = new ByteWriter();
  const rawBytes = encoder.finish(out, true);
  const payload = out.view();
  const unpack = (bytes: Uint8Array) =>
    new ColumnUnpacker().unpack(bytes, { number: 0, rawBytes, goesOn: false }, 3, "f");
  for (let n = 0; n < payload.length; n++) {
    assert.throws(() => unpack(payload.subarray(0, n)), FormatError, `${n} bytes`);
    for (const change of [1, 0x80, 0xff]) {
      try {
        unpack(payload.with(n, payload[n]! ^ change));
      } catch (error) {
        assert(error instanceof FormatError, String(error));
      }
    }
  }
  assert.throws(() => unpack(Uint8Array.of(...payload, 0)), FormatError);
});

Deno.test("symbols that make other bytes than there is room for are refused", () => {
  const symbols = new EventSymbols();
  symbols.parse(Uint8Array.of(29, 0, 0, 0, 0, 0, 0, 0, 0), 0);
  assert.throws(() => symbols.join(new Uint8Array(8), 0, "f"), FormatError);
});

Deno.test("property: decisions come back, whatever their probabilities", () => {
  const decisions = fc.array(fc.tuple(fc.nat(3), fc.nat(1)), { maxLength: 500 });
  const numbers = fc.array(fc.tuple(fc.nat(0xffff_ffff), fc.integer({ min: 0, max: 32 })));
  fc.assert(fc.property(decisions, numbers, (decisions, numbers) => {
    const code = (coder: RangeEncoder | RangeDecoder) => {
      const table = new Int32Array(4).fill(1 << 20);
      return [
        ...decisions.map(([slot, bit]) => coder.bit(table, slot, bit)),
        ...numbers.map(([value, bits]) =>
          coder.direct(bits === 32 ? value : value % 2 ** bits, bits)
        ),
      ];
    };
    const encoder = new RangeEncoder();
    const written = code(encoder);
    const decoder = new RangeDecoder(encoder.finish().slice(), "f");
    assert.deepEqual(code(decoder), written);
    decoder.end();
  }));
});
