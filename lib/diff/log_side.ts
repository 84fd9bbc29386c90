/**
 * One side of a comparison: a hybrid log, block by block, as a cursor over its items.
 *
 * One block is in memory at a time (512 KiB of items, more only where one event or frame is larger).
 * Damage is an end as well: what stands before it can still be compared.
 */
import { hash } from "node:crypto";
import { FormatError } from "../errors.ts";
import type { CheckPoint, FrameOrigin, HybridVisitor } from "../recording/hybrid_log.ts";
import { HybridLogReader } from "../recording/hybrid_log_reader.ts";
import { type Checked, checkedOf, type Ended, type Received, type Sent } from "./observation.ts";

/** A run of whole rr events. */
export interface Run {
  readonly item: "events";
  readonly bytes: Uint8Array;
}

/** The VM's cut of an epoch: it says when this was, and is no part of what the VM did. */
export interface EpochMark {
  readonly item: "epoch";
  readonly epoch: number;
}

export type LogItem = Run | Received | Sent | Checked | EpochMark | Ended;

/** Opens a log from its beginning. */
export type OpenLog = () => HybridLogReader;

export class LogSide {
  /** Bytes of the current run that have been passed. */
  offset = 0;
  #items: LogItem[] = [];
  #at = 0;
  #reader: HybridLogReader | undefined;
  #ended: Ended | undefined;

  constructor(private readonly open: OpenLog) {}

  /** Whether `load` has to be called before `current`. */
  get empty(): boolean {
    return this.#at >= this.#items.length;
  }

  /** The item at the cursor; the last one, an end, stays. */
  get current(): LogItem {
    const item = this.#items[this.#at];
    if (item === undefined) throw new Error("no block is loaded");
    return item;
  }

  /** Instructions before the block that was loaded last. */
  get blockIcount(): number {
    return this.#reader?.block?.firstIcount ?? 0;
  }

  /** What is left of the current run. */
  rest(): Uint8Array {
    const { current } = this;
    if (current.item !== "events") throw new Error("the cursor does not stand at events");
    return this.offset === 0 ? current.bytes : current.bytes.subarray(this.offset);
  }

  /** Passes the current item. */
  pass(): void {
    if (this.current.item === "end") throw new Error("nothing follows the end");
    this.offset = 0;
    this.#at++;
  }

  /** Passes `bytes` of the current run. */
  passBytes(bytes: number): void {
    this.offset += bytes;
    const { current } = this;
    if (current.item === "events" && this.offset >= current.bytes.length) this.pass();
  }

  /** Takes the next block into memory, or the end. */
  load(): void {
    const items: LogItem[] = [];
    this.#at = 0;
    this.#items = items;
    try {
      this.#reader ??= this.open();
      while (items.length === 0) {
        if (this.#ended !== undefined) items.push(this.#ended);
        else if (!this.#reader.nextBlock(new ItemCollector(items))) {
          const { complete, reason } = this.#reader.ending;
          this.#ended = { item: "end", complete, reason };
        }
      }
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.#ended = { item: "end", complete: false, reason: "damaged", damage: error.message };
      items.splice(0, Infinity, this.#ended); // whole blocks only
    }
  }

  close(): void {
    this.#reader?.close();
  }
}

/** Room for many small copies: an array of its own for each would cost more than reading the log. */
const ARENA_BYTES = 128 << 10;

/** Keeps copies of a block's items: the reader's bytes are only lent. */
class ItemCollector implements HybridVisitor {
  #arena = new Uint8Array(0);
  #used = 0;

  constructor(private readonly items: LogItem[]) {}

  #copy(bytes: Uint8Array): Uint8Array {
    if (this.#used + bytes.length > this.#arena.length) {
      this.#arena = new Uint8Array(Math.max(ARENA_BYTES, bytes.length));
      this.#used = 0;
    }
    const copy = this.#arena.subarray(this.#used, this.#used += bytes.length);
    copy.set(bytes);
    return copy;
  }

  events(bytes: Uint8Array): void {
    this.items.push({ item: "events", bytes: this.#copy(bytes) });
  }

  reference(header: Uint8Array, source: number, number: number, lamport: bigint): void {
    const content = { stored: "reference", source, number } as const;
    this.items.push({ item: "receive", header: this.#copy(header), lamport, content });
  }

  frame(header: Uint8Array, payload: Uint8Array, lamport: bigint, stored: FrameOrigin): void {
    const content = { stored, payload: this.#copy(payload) };
    this.items.push({ item: "receive", header: this.#copy(header), lamport, content });
  }

  send(n: number, length: number, hash: Uint8Array, lamport: bigint, head: Uint8Array): void {
    const bytes = { hash: this.#copy(hash), head: this.#copy(head) };
    this.items.push({ item: "send", number: n, length, lamport, ...bytes });
  }

  check(check: CheckPoint): void {
    this.items.push(checkedOf(check, (text) => hash("sha256", text)));
  }

  epoch(epoch: number): void {
    this.items.push({ item: "epoch", epoch });
  }

  end(): void {} // the reader's `ending` says more
}
