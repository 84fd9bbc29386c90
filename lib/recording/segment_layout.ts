/**
 * The fixed parts of a segment file: its header, the headers of its blocks, the index and the footer.
 * Layout: `FORMAT.md`. Pure functions between bytes and records; nothing here touches a file.
 */
import { crc32 } from "node:zlib";
import { ByteReader } from "../bytes/byte_reader.ts";
import { ByteWriter } from "../bytes/byte_writer.ts";
import { equalBytes } from "../bytes/equal_bytes.ts";
import { FormatError, VersionError } from "../errors.ts";
import type { VmNumber } from "../units.ts";
import { BLOCK_RAW_BYTES_MAX, BLOCK_STORED_BYTES_MAX } from "./block_columns.ts";

export const HYBRID_LOG_VERSION = 4;
/** The oldest version that is still read. */
const HYBRID_LOG_VERSION_MIN = 2;
export const SEGMENT_HEADER_BYTES = 48;
export const BLOCK_HEADER_BYTES = 52;
export const FOOTER_BYTES = 24;
const CRC_BYTES = 4;
export const SEGMENT_MAGIC = new TextEncoder().encode("CLRRSEG\n");
const FOOTER_MAGIC = new TextEncoder().encode("CLRREND\n");
/** What every block starts with: where to look for the next one behind damage. */
export const BLOCK_MAGIC = new TextEncoder().encode("CRB\n");

export interface SegmentHeader {
  readonly version: number;
  readonly vm: VmNumber;
  readonly number: number;
  readonly rrLogVersion: number;
  /** Random; the same in all segments of one log. */
  readonly logId: bigint;
  readonly firstIcount: number;
  readonly firstBlock: number;
}

/** A segment that is to be written: of {@link HYBRID_LOG_VERSION}. */
export type NewSegment = Omit<SegmentHeader, "version">;

export interface BlockHeader {
  readonly type: "items" | "index";
  /** Whether it can be decoded only after the block before. */
  readonly goesOn: boolean;
  readonly number: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
  readonly payloadCrc: number;
  readonly firstIcount: number;
  readonly sends: number;
  readonly receives: number;
}

/** Where an items block of a segment starts, and the counts before it. */
export interface IndexEntry {
  readonly offset: number;
  readonly firstIcount: number;
  readonly sends: number;
  readonly receives: number;
}

/** The starting value of every checksum behind the segment header `header`. */
export function checksumSeed(header: Uint8Array): number {
  return new ByteReader(header.subarray(SEGMENT_HEADER_BYTES - CRC_BYTES), "").u32();
}

export function encodeSegmentHeader(header: NewSegment): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter(SEGMENT_HEADER_BYTES);
  out.bytes(SEGMENT_MAGIC);
  out.u16(HYBRID_LOG_VERSION);
  out.u16(SEGMENT_HEADER_BYTES);
  out.u32(header.vm);
  out.u32(header.number);
  out.u32(header.rrLogVersion);
  out.u64(header.logId);
  out.u64(BigInt(header.firstIcount));
  out.u32(header.firstBlock);
  out.u32(crc32(out.view()));
  return out.view();
}

/** @throws {VersionError} where another build wrote it; {FormatError} where it is no segment */
export function decodeSegmentHeader(bytes: Uint8Array, file: string): SegmentHeader {
  const reader = new ByteReader(bytes, file);
  expectMagic(reader, SEGMENT_MAGIC, "not a segment of a hybrid log");
  const version = reader.u16();
  if (version < HYBRID_LOG_VERSION_MIN || version > HYBRID_LOG_VERSION) {
    throw new VersionError(
      file,
      8,
      `hybrid log version ${version}; this build knows versions ${HYBRID_LOG_VERSION_MIN} to ` +
        `${HYBRID_LOG_VERSION}. Use the clusterrr that recorded it.`,
    );
  }
  expectChecksum(bytes, file, 0, 0, "segment header");
  expectLength(reader, SEGMENT_HEADER_BYTES);
  return {
    version,
    vm: reader.u32(),
    number: reader.u32(),
    rrLogVersion: reader.u32(),
    logId: reader.u64(),
    firstIcount: reader.safeU64(),
    firstBlock: reader.u32(),
  };
}

export function encodeBlockHeader(out: ByteWriter, header: BlockHeader, seed: number): void {
  const start = out.length;
  out.bytes(BLOCK_MAGIC);
  out.u8(header.type === "items" ? 1 : 2);
  out.u8(header.goesOn ? 1 : 0);
  out.u16(BLOCK_HEADER_BYTES);
  out.u32(header.number);
  out.u32(header.storedBytes);
  out.u32(header.rawBytes);
  out.u32(header.payloadCrc);
  out.u64(BigInt(header.firstIcount));
  out.u64(BigInt(header.sends));
  out.u64(BigInt(header.receives));
  out.u32(crc32(out.view().subarray(start), seed));
}

/**
 * Decodes the 52 bytes at `offset` of `file`.
 * @throws {FormatError} where they are no intact block header
 */
export function decodeBlockHeader(
  bytes: Uint8Array,
  file: string,
  offset: number,
  seed: number,
): BlockHeader {
  const reader = new ByteReader(bytes, file, offset);
  expectMagic(reader, BLOCK_MAGIC, "no block starts here");
  expectChecksum(bytes, file, offset, seed, "block header");
  const type = reader.u8();
  if (type !== 1 && type !== 2) throw new FormatError(file, offset + 4, `block of type ${type}`);
  const goesOn = reader.u8();
  if (goesOn > (type === 1 ? 1 : 0)) {
    throw new FormatError(file, offset + 5, `a block with flag ${goesOn}`);
  }
  expectLength(reader, BLOCK_HEADER_BYTES);
  const header: BlockHeader = {
    type: type === 1 ? "items" : "index",
    goesOn: goesOn === 1,
    number: reader.u32(),
    storedBytes: reader.u32(),
    rawBytes: reader.u32(),
    payloadCrc: reader.u32(),
    firstIcount: reader.safeU64(),
    sends: reader.safeU64(),
    receives: reader.safeU64(),
  };
  if (header.storedBytes > BLOCK_STORED_BYTES_MAX || header.rawBytes > BLOCK_RAW_BYTES_MAX) {
    throw new FormatError(file, offset, `a block of ${header.storedBytes} bytes is too large`);
  }
  return header;
}

export function encodeIndex(out: ByteWriter, entries: readonly IndexEntry[]): void {
  out.varint(entries.length);
  let last: IndexEntry = { offset: 0, firstIcount: 0, sends: 0, receives: 0 };
  for (const entry of entries) {
    out.varint(entry.offset - last.offset);
    out.varint(entry.firstIcount - last.firstIcount);
    out.varint(entry.sends - last.sends);
    out.varint(entry.receives - last.receives);
    last = entry;
  }
}

/** @param offset of the payload in `file` */
export function decodeIndex(payload: Uint8Array, file: string, offset: number): IndexEntry[] {
  const reader = new ByteReader(payload, file, offset);
  const entries: IndexEntry[] = [];
  let last: IndexEntry = { offset: 0, firstIcount: 0, sends: 0, receives: 0 };
  for (let left = reader.varint(); left > 0; left--) {
    last = {
      offset: last.offset + reader.varint(),
      firstIcount: last.firstIcount + reader.varint(),
      sends: last.sends + reader.varint(),
      receives: last.receives + reader.varint(),
    };
    entries.push(last);
  }
  reader.end("the index");
  return entries;
}

export function encodeFooter(
  indexOffset: number,
  blocks: number,
  seed: number,
): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter(FOOTER_BYTES);
  out.bytes(FOOTER_MAGIC);
  out.u64(BigInt(indexOffset));
  out.u32(blocks);
  out.u32(crc32(out.view(), seed));
  return out.view();
}

/** The offset of the index block; `undefined` where `bytes` are no intact footer. */
export function decodeFooter(bytes: Uint8Array, seed: number): number | undefined {
  if (bytes.length !== FOOTER_BYTES || !checksumHolds(bytes, seed)) return undefined;
  const reader = new ByteReader(bytes, "");
  if (!equalBytes(reader.bytes(FOOTER_MAGIC.length), FOOTER_MAGIC)) return undefined;
  return reader.safeU64();
}

function expectMagic(reader: ByteReader, magic: Uint8Array, message: string): void {
  const at = reader.offset;
  if (!equalBytes(reader.bytes(magic.length), magic)) {
    throw new FormatError(reader.file, at, message);
  }
}

function expectLength(reader: ByteReader, expected: number): void {
  const at = reader.offset;
  const length = reader.u16();
  if (length !== expected) {
    throw new FormatError(reader.file, at, `header of ${length} bytes, ${expected} expected`);
  }
}

/** Every header and the footer end with the checksum of what is before it. */
function checksumHolds(bytes: Uint8Array, seed: number): boolean {
  const end = bytes.length - CRC_BYTES;
  return new ByteReader(bytes.subarray(end), "").u32() === crc32(bytes.subarray(0, end), seed);
}

function expectChecksum(
  bytes: Uint8Array,
  file: string,
  offset: number,
  seed: number,
  what: string,
): void {
  if (checksumHolds(bytes, seed)) return;
  throw new FormatError(file, offset, `${what} checksum wrong: the file is damaged`);
}
