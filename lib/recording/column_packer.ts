/**
 * The columns of a block in, its payload out: what a model learnt from the blocks before codes them.
 * `ColumnUnpacker` is the way back. Layout: `FORMAT.md`, "Payload of an items block".
 */
import { constants, zstdCompressSync } from "node:zlib";
import type { ByteWriter } from "../bytes/byte_writer.ts";
import { Column } from "./block_columns.ts";
import { BlockModel } from "./block_model.ts";
import { RangeEncoder } from "./range_coder.ts";

/** Below this zstd gains less than its call costs (30 µs). */
const COMPRESSED_BYTES_MIN = 64;

/** Packs the blocks of one log, in order. */
export class ColumnPacker {
  #model: BlockModel | undefined;
  readonly #coder = new RangeEncoder();
  readonly #options: { readonly params: Record<number, number> };

  /** @param compressionLevel zstd's, for frames that are kept whole */
  constructor(compressionLevel: number) {
    this.#options = { params: { [constants.ZSTD_c_compressionLevel]: compressionLevel } };
  }

  /**
   * Appends the payload to `out`.
   * @param fresh whether the block is to be readable without those before it; the first one has to be
   */
  pack(out: ByteWriter, columns: readonly Uint8Array[], fresh: boolean): void {
    const frames = this.#compress(columns[Column.frames]!);
    for (const [i, { length }] of columns.entries()) {
      out.varint(length);
      if (i === Column.frames && length > 0) out.varint(frames.length);
    }
    out.bytes(frames);
    out.bytes(columns[Column.sendHashes]!);
    if (this.#model === undefined) this.#model = new BlockModel();
    else if (fresh) this.#model.reset();
    this.#model.code(this.#coder, columns, "the block");
    out.bytes(this.#coder.finish());
  }

  #compress(raw: Uint8Array): Uint8Array {
    if (raw.length < COMPRESSED_BYTES_MIN) return raw;
    const packed = zstdCompressSync(raw, this.#options);
    return packed.length < raw.length ? packed : raw;
  }
}
