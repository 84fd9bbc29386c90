/**
 * The payload of one block in, its items out to a visitor. Layout: `FORMAT.md`, "Payload of an items
 * block". Checksums have been verified before; what is refused here was written wrong.
 */
import type { z } from "zod";
import type { ByteReader } from "../bytes/byte_reader.ts";
import { FormatError, messageOf } from "../errors.ts";
import type { VmNumber } from "../units.ts";
import { Column, HEADER_KEY_BYTES, Item, ITEM_KIND_BITS } from "./block_columns.ts";
import type { ColumnUnpacker } from "./column_unpacker.ts";
import {
  type CheckPoint,
  checkPointSchema,
  FRAME_HASH_BYTES,
  type HybridBlock,
  type HybridVisitor,
  RR_FRAME_HEADER_BYTES,
} from "./hybrid_log.ts";
import { sha256 } from "./manifest.ts";
import type { BlockHeader } from "./segment_layout.ts";

/** The last version whose checks have the RAM's SHA-256. */
const CHECKS_SHA256_VERSION_MAX = 3;
const checkSha256Schema = checkPointSchema
  .omit({ ramDigest: true })
  .extend({ ramSha256: sha256 })
  .transform(({ ramSha256, ...check }): CheckPoint => ({
    ...check,
    ramDigest: `sha256:${ramSha256}`,
  }));

/** What a block held. */
export interface BlockContents {
  readonly sends: number;
  readonly receives: number;
  /** The end item's flag; `undefined` where the log goes on. */
  readonly complete: boolean | undefined;
}

/**
 * Decodes `payload` and hands its items to `visitor`.
 * @param header of the block
 * @param version of the segment
 * @param unpacker what has unpacked the blocks before
 * @throws {FormatError} naming the column; anything the visitor throws
 */
export function decodeBlock(
  payload: Uint8Array,
  header: Pick<BlockHeader, "number" | "rawBytes" | "goesOn">,
  version: number,
  block: HybridBlock,
  unpacker: ColumnUnpacker,
  visitor: HybridVisitor,
): BlockContents {
  const label = `${block.file} (block ${block.index} at ${block.offset})`;
  const columns = unpacker.unpack(payload, header, version, label);
  const checkSchema = version <= CHECKS_SHA256_VERSION_MAX ? checkSha256Schema : checkPointSchema;
  return new BlockDecoder(columns, block, checkSchema).visit(visitor);
}

class BlockDecoder {
  readonly #header = new Uint8Array(RR_FRAME_HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #headers: Uint8Array[] = [];
  readonly #lastNumbers = new Map<VmNumber, number>();
  #sends = 0;
  #receives = 0;
  #receiveTime = 0n;
  #sendTime = 0n;
  #epoch = 0;
  #epochIcount = 0;
  #complete: boolean | undefined;

  constructor(
    readonly columns: readonly ByteReader[],
    readonly block: HybridBlock,
    readonly checkSchema: z.ZodType<CheckPoint>,
  ) {
    const headers = this.#column(Column.headers);
    while (headers.remaining > 0) this.#headers.push(headers.bytes(HEADER_KEY_BYTES));
  }

  visit(visitor: HybridVisitor): BlockContents {
    const items = this.#column(Column.items);
    while (items.remaining > 0) {
      const at = items.offset;
      const byte = items.u8();
      if (!this.#item(byte & 7, byte >> ITEM_KIND_BITS, visitor)) {
        throw new FormatError(items.file, at, `no such item: ${byte}`);
      }
    }
    for (const column of this.columns) column.end("the column");
    return { sends: this.#sends, receives: this.#receives, complete: this.#complete };
  }

  /** Hands one item over; false: there is no such item. */
  #item(kind: number, argument: number, visitor: HybridVisitor): boolean {
    switch (kind) {
      case Item.events: {
        if (argument !== 0) return false;
        const runs = this.#column(Column.runs);
        const at = runs.offset;
        const length = runs.varint();
        if (length === 0) throw new FormatError(runs.file, at, "an empty run of events");
        visitor.events(this.#column(Column.events).bytes(length));
        return true;
      }
      case Item.reference: {
        if (argument >= this.#headers.length) return false;
        this.#rebuildHeader(argument);
        const source = this.#column(Column.sources).varint();
        const number = this.#sendNumber(source);
        visitor.reference(this.#header, source, number, this.#nextReceiveTime());
        return true;
      }
      case Item.external:
      case Item.unmatched: {
        if (argument >= this.#headers.length) return false;
        const payload = this.#column(Column.frames).bytes(this.#rebuildHeader(argument));
        const origin = kind === Item.external ? "external" : "unmatched";
        visitor.frame(this.#header, payload, this.#nextReceiveTime(), origin);
        return true;
      }
      case Item.send:
        if (argument !== 0) return false;
        this.#send(visitor);
        return true;
      case Item.check:
        if (argument !== 0) return false;
        visitor.check(this.#check());
        return true;
      case Item.epoch:
        if (argument !== 0) return false;
        this.#epoch += this.#column(Column.epochs).varint();
        this.#epochIcount += this.#column(Column.epochs).varint();
        visitor.epoch(this.#epoch, this.#epochIcount);
        return true;
      case Item.end:
        if (argument > 1) return false;
        this.#column(Column.items).end("the log: its end is not the last item");
        this.#complete = argument === 1;
        visitor.end(this.#complete, this.#column(Column.runs).varint());
        return true;
      default:
        return false;
    }
  }

  /** Makes `#header` that of the next received frame; returns the frame's length. */
  #rebuildHeader(index: number): number {
    const lengths = this.#column(Column.lengths);
    const at = lengths.offset;
    const length = lengths.varint();
    if (length > 0xffff_ffff) throw new FormatError(lengths.file, at, `frame of ${length} bytes`);
    this.#header.set(this.#headers[index]!);
    this.#headerView.setUint32(HEADER_KEY_BYTES, length); // big-endian, as in the rr log
    return length;
  }

  #nextReceiveTime(): bigint {
    this.#receives++;
    const delta = this.#column(Column.receiveTimes).zigzag();
    return this.#receiveTime = BigInt.asUintN(64, this.#receiveTime + delta);
  }

  #sendNumber(source: VmNumber): number {
    const numbers = this.#column(Column.numbers);
    const at = numbers.offset;
    const expected = (this.#lastNumbers.get(source) ?? -1) + 1;
    const number = Number(BigInt(expected) + numbers.zigzag());
    if (number < 0 || !Number.isSafeInteger(number)) {
      throw new FormatError(numbers.file, at, `not a send number: ${number}`);
    }
    this.#lastNumbers.set(source, number);
    return number;
  }

  #send(visitor: HybridVisitor): void {
    const length = this.#column(Column.sendLengths).varint();
    const delta = this.#column(Column.sendTimes).zigzag();
    this.#sendTime = BigInt.asUintN(64, this.#sendTime + delta);
    const hash = this.#column(Column.sendHashes).bytes(FRAME_HASH_BYTES);
    const head = this.#column(Column.heads).bytes(this.#column(Column.headLengths).varint());
    const number = this.block.sends + this.#sends++;
    visitor.send(number, length, hash, this.#sendTime, head);
  }

  #check(): CheckPoint {
    const checks = this.#column(Column.checks);
    const at = checks.offset;
    const bytes = checks.bytes(checks.varint());
    try {
      return this.checkSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
    } catch (cause) {
      throw new FormatError(checks.file, at, `not a check: ${messageOf(cause)}`, { cause });
    }
  }

  #column(index: number): ByteReader {
    return this.columns[index]!;
  }
}
