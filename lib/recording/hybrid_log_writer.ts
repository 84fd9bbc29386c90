/**
 * Writes the hybrid log of one VM: items in, blocks out to segment files.
 *
 * ```
 * items ─▶ BlockEncoder ─(512 KiB, or flush)─▶ block ─▶ SegmentWriter ─(64 MiB)─▶ next segment
 * ```
 *
 * Everything is synchronous, so a recorder that cannot keep up holds its VM back instead of dropping.
 * After a failed write the log stands at its last whole block; every call but `close` then throws the
 * same error again.
 */
import { crc32 } from "node:zlib";
import { ByteWriter } from "../bytes/byte_writer.ts";
import type { VmNumber } from "../units.ts";
import { BLOCK_RAW_BYTES_MAX } from "./block_columns.ts";
import { BlockEncoder } from "./block_encoder.ts";
import {
  type CheckPoint,
  type FrameOrigin,
  type HybridCounts,
  type HybridTotals,
  RR_FRAME_HEADER_BYTES,
  type SegmentSummary,
} from "./hybrid_log.ts";
import { BLOCK_HEADER_BYTES, encodeBlockHeader, encodeIndex } from "./segment_layout.ts";
import { SegmentWriter } from "./segment_writer.ts";

export interface HybridLogOptions {
  readonly vm: VmNumber;
  /** The rr log's version word. */
  readonly rrLogVersion: number;
  /** The instruction count at which the log starts: more than 0 after a start from a snapshot. */
  readonly firstIcount?: number;
  /** zstd's. Default {@link COMPRESSION_LEVEL}. */
  readonly compressionLevel?: number;
  /** A block is written when its columns reach this. Default 512 KiB. */
  readonly blockBytes?: number;
  /** A segment that has reached this is followed by another. Default 64 MiB. */
  readonly segmentBytes?: number;
  /** A block is readable by itself after so many bytes of columns. Default 4 MiB. */
  readonly freshEveryBytes?: number;
}

export const COMPRESSION_LEVEL = 3;
export const BLOCK_BYTES = 512 << 10;
const SEGMENT_BYTES = 64 << 20;
/** A block is readable by itself after so many bytes of columns: the most that a seek decodes in vain. */
export const FRESH_EVERY_BYTES = 4 << 20;

type Counts = { -readonly [K in keyof HybridCounts]: HybridCounts[K] } & { icount: number };

const NOTHING: Counts = {
  rrLogBytes: 0,
  hybridBytes: 0,
  framesInternal: 0,
  framesExternal: 0,
  framesUnmatched: 0,
  framesSent: 0,
  checks: 0,
  epochs: 0,
  icount: 0,
};

export class HybridLogWriter {
  readonly #dir: string;
  readonly #options: HybridLogOptions;
  readonly #encoder: BlockEncoder;
  readonly #blockBytes: number;
  readonly #segmentBytes: number;
  readonly #freshEveryBytes: number;
  /** Bytes of columns since the last block that is readable by itself. */
  #sinceFresh = Infinity;
  readonly #logId = crypto.getRandomValues(new BigUint64Array(1))[0]!;
  readonly #record = new ByteWriter(BLOCK_BYTES);
  readonly #finished: SegmentSummary[] = [];
  #segment: SegmentWriter | undefined;
  /** What the written blocks hold, and what they and the block in the making hold. */
  #written: Counts = { ...NOTHING };
  #counts: Counts = { ...NOTHING };
  #blocks = 0;
  #segments = 0;
  #failure: Error | undefined;
  #ended = false;
  #totals: HybridTotals | undefined;

  /**
   * Starts a log in `dir`, the VM's directory, which is made if it is missing.
   * @throws {ClusterrrError} where a log is there already; {HostError}
   */
  constructor(dir: string, options: HybridLogOptions) {
    this.#dir = dir;
    this.#options = options;
    this.#encoder = new BlockEncoder(options.compressionLevel ?? COMPRESSION_LEVEL);
    this.#written.icount = this.#counts.icount = options.firstIcount ?? 0;
    this.#blockBytes = options.blockBytes ?? BLOCK_BYTES;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.#freshEveryBytes = options.freshEveryBytes ?? FRESH_EVERY_BYTES;
    Deno.mkdirSync(dir, { recursive: true });
    this.#segment = this.#startSegment();
  }

  /** Bytes in the files so far. */
  get storedBytes(): number {
    return this.#finished.reduce((sum, { bytes }) => sum + bytes, this.#segment?.bytes ?? 0);
  }

  /** What the log holds so far, unwritten items included; `hybridBytes` is that of written blocks. */
  get counts(): HybridCounts {
    return { ...this.#counts };
  }

  /** Appends the whole rr events `bytes[start, end)`; `icount` is the instruction count after them. */
  events(bytes: Uint8Array, start: number, end: number, icount: number): void {
    if (end <= start) return;
    this.#makeRoom(end - start);
    this.#encoder.events(bytes, start, end);
    this.#counts.rrLogBytes += end - start;
    this.#counts.icount = icount;
    this.#added();
  }

  /**
   * Appends a received frame as a reference to the frame `sendNumber` of VM `source`.
   * @param header the frame's 10 header bytes in the rr log
   */
  reference(header: Uint8Array, source: VmNumber, sendNumber: number, lamport: bigint): void {
    this.#makeRoom(0);
    const length = this.#encoder.reference(header, source, sendNumber, lamport);
    this.#counts.rrLogBytes += RR_FRAME_HEADER_BYTES + length;
    this.#counts.framesInternal++;
    this.#added();
  }

  /** Appends a received frame whole. */
  frame(header: Uint8Array, payload: Uint8Array, lamport: bigint, origin: FrameOrigin): void {
    this.#makeRoom(payload.length);
    this.#encoder.frame(header, payload, lamport, origin);
    this.#counts.rrLogBytes += RR_FRAME_HEADER_BYTES + payload.length;
    if (origin === "external") this.#counts.framesExternal++;
    else this.#counts.framesUnmatched++;
    this.#added();
  }

  /**
   * Appends the VM's next send; its number is the count of those before.
   * @param hash 8 bytes
   * @param head the frame's first bytes, for reports of a divergence
   */
  send(length: number, hash: Uint8Array, lamport: bigint, head?: Uint8Array): void {
    this.#makeRoom(0);
    this.#encoder.send(length, hash, lamport, head);
    this.#counts.framesSent++;
    this.#added();
  }

  check(check: CheckPoint): void {
    this.#makeRoom(0);
    this.#encoder.check(check);
    this.#counts.checks++;
    this.#added();
  }

  /** Appends the VM's cut of `epoch`, higher than the one before. */
  epoch(epoch: number): void {
    this.#makeRoom(0);
    this.#encoder.epoch(epoch, this.#counts.icount);
    this.#counts.epochs++;
    this.#added();
  }

  /** Completes a block now, so that a crash loses nothing of what came before. @throws {HostError} */
  flush(): void {
    if (this.#failure) throw this.#failure;
    if (!this.#encoder.empty) this.#guarded(() => this.#writeBlock());
  }

  /**
   * Ends the log. Never throws because of a disk that failed: the totals then say `complete: false`,
   * and `closed: false` where not even the end could be written.
   * @param complete whether the rr log was recorded to its end
   */
  close(complete: boolean): HybridTotals {
    if (this.#totals) return this.#totals;
    if (!this.#failure) {
      try {
        this.flush();
      } catch {
        // `#failure` is set: the log ends at its last whole block.
      }
    }
    const whole = complete && !this.#failure;
    this.#writeEnd(whole);
    // Without an end it goes on in a segment that could not be begun.
    const closed = this.#ended && this.#segment === undefined;
    if (this.#segment) this.#finished.push(this.#segment.close());
    const { icount, ...counts } = this.#written;
    return this.#totals = {
      ...counts,
      icount,
      storedBytes: this.#finished.reduce((sum, { bytes }) => sum + bytes, 0),
      segments: this.#finished,
      complete: whole && this.#ended,
      closed,
    };
  }

  #makeRoom(bytes: number): void {
    if (this.#totals) throw new Error("the hybrid log is closed");
    if (this.#failure) throw this.#failure;
    // Never more than a block can hold; only for frames or events of many MiB.
    if (this.#encoder.rawBytes + bytes > BLOCK_RAW_BYTES_MAX / 2) this.flush();
  }

  #added(): void {
    if (this.#encoder.rawBytes >= this.#blockBytes || this.#encoder.headersFull) this.flush();
  }

  /** Runs `write`; a failure takes the log back to its last whole block, for good. */
  #guarded(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#failure = error as Error;
      this.#encoder.discard();
      this.#sinceFresh = Infinity; // the model has learnt what nobody will read
      this.#counts = { ...this.#written };
      throw error;
    }
  }

  #writeBlock(): void {
    if (!this.#segment || this.#segment.bytes >= this.#segmentBytes) {
      this.#finishSegment();
      this.#segment = this.#startSegment();
    }
    const segment = this.#segment;
    const offset = segment.bytes;
    const fresh = segment.entries.length === 0 || this.#sinceFresh >= this.#freshEveryBytes;
    const rawBytes = this.#encodeBlock(
      "items",
      !fresh,
      segment.seed,
      (out) => this.#encoder.finish(out, fresh),
    );
    segment.append(this.#record.view());
    const { icount, framesSent } = this.#written;
    const receives = receivesOf(this.#written);
    segment.entries.push({ offset, firstIcount: icount, sends: framesSent, receives });
    this.#counts.hybridBytes += rawBytes;
    this.#sinceFresh = (fresh ? 0 : this.#sinceFresh) + rawBytes;
    this.#written = { ...this.#counts };
    this.#blocks++;
  }

  /** Makes `#record` a block whose payload `encode` appends; returns the payload's raw bytes. */
  #encodeBlock(
    type: "items" | "index",
    goesOn: boolean,
    seed: number,
    encode: (out: ByteWriter) => number,
  ): number {
    const record = this.#record;
    record.reset();
    record.bytes(PLACEHOLDER);
    const rawBytes = encode(record);
    const payload = record.view().subarray(BLOCK_HEADER_BYTES);
    const header = new ByteWriter(BLOCK_HEADER_BYTES);
    encodeBlockHeader(header, {
      type,
      goesOn,
      number: this.#blocks,
      storedBytes: payload.length,
      rawBytes,
      payloadCrc: crc32(payload, seed),
      firstIcount: this.#written.icount,
      sends: this.#written.framesSent,
      receives: receivesOf(this.#written),
    }, seed);
    record.view().set(header.view());
    return rawBytes;
  }

  #startSegment(): SegmentWriter {
    const segment = new SegmentWriter(this.#dir, {
      vm: this.#options.vm,
      number: this.#segments,
      rrLogVersion: this.#options.rrLogVersion,
      logId: this.#logId,
      firstIcount: this.#written.icount,
      firstBlock: this.#blocks,
    });
    this.#segments++;
    return segment;
  }

  #finishSegment(): void {
    const segment = this.#segment;
    if (!segment) return;
    this.#encodeBlock("index", false, segment.seed, (out) => {
      const before = out.length;
      encodeIndex(out, segment.entries);
      return out.length - before;
    });
    segment.finish(this.#record.view());
    this.#finished.push(segment.close());
    this.#segment = undefined;
  }

  /** Writes the end item, index and footer, as far as the disk takes them. */
  #writeEnd(complete: boolean): void {
    try {
      this.#guarded(() => {
        this.#encoder.end(complete, this.#written.icount);
        this.#writeBlock();
        this.#ended = true;
        this.#finishSegment();
      });
    } catch {
      // `#ended` and an unfinished segment tell `close` how far it came.
    }
  }
}

const PLACEHOLDER = new Uint8Array(BLOCK_HEADER_BYTES);

function receivesOf(counts: HybridCounts): number {
  return counts.framesInternal + counts.framesExternal + counts.framesUnmatched;
}
