/**
 * The payload of one block in, its columns out: from version 3 on by the model that the blocks before have
 * taught, version 2 by zstd. Layout: `FORMAT.md`, "Payload of an items block".
 */
import { zstdDecompressSync } from "node:zlib";
import { ByteReader } from "../bytes/byte_reader.ts";
import { FormatError, messageOf } from "../errors.ts";
import { Column, COLUMN_NAMES, COLUMNS } from "./block_columns.ts";
import { BlockModel, isModelled } from "./block_model.ts";
import { RangeDecoder } from "./range_coder.ts";
import type { BlockHeader } from "./segment_layout.ts";

/** The last version whose columns zstd compresses one by one. */
const ZSTD_COLUMNS_VERSION = 2;

/** Unpacks the blocks of one log, in order; a block that goes on needs the one before. */
export class ColumnUnpacker {
  #model: BlockModel | undefined;
  /** The block that the model is ready for. */
  #next = -1;

  /**
   * @param version of the segment
   * @param label names the block in errors
   * @throws {FormatError} naming the column
   */
  unpack(
    payload: Uint8Array,
    header: Pick<BlockHeader, "number" | "rawBytes" | "goesOn">,
    version: number,
    label: string,
  ): ByteReader[] {
    const table = new ByteReader(payload, `${label}, payload`);
    const columns = version === ZSTD_COLUMNS_VERSION
      ? unpackCompressed(table, header.rawBytes, label)
      : this.#unpackModelled(table, header, label);
    return columns.map((column, i) => new ByteReader(column, nameOf(label, i)));
  }

  #unpackModelled(
    table: ByteReader,
    { number, rawBytes, goesOn }: Pick<BlockHeader, "number" | "rawBytes" | "goesOn">,
    label: string,
  ): Uint8Array[] {
    if (goesOn && this.#next !== number) {
      throw new FormatError(table.file, 0, "the block goes on from one that was not read");
    }
    this.#next = -1; // until it has been read
    let framesStored = 0;
    const lengths = Array.from({ length: COLUMNS }, (_, i) => {
      const length = table.varint();
      if (i === Column.frames && length > 0) framesStored = table.varint();
      return length;
    });
    requireSum(table, lengths, rawBytes);
    const frames = unpackColumn(table, lengths[Column.frames]!, framesStored, label, Column.frames);
    const hashes = table.bytes(lengths[Column.sendHashes]!);
    const columns = lengths.map((length, i) =>
      isModelled(i) ? new Uint8Array(length) : i === Column.frames ? frames : hashes
    );
    if (this.#model === undefined) this.#model = new BlockModel();
    else if (!goesOn) this.#model.reset();
    const at = table.offset;
    const coder = new RangeDecoder(table.bytes(table.remaining), table.file, at);
    this.#model.code(coder, columns, label);
    coder.end();
    this.#next = number + 1;
    return columns;
  }
}

/** Of version 2: each column by itself. */
function unpackCompressed(table: ByteReader, rawBytes: number, label: string): Uint8Array[] {
  const lengths = Array.from({ length: COLUMNS }, () => {
    const raw = table.varint();
    return { raw, stored: raw === 0 ? 0 : table.varint() };
  });
  requireSum(table, lengths.map(({ raw }) => raw), rawBytes);
  const columns = lengths.map(({ raw, stored }, i) => unpackColumn(table, raw, stored, label, i));
  table.end("the payload");
  return columns;
}

function requireSum(table: ByteReader, lengths: readonly number[], rawBytes: number): void {
  const sum = lengths.reduce((total, length) => total + length, 0);
  if (sum === rawBytes) return;
  throw new FormatError(table.file, 0, `columns of ${sum} bytes, ${rawBytes} in the header`);
}

/** The next column of `table`: stored as it is, or one zstd frame. */
function unpackColumn(
  table: ByteReader,
  rawBytes: number,
  storedBytes: number,
  label: string,
  column: number,
): Uint8Array {
  const stored = table.bytes(storedBytes);
  if (storedBytes === rawBytes) return stored;
  const name = nameOf(label, column);
  let raw: Uint8Array;
  try {
    raw = zstdDecompressSync(stored, { maxOutputLength: rawBytes });
  } catch (cause) {
    throw new FormatError(name, 0, `zstd: ${messageOf(cause)}`, { cause });
  }
  if (raw.length !== rawBytes) {
    throw new FormatError(name, 0, `${rawBytes} bytes expected, ${raw.length} unpacked`);
  }
  return raw;
}

function nameOf(label: string, column: number): string {
  return `${label}, column "${COLUMN_NAMES[column]}"`;
}
