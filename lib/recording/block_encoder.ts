/**
 * Items in, the payload of one block out: each item is spread over columns of its like, and what a model
 * learnt from the blocks before codes them. Layout: `FORMAT.md`, "Payload of an items block".
 */
import { ByteWriter } from "../bytes/byte_writer.ts";
import type { VmNumber } from "../units.ts";
import {
  BLOCK_RAW_BYTES_MAX,
  Column,
  COLUMNS,
  HEADER_KEY_BYTES,
  HEADERS_MAX,
  Item,
  ITEM_KIND_BITS,
} from "./block_columns.ts";
import { ColumnPacker } from "./column_packer.ts";
import {
  type CheckPoint,
  FRAME_HASH_BYTES,
  type FrameOrigin,
  RR_FRAME_HEADER_BYTES,
} from "./hybrid_log.ts";

const EMPTY = new Uint8Array(0);

/** Collects items until `finish` turns them into a payload; then starts over. */
export class BlockEncoder {
  readonly #columns = Array.from({ length: COLUMNS }, () => new ByteWriter());
  readonly #headers = new Map<number, number>();
  readonly #lastNumbers = new Map<VmNumber, number>();
  readonly #text = new TextEncoder();
  readonly #packer: ColumnPacker;
  #run = 0;
  #receiveTime = 0n;
  #sendTime = 0n;
  #epoch = 0;
  #epochIcount = 0;

  constructor(compressionLevel: number) {
    this.#packer = new ColumnPacker(compressionLevel);
  }

  get empty(): boolean {
    return this.#run === 0 && this.#column(Column.items).length === 0;
  }

  /** Bytes of all columns before compression. */
  get rawBytes(): number {
    let sum = 0;
    for (const column of this.#columns) sum += column.length;
    return sum;
  }

  /** No further distinct rr header fits. */
  get headersFull(): boolean {
    return this.#headers.size >= HEADERS_MAX;
  }

  events(bytes: Uint8Array, start: number, end: number): void {
    this.#column(Column.events).bytes(bytes, start, end);
    this.#run += end - start;
  }

  /** Returns the length that `header` states. */
  reference(header: Uint8Array, source: VmNumber, sendNumber: number, lamport: bigint): number {
    const length = this.#receive(Item.reference, header, lamport);
    this.#column(Column.sources).varint(source);
    const expected = (this.#lastNumbers.get(source) ?? -1) + 1;
    this.#column(Column.numbers).zigzag(BigInt(sendNumber) - BigInt(expected));
    this.#lastNumbers.set(source, sendNumber);
    return length;
  }

  frame(header: Uint8Array, payload: Uint8Array, lamport: bigint, origin: FrameOrigin): void {
    const length = this.#receive(Item[origin], header, lamport);
    if (payload.length !== length) {
      throw new Error(`frame of ${payload.length} bytes under a header that says ${length}`);
    }
    this.#column(Column.frames).bytes(payload);
  }

  /** Does not end the run of events: a send may stand before its run. */
  send(length: number, hash: Uint8Array, lamport: bigint, head: Uint8Array = EMPTY): void {
    if (hash.length !== FRAME_HASH_BYTES) throw new Error(`hash of ${hash.length} bytes`);
    this.#column(Column.items).u8(Item.send);
    this.#column(Column.sendLengths).varint(length);
    this.#column(Column.sendTimes).zigzag(BigInt.asIntN(64, lamport - this.#sendTime));
    this.#sendTime = lamport;
    this.#column(Column.sendHashes).bytes(hash);
    this.#column(Column.headLengths).varint(head.length);
    this.#column(Column.heads).bytes(head);
  }

  check(check: CheckPoint): void {
    this.#endRun();
    this.#column(Column.items).u8(Item.check);
    const json = this.#text.encode(JSON.stringify(check));
    this.#column(Column.checks).varint(json.length);
    this.#column(Column.checks).bytes(json);
  }

  /** Epochs rise. */
  epoch(epoch: number, icount: number): void {
    this.#endRun();
    this.#column(Column.items).u8(Item.epoch);
    this.#column(Column.epochs).varint(epoch - this.#epoch);
    this.#column(Column.epochs).varint(icount - this.#epochIcount);
    this.#epoch = epoch;
    this.#epochIcount = icount;
  }

  end(complete: boolean, icount: number): void {
    this.#endRun();
    this.#column(Column.items).u8(Item.end | (complete ? 1 : 0) << ITEM_KIND_BITS);
    this.#column(Column.runs).varint(icount);
  }

  /**
   * Appends the payload to `out`, starts over, and returns the bytes of all columns.
   * @param fresh whether the block is to be readable without those before it; the first one has to be
   */
  finish(out: ByteWriter, fresh: boolean): number {
    this.#endRun();
    const rawBytes = this.rawBytes;
    if (rawBytes > BLOCK_RAW_BYTES_MAX) throw new Error(`block of ${rawBytes} bytes`);
    this.#packer.pack(out, this.#columns.map((column) => column.view()), fresh);
    this.discard();
    return rawBytes;
  }

  /** Forgets the items. */
  discard(): void {
    for (const column of this.#columns) column.reset();
    this.#headers.clear();
    this.#lastNumbers.clear();
    this.#run = 0;
    this.#receiveTime = 0n;
    this.#sendTime = 0n;
    this.#epoch = 0;
    this.#epochIcount = 0;
  }

  /** What all received frames have in common. Returns the length that the header states. */
  #receive(kind: number, header: Uint8Array, lamport: bigint): number {
    if (header.length !== RR_FRAME_HEADER_BYTES) {
      throw new Error(`rr frame header of ${header.length} bytes`);
    }
    this.#endRun();
    const key = (header[0]! << 8 | header[1]!) * 2 ** 32 + bigEndian(header, 2);
    let index = this.#headers.get(key);
    if (index === undefined) {
      index = this.#headers.size;
      if (index >= HEADERS_MAX) throw new Error("a block takes no further rr header");
      this.#headers.set(key, index);
      this.#column(Column.headers).bytes(header, 0, HEADER_KEY_BYTES);
    }
    this.#column(Column.items).u8(kind | index << ITEM_KIND_BITS);
    const length = bigEndian(header, HEADER_KEY_BYTES);
    this.#column(Column.lengths).varint(length);
    this.#column(Column.receiveTimes).zigzag(BigInt.asIntN(64, lamport - this.#receiveTime));
    this.#receiveTime = lamport;
    return length;
  }

  #endRun(): void {
    if (this.#run === 0) return;
    this.#column(Column.items).u8(Item.events);
    this.#column(Column.runs).varint(this.#run);
    this.#run = 0;
  }

  #column(index: number): ByteWriter {
    return this.#columns[index]!;
  }
}

function bigEndian(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}
