/**
 * Reads one segment file, block by block, and tells damage from the traces of a crash.
 *
 * ```
 * next() ─▶ block                    verified: header and payload checksums hold
 *        ─▶ end                      index and footer verified, the file ends behind them
 *        ─▶ cut                      the file ends as a killed writer leaves it; whether that is
 *                                    allowed here is for the caller to say
 *        ─▶ throws FormatError       damaged: something intact stands behind it
 * ```
 */
import { crc32 } from "node:zlib";
import { equalBytes } from "../bytes/equal_bytes.ts";
import { FormatError, messageOf } from "../errors.ts";
import {
  BLOCK_HEADER_BYTES,
  BLOCK_MAGIC,
  type BlockHeader,
  checksumSeed,
  decodeBlockHeader,
  decodeFooter,
  decodeIndex,
  decodeSegmentHeader,
  encodeFooter,
  FOOTER_BYTES,
  type IndexEntry,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from "./segment_layout.ts";

export type SegmentRecord =
  | {
    readonly kind: "block";
    readonly header: BlockHeader;
    readonly offset: number;
    /** Valid until the next call. */
    readonly payload: Uint8Array;
  }
  | { readonly kind: "end"; readonly offset: number }
  | { readonly kind: "cut"; readonly offset: number; readonly reason: string };

const SEARCH_BYTES = 1 << 20;

export class SegmentReader {
  /** `undefined` where the file is cut off inside it, or has zeros in its place. */
  readonly header: SegmentHeader | undefined;
  readonly #file: Deno.FsFile;
  readonly #size: number;
  readonly #seed: number = 0;
  #buffer = new Uint8Array(1 << 16);
  #offset = SEGMENT_HEADER_BYTES;

  /**
   * Opens the file and reads its header.
   * @throws {FormatError} where it is no segment; {VersionError} where another build wrote it
   */
  constructor(readonly path: string) {
    this.#file = Deno.openSync(path);
    try {
      this.#size = this.#file.statSync().size;
      if (this.#size < SEGMENT_HEADER_BYTES) return;
      const bytes = this.#read(0, SEGMENT_HEADER_BYTES);
      if (bytes.every((byte) => byte === 0)) return; // a power loss kept the length and not the first page
      this.header = decodeSegmentHeader(bytes, path);
      this.#seed = checksumSeed(bytes);
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  close(): void {
    this.#file.close();
  }

  /** The next record. @throws {FormatError} where it is damaged and intact bytes follow */
  next(): SegmentRecord {
    if (this.header === undefined) return this.#cut(0, "its header is cut off");
    const offset = this.#offset;
    const left = this.#size - offset;
    if (left === 0) return this.#cut(offset, "it ends without an index");
    if (left < BLOCK_HEADER_BYTES) return this.#cut(offset, "a block header is cut off");
    let header: BlockHeader;
    try {
      header = decodeBlockHeader(
        this.#read(offset, BLOCK_HEADER_BYTES),
        this.path,
        offset,
        this.#seed,
      );
    } catch (error) {
      return this.#damaged(offset, error as FormatError);
    }
    const end = offset + BLOCK_HEADER_BYTES + header.storedBytes;
    if (end > this.#size) return this.#cut(offset, `block ${header.number} is cut off`);
    const payload = this.#read(offset + BLOCK_HEADER_BYTES, header.storedBytes);
    if (crc32(payload, this.#seed) !== header.payloadCrc) {
      const detail = `block ${header.number} checksum wrong: the file is damaged`;
      return this.#damaged(offset, new FormatError(this.path, offset, detail));
    }
    if (header.type === "index") return this.#end(offset, end, payload);
    this.#offset = end;
    return { kind: "block", header, offset, payload };
  }

  /** Goes on reading at `entry`, one of {@link entries}. */
  seek(entry: IndexEntry): void {
    this.#offset = entry.offset;
  }

  /** Where the blocks stand: from the index, or by a walk over the headers where there is none. */
  entries(): IndexEntry[] {
    return this.#indexed() ?? this.#walk();
  }

  /** Whether the block at `entry` can be decoded only after the one before. */
  goesOn(entry: IndexEntry): boolean {
    return this.#headerAt(entry.offset)?.goesOn ?? false; // what is wrong there, reading on will tell
  }

  #indexed(): IndexEntry[] | undefined {
    const footerOffset = this.#size - FOOTER_BYTES;
    if (footerOffset < SEGMENT_HEADER_BYTES) return undefined;
    const indexOffset = decodeFooter(this.#read(footerOffset, FOOTER_BYTES), this.#seed);
    if (indexOffset === undefined) return undefined;
    const before = this.#offset;
    this.#offset = indexOffset;
    const record = this.next();
    this.#offset = before;
    if (record.kind !== "end") {
      throw new FormatError(this.path, footerOffset, "the footer does not lead to the index");
    }
    const payloadOffset = indexOffset + BLOCK_HEADER_BYTES;
    const payload = this.#read(payloadOffset, footerOffset - payloadOffset);
    return decodeIndex(payload, this.path, payloadOffset);
  }

  #walk(): IndexEntry[] {
    const entries: IndexEntry[] = [];
    if (this.header === undefined) return entries;
    for (let offset = SEGMENT_HEADER_BYTES; offset + BLOCK_HEADER_BYTES <= this.#size;) {
      const header = this.#headerAt(offset);
      if (header?.type !== "items") break; // what is wrong there, reading on will tell
      const { firstIcount, sends, receives } = header;
      entries.push({ offset, firstIcount, sends, receives });
      offset += BLOCK_HEADER_BYTES + header.storedBytes;
    }
    return entries;
  }

  /** Behind a verified index block there is the footer, and nothing else. */
  #end(offset: number, end: number, payload: Uint8Array): SegmentRecord {
    const blocks = decodeIndex(payload, this.path, offset + BLOCK_HEADER_BYTES).length;
    const expected = encodeFooter(offset, blocks, this.#seed);
    const rest = this.#read(end, Math.min(this.#size - end, FOOTER_BYTES + 1));
    if (equalBytes(rest, expected)) return { kind: "end", offset };
    if (rest.length < FOOTER_BYTES && equalBytes(rest, expected.subarray(0, rest.length))) {
      return this.#cut(end, "its footer is cut off");
    }
    throw new FormatError(this.path, end, "the footer is damaged");
  }

  #damaged(offset: number, error: FormatError): SegmentRecord {
    if (this.#intactBehind(offset + 1)) throw error;
    return this.#cut(offset, messageOf(error));
  }

  #cut(offset: number, reason: string): SegmentRecord {
    return { kind: "cut", offset, reason };
  }

  /** Whether an intact block header or the footer stands at or behind `from`. */
  #intactBehind(from: number): boolean {
    const footerOffset = this.#size - FOOTER_BYTES;
    if (footerOffset >= from) {
      const footer = this.#read(footerOffset, FOOTER_BYTES);
      if (decodeFooter(footer, this.#seed) !== undefined) return true;
    }
    // Pieces overlap by a magic number less one byte.
    for (let at = from; at < this.#size; at += SEARCH_BYTES - BLOCK_MAGIC.length + 1) {
      const piece = this.#read(at, Math.min(SEARCH_BYTES, this.#size - at)).slice();
      for (let i = 0; (i = indexOfMagic(piece, i)) >= 0; i++) {
        if (this.#headerAt(at + i)) return true;
      }
    }
    return false;
  }

  #headerAt(offset: number): BlockHeader | undefined {
    if (offset + BLOCK_HEADER_BYTES > this.#size) return undefined;
    try {
      const bytes = this.#read(offset, BLOCK_HEADER_BYTES);
      return decodeBlockHeader(bytes, this.path, offset, this.#seed);
    } catch (error) {
      if (error instanceof FormatError) return undefined;
      throw error;
    }
  }

  /** Reads exactly `length` bytes into the shared buffer. */
  #read(offset: number, length: number): Uint8Array {
    if (length > this.#buffer.length) this.#buffer = new Uint8Array(length);
    const into = this.#buffer.subarray(0, length);
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    for (let at = 0; at < length;) {
      const n = this.#file.readSync(into.subarray(at));
      if (n === null) throw new FormatError(this.path, offset + at, "the file became shorter");
      at += n;
    }
    return into;
  }
}

function indexOfMagic(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(BLOCK_MAGIC[0]!, from); at >= 0;) {
    if (equalBytes(bytes.subarray(at, at + BLOCK_MAGIC.length), BLOCK_MAGIC)) return at;
    at = bytes.indexOf(BLOCK_MAGIC[0]!, at + 1);
  }
  return -1;
}
