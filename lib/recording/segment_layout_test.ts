import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteWriter } from "../bytes/byte_writer.ts";
import { FormatError, VersionError } from "../errors.ts";
import {
  type BlockHeader,
  checksumSeed,
  decodeBlockHeader,
  decodeFooter,
  decodeIndex,
  decodeSegmentHeader,
  encodeBlockHeader,
  encodeFooter,
  encodeIndex,
  encodeSegmentHeader,
  type SegmentHeader,
} from "./segment_layout.ts";

const SEGMENT: SegmentHeader = {
  version: 4,
  vm: 3,
  number: 2,
  rrLogVersion: 0xe0200c,
  logId: 0x1122334455667788n,
  firstIcount: 2 ** 40 + 5,
  firstBlock: 7,
};
const SEGMENT_HEX = "434c52525345470a" + "0400" + "3000" + "03000000" + "02000000" + "0c20e000" +
  "8877665544332211" + "0500000000010000" + "07000000" + "bec92e0c";
const BLOCK: BlockHeader = {
  type: "items",
  goesOn: false,
  number: 7,
  storedBytes: 100,
  rawBytes: 200,
  payloadCrc: 0xdeadbeef,
  firstIcount: 1000,
  sends: 5,
  receives: 6,
};
const BLOCK_HEX = "4352420a" + "01" + "00" + "3400" + "07000000" + "64000000" + "c8000000" +
  "efbeadde" + "e803000000000000" + "0500000000000000" + "0600000000000000" + "ca7ecc20";
const FOOTER_HEX = "434c5252454e440a" + "1027000000000000" + "03000000" + "1292d617";
const SEED = 99;

function blockHeader(header: BlockHeader, seed = SEED): Uint8Array {
  const out = new ByteWriter();
  encodeBlockHeader(out, header, seed);
  return out.view();
}

Deno.test("segment header, block header, footer: exact bytes, both ways", () => {
  assert.equal(encodeSegmentHeader(SEGMENT).toHex(), SEGMENT_HEX);
  assert.deepEqual(decodeSegmentHeader(Uint8Array.fromHex(SEGMENT_HEX), "f"), SEGMENT);
  assert.equal(checksumSeed(Uint8Array.fromHex(SEGMENT_HEX)), 0x0c2ec9be);
  assert.equal(blockHeader(BLOCK).toHex(), BLOCK_HEX);
  assert.deepEqual(decodeBlockHeader(Uint8Array.fromHex(BLOCK_HEX), "f", 48, SEED), BLOCK);
  assert.equal(encodeFooter(10_000, 3, SEED).toHex(), FOOTER_HEX);
  assert.equal(decodeFooter(Uint8Array.fromHex(FOOTER_HEX), SEED), 10_000);
});

Deno.test("every flipped bit of a header or footer is refused", () => {
  const cases: [string, (bytes: Uint8Array) => unknown][] = [
    [SEGMENT_HEX, (bytes) => decodeSegmentHeader(bytes, "f")],
    [BLOCK_HEX, (bytes) => decodeBlockHeader(bytes, "f", 48, SEED)],
    [FOOTER_HEX, (bytes) => {
      if (decodeFooter(bytes, SEED) === undefined) throw new FormatError("f", 0, "no footer");
    }],
  ];
  for (const [hex, decode] of cases) {
    for (let bit = 0; bit < hex.length * 4; bit++) {
      const bytes = Uint8Array.fromHex(hex);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      assert.throws(() => decode(bytes), FormatError, `bit ${bit}`);
    }
  }
});

Deno.test("another version, another seed, absurd sizes", () => {
  const newer = Uint8Array.fromHex(SEGMENT_HEX);
  newer[8] = 5;
  assert.throws(() => decodeSegmentHeader(newer, "f"), (error) => {
    assert(error instanceof VersionError);
    assert.equal(error.offset, 8);
    assert.match(error.message, /version 5; this build knows versions 2 to 4/);
    return true;
  });
  const block = Uint8Array.fromHex(BLOCK_HEX);
  assert.throws(() => decodeBlockHeader(block, "f", 48, SEED + 1), /at byte 48: .*checksum/);
  assert.equal(decodeFooter(Uint8Array.fromHex(FOOTER_HEX), SEED + 1), undefined);
  for (const large of [{ rawBytes: (64 << 20) + 1 }, { storedBytes: (64 << 20) + 4097 }]) {
    const bytes = blockHeader({ ...BLOCK, ...large });
    assert.throws(() => decodeBlockHeader(bytes, "f", 48, SEED), /too large/);
  }
});

Deno.test("index: exact bytes; truncations and trailing bytes are refused", () => {
  const entries = [
    { offset: 48, firstIcount: 0, sends: 0, receives: 0 },
    { offset: 348, firstIcount: 1000, sends: 2, receives: 1 },
  ];
  const out = new ByteWriter();
  encodeIndex(out, entries);
  assert.equal(out.view().toHex(), "02" + "30000000" + "ac02e8070201");
  assert.deepEqual(decodeIndex(out.view(), "f", 500), entries);
  for (let n = 0; n < out.length; n++) {
    assert.throws(() => decodeIndex(out.view().subarray(0, n), "f", 500), FormatError);
  }
  out.u8(0);
  assert.throws(() => decodeIndex(out.view(), "f", 500), /at byte 511: 1 bytes too many/);
});

Deno.test("property: arbitrary bytes give FormatError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
    assert.throws(() => decodeSegmentHeader(bytes, "f"), FormatError);
    assert.throws(() => decodeBlockHeader(bytes, "f", 0, SEED), FormatError);
    assert.equal(decodeFooter(bytes, SEED), undefined);
    try {
      decodeIndex(bytes, "f", 0);
    } catch (error) {
      assert(error instanceof FormatError);
    }
  }));
});
