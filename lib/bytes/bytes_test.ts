import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../errors.ts";
import { ByteReader } from "./byte_reader.ts";
import { ByteWriter } from "./byte_writer.ts";

const hex = (writer: ByteWriter) => writer.view().toHex();
const read = (text: string) => new ByteReader(Uint8Array.fromHex(text), "f.seg", 100);
const formatError = (offset: number, message: RegExp) => (error: unknown) =>
  error instanceof FormatError && error.file === "f.seg" && error.offset === offset &&
  message.test(error.message);

Deno.test("integers are little-endian, exact bytes", () => {
  const writer = new ByteWriter(1);
  writer.u8(0x01);
  writer.u16(0x0203);
  writer.u32(0xfffefdfc);
  writer.u64(0x1122334455667788n);
  writer.bytes(Uint8Array.of(9, 8, 7, 6), 1, 3);
  assert.equal(hex(writer), "01" + "0302" + "fcfdfeff" + "8877665544332211" + "0807");
  assert.equal(writer.length, 17);
  const reader = read(hex(writer));
  assert.deepEqual([reader.u8(), reader.u16(), reader.u32(), reader.u64()], [
    1,
    0x0203,
    0xfffefdfc,
    0x1122334455667788n,
  ]);
  assert.equal(reader.offset, 115);
  assert.deepEqual([...reader.bytes(2)], [8, 7]);
  reader.end("the record");
  writer.reset();
  assert.equal(hex(writer), "");
});

Deno.test("varints, exact bytes", () => {
  const cases: [number, string][] = [
    [0, "00"],
    [127, "7f"],
    [128, "8001"],
    [300, "ac02"],
    [0x7fffffff, "ffffffff07"],
    [0x80000000, "8080808008"],
    [2 ** 49 - 1, "ffffffffffff7f"],
    [2 ** 49, "8080808080808001"],
    [Number.MAX_SAFE_INTEGER, "ffffffffffffff0f"],
  ];
  for (const [value, bytes] of cases) {
    const writer = new ByteWriter(1);
    writer.varint(value);
    assert.equal(hex(writer), bytes);
    assert.equal(read(bytes).varint(), value);
    assert.equal(read(bytes).bigVarint(), BigInt(value));
    writer.reset();
    writer.bigVarint(BigInt(value));
    assert.equal(hex(writer), bytes);
  }
  const writer = new ByteWriter();
  writer.bigVarint(2n ** 64n - 1n);
  assert.equal(hex(writer), "ffffffffffffffffff01");
  writer.reset();
  for (const n of [0n, -1n, 1n, -(2n ** 63n)]) writer.zigzag(n);
  assert.equal(hex(writer), "000102" + "ffffffffffffffffff01");
});

Deno.test("what the reader refuses, with file and offset", () => {
  assert.throws(() => read("").u8(), formatError(100, /1 bytes expected, 0 left/));
  const short = read("010203");
  short.u16();
  assert.throws(() => short.u16(), formatError(102, /2 bytes expected, 1 left/));
  assert.throws(() => short.end("it"), formatError(102, /1 bytes too many in it/));
  assert.throws(() => read("0102").bytes(3), formatError(100, /3 bytes expected, 2 left/));
  assert.throws(() => read("8000").varint(), formatError(100, /shortest/));
  assert.throws(() => read("8080808080808080808000").bigVarint(), formatError(100, /64 bits/));
  assert.throws(() => read("80808080808080808000").bigVarint(), formatError(100, /shortest/));
  assert.throws(() => read("ffffffffffffffffff02").bigVarint(), formatError(100, /64 bits/));
  assert.throws(() => read("ffffffffffffffffffff").bigVarint(), formatError(100, /64 bits/));
  assert.throws(() => read("ffffffffffffff10").varint(), formatError(100, /too large/));
  assert.throws(() => read("0000000000002000").safeU64(), formatError(100, /too large/));
  assert.equal(read("ffffffffffff1f00").safeU64(), Number.MAX_SAFE_INTEGER);
  for (const cut of ["", "ff", "ffff", "ffffffffffffffff"]) {
    assert.throws(() => read(cut).bigVarint(), FormatError);
  }
});

Deno.test("what the writer refuses", () => {
  const writer = new ByteWriter();
  for (const bad of [-1, 256, 0.5, NaN]) assert.throws(() => writer.u8(bad), /not an integer/);
  assert.throws(() => writer.u16(0x10000), /not an integer/);
  assert.throws(() => writer.u32(2 ** 32), /not an integer/);
  assert.throws(() => writer.varint(2 ** 53), /not an integer/);
  assert.throws(() => writer.u64(-1n), /not a u64/);
  assert.throws(() => writer.bigVarint(2n ** 64n), /not a u64/);
  assert.equal(writer.length, 0);
});

Deno.test("property: reading gives back what was written", () => {
  const field = fc.oneof(
    fc.record({ kind: fc.constant("varint" as const), value: fc.maxSafeNat() }),
    fc.record({ kind: fc.constant("bigVarint" as const), value: fc.bigInt(0n, 2n ** 64n - 1n) }),
    fc.record({
      kind: fc.constant("zigzag" as const),
      value: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
    }),
    fc.record({ kind: fc.constant("bytes" as const), value: fc.uint8Array() }),
  );
  fc.assert(fc.property(fc.array(field), (fields) => {
    const writer = new ByteWriter(1);
    for (const f of fields) {
      if (f.kind === "varint") writer.varint(f.value);
      else if (f.kind === "bytes") writer.bytes(f.value);
      else writer[f.kind](f.value);
    }
    const reader = new ByteReader(writer.view().slice(), "f");
    for (const f of fields) {
      const got = f.kind === "bytes" ? reader.bytes(f.value.length) : reader[f.kind]();
      assert.deepEqual(got, f.value);
    }
    reader.end("the fields");
  }));
});

Deno.test("property: arbitrary bytes give values or FormatError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
    const reader = new ByteReader(bytes, "f");
    try {
      while (reader.remaining > 0) {
        const before = reader.remaining;
        reader.bigVarint();
        assert(reader.remaining < before);
      }
    } catch (error) {
      assert(error instanceof FormatError);
    }
  }));
});
