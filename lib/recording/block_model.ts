/**
 * What is expected of a log's blocks: codes the columns of one, and learns from each for the next.
 *
 * ```
 * columns ─▶ BlockModel ─▶ decisions ─▶ RangeEncoder ─▶ the payload's last part
 *               events │ heads of sent frames │ all other columns as bytes
 * ```
 * A block after which the model is reset can be decoded without those before it. `FORMAT.md`, "The model".
 */
import { ByteReader } from "../bytes/byte_reader.ts";
import { FormatError } from "../errors.ts";
import { Column, COLUMNS } from "./block_columns.ts";
import { ByteModel } from "./byte_model.ts";
import { EventModel } from "./event_model.ts";
import { EventSymbols, SYMBOLS_MAX } from "./event_symbols.ts";
import { HeadModel } from "./head_model.ts";
import type { BitCoder } from "./range_coder.ts";

const COUNT_BITS = 15;

/** Whether the model codes a column; the others are stored by themselves. */
export function isModelled(column: number): boolean {
  return column !== Column.frames && column !== Column.sendHashes;
}

export class BlockModel {
  readonly #bytes = new ByteModel();
  readonly #events = new EventModel(this.#bytes);
  readonly #heads = new HeadModel();
  readonly #symbols = new EventSymbols();

  /** Forgets everything. */
  reset(): void {
    this.#bytes.reset();
    this.#events.reset();
    this.#heads.reset();
  }

  /**
   * Codes the modelled ones of a block's columns, which a decoder gives as arrays of the right lengths.
   * @param file what errors name
   * @throws {FormatError} where a decoder reads what no encoder writes
   */
  code(coder: BitCoder, columns: readonly Uint8Array[], file: string): void {
    for (let i = 0; i < COLUMNS; i++) {
      const column = columns[i]!;
      if (column.length === 0 || !isModelled(i)) continue;
      if (i === Column.events) this.#codeEvents(coder, column, file);
      else if (i === Column.heads) this.#codeHeads(coder, columns, file);
      else this.#bytes.code(coder, i, column);
    }
  }

  #codeEvents(coder: BitCoder, column: Uint8Array, file: string): void {
    const symbols = this.#symbols;
    for (let at = 0; at < column.length;) {
      const end = coder.decoding ? at : symbols.parse(column, at);
      symbols.count = coder.direct(symbols.count, COUNT_BITS);
      if (symbols.count === 0 || symbols.count > SYMBOLS_MAX) {
        throw new FormatError(file, at, `${symbols.count} events in one part of the column`);
      }
      this.#events.code(coder, symbols);
      at = coder.decoding ? symbols.join(column, at, file) : end;
    }
  }

  #codeHeads(coder: BitCoder, columns: readonly Uint8Array[], file: string): void {
    const heads = columns[Column.heads]!;
    const frameLengths = new ByteReader(columns[Column.sendLengths]!, file);
    const headLengths = new ByteReader(columns[Column.headLengths]!, file);
    for (let at = 0; at < heads.length;) {
      const frameLength = frameLengths.varint();
      const headLength = headLengths.varint();
      if (headLength > heads.length - at) {
        throw new FormatError(file, at, `a head of ${headLength} bytes in ${heads.length - at}`);
      }
      if (headLength === 0) continue;
      this.#heads.code(coder, heads.subarray(at, at + headLength), frameLength);
      at += headLength;
    }
  }
}
