/**
 * Reads the hybrid log of one VM: segment files in, items out to a visitor, one block at a time.
 *
 * A log that a crash cut off is read up to its last whole block, and `ending` says so. Damage is never
 * taken for an end: it throws. The rules: `FORMAT.md`, "After a crash".
 */
import { FormatError } from "../errors.ts";
import type { VmNumber } from "../units.ts";
import { decodeBlock } from "./block_decoder.ts";
import { ColumnUnpacker } from "./column_unpacker.ts";
import { type HybridBlock, type HybridVisitor, IGNORE_ITEMS, segmentName } from "./hybrid_log.ts";
import type { BlockHeader } from "./segment_layout.ts";
import { SegmentReader } from "./segment_reader.ts";

/** What the reader insists on. */
export interface HybridLogExpectation {
  readonly vm: VmNumber;
  /** The rr log's version word, where it is known. */
  readonly rrLogVersion?: number;
  /** The manifest says that the log was closed: being cut off is damage then. Default false. */
  readonly closed?: boolean;
  /**
   * The captured number of a frame that a reference names; without it, references name captured frames.
   * See `sendDrifts` in FORMAT.md.
   */
  readonly sendNumberOf?: (source: VmNumber, sendNumber: number) => number;
}

/** How a log ends. */
export interface HybridEnding {
  /** The rr log was recorded to its end. */
  readonly complete: boolean;
  /** For the user, e.g. `cut off: block 7 is cut off`. */
  readonly reason: string;
  readonly file: string;
  readonly offset: number;
}

export class HybridLogReader {
  readonly #dir: string;
  readonly #expect: HybridLogExpectation;
  /** How many segments there are. */
  readonly #segments: number;
  #segment: SegmentReader | undefined;
  #segmentNumber = -1;
  #logId: bigint | undefined;
  /** What the next block must state. */
  #next = { number: 0, sends: 0, receives: 0, icount: 0 };
  #block: HybridBlock | undefined;
  readonly #unpacker = new ColumnUnpacker();
  /** Blocks before this one are only read for what the later ones build on. */
  #firstWanted = 0;
  /** The end item's flag, once it was read. */
  #complete: boolean | undefined;
  #ending: HybridEnding | undefined;

  private constructor(dir: string, expect: HybridLogExpectation, segments: number) {
    this.#dir = dir;
    this.#expect = expect;
    this.#segments = segments;
  }

  /**
   * Opens the log in `dir`, a VM's directory.
   * @throws {FormatError} where a segment is missing, damaged or another VM's; {VersionError}
   */
  static open(dir: string, expect: HybridLogExpectation): HybridLogReader {
    const segments = countSegments(dir);
    if (segments === 0 && expect.closed) {
      throw new FormatError(`${dir}/${segmentName(0)}`, 0, "the segment is missing");
    }
    const reader = new HybridLogReader(dir, expect, segments);
    if (segments > 0) reader.#openSegment(0);
    return reader;
  }

  /** The block that `nextBlock` delivered last. */
  get block(): HybridBlock | undefined {
    return this.#block;
  }

  /** How the log ends; known once `nextBlock` has returned false. */
  get ending(): HybridEnding {
    if (!this.#ending) throw new Error("the end of the log has not been read yet");
    return this.#ending;
  }

  #translating(visitor: HybridVisitor): HybridVisitor {
    const { sendNumberOf } = this.#expect;
    if (sendNumberOf === undefined) return visitor;
    return {
      events: (bytes) => visitor.events(bytes),
      reference: (header, source, sendNumber, lamport) =>
        visitor.reference(header, source, sendNumberOf(source, sendNumber), lamport),
      frame: (header, payload, lamport, origin) => visitor.frame(header, payload, lamport, origin),
      send: (...send) => visitor.send(...send),
      check: (check) => visitor.check(check),
      epoch: (...epoch) => visitor.epoch(...epoch),
      end: (...end) => visitor.end(...end),
    };
  }

  /**
   * Hands the items of the next block to `visitor`; false at the end of the log.
   * @throws {FormatError} naming file and offset of damage; whatever the visitor throws
   */
  nextBlock(visitor: HybridVisitor): boolean {
    while (!this.#ending) {
      const segment = this.#segment;
      if (!segment) {
        this.#endCut(`${this.#dir}/${segmentName(0)}`, 0, "no segment was written");
        break;
      }
      const record = segment.next();
      if (record.kind === "block") {
        const wanted = record.header.number >= this.#firstWanted;
        const receiver = wanted ? this.#translating(visitor) : IGNORE_ITEMS;
        this.#deliver(segment, record.header, record.offset, record.payload, receiver);
        if (wanted) return true;
        continue;
      }
      const isLast = this.#segmentNumber + 1 === this.#segments;
      if (!isLast) {
        if (record.kind === "cut") {
          throw new FormatError(
            segment.path,
            record.offset,
            `${record.reason}, yet another segment follows`,
          );
        }
        if (this.#complete !== undefined) {
          throw new FormatError(this.#path(this.#segmentNumber + 1), 0, "behind the log's end");
        }
        this.#openSegment(this.#segmentNumber + 1);
      } else if (record.kind === "cut") {
        this.#endCut(segment.path, record.offset, record.reason);
      } else if (this.#complete === undefined) {
        const missing = this.#path(this.#segmentNumber + 1);
        this.#endCut(missing, 0, "the log goes on in a segment that is missing");
      } else {
        this.#end(segment.path, record.offset, this.#complete ? "complete" : "closed early");
      }
    }
    return false;
  }

  /**
   * Goes on at the last block that starts before instruction `icount` and with a send number of at most
   * `sends`, or at the first block: every item at or behind `icount`, and every send from number `sends`
   * on, is still to come.
   */
  seek(icount: number, sends = Infinity): void {
    if (this.#segments === 0) return;
    let number = 0;
    for (let n = 1; n < this.#segments; n++) {
      const segment = new SegmentReader(this.#path(n));
      try {
        const first = segment.entries()[0] ?? { firstIcount: Infinity, sends: 0 };
        if (first.firstIcount >= icount || first.sends > sends) break;
      } finally {
        segment.close();
      }
      number = n;
    }
    this.#openSegment(number, true);
    const entries = this.#segment!.entries();
    const later = entries.findIndex((entry) => entry.firstIcount >= icount || entry.sends > sends);
    const index = Math.max(0, (later < 0 ? entries.length : later) - 1);
    let first = index; // the model learns from there
    while (first > 0 && this.#segment!.goesOn(entries[first]!)) first--;
    const entry = entries[first];
    this.#ending = undefined;
    this.#complete = undefined;
    this.#block = undefined;
    if (!entry) return;
    this.#segment!.seek(entry);
    const { offset: _, firstIcount, ...counts } = entry;
    const firstBlock = this.#segment!.header!.firstBlock;
    this.#firstWanted = firstBlock + index;
    this.#next = { number: firstBlock + first, icount: firstIcount, ...counts };
  }

  close(): void {
    this.#segment?.close();
    this.#segment = undefined;
  }

  #path(segment: number): string {
    return `${this.#dir}/${segmentName(segment)}`;
  }

  #openSegment(number: number, seeking = false): void {
    this.close();
    const segment = new SegmentReader(this.#path(number));
    this.#segment = segment;
    this.#segmentNumber = number;
    const { header, path } = segment;
    if (!header) return;
    this.#logId ??= header.logId;
    const { vm, rrLogVersion } = this.#expect;
    const refuse = (offset: number, detail: string): never => {
      this.close();
      throw new FormatError(path, offset, detail);
    };
    if (header.vm !== vm) {
      refuse(12, `a segment of VM ${header.vm}, not of VM ${vm}: the files were mixed up`);
    }
    if (header.number !== number) {
      refuse(16, `this is segment ${header.number}: the file was renamed`);
    }
    if (rrLogVersion !== undefined && header.rrLogVersion !== rrLogVersion) {
      refuse(
        20,
        `rr log version 0x${header.rrLogVersion.toString(16)}, 0x${
          rrLogVersion.toString(16)
        } expected: the segment comes from another recording`,
      );
    }
    if (header.logId !== this.#logId) refuse(24, "the segment comes from another recording");
    if (!seeking && header.firstBlock !== this.#next.number) {
      refuse(40, `starts with block ${header.firstBlock}, ${this.#next.number} expected`);
    }
  }

  #deliver(
    segment: SegmentReader,
    header: BlockHeader,
    offset: number,
    payload: Uint8Array,
    visitor: HybridVisitor,
  ): void {
    const next = this.#next;
    if (
      header.number !== next.number || header.sends !== next.sends ||
      header.receives !== next.receives || header.firstIcount < next.icount
    ) {
      throw new FormatError(
        segment.path,
        offset,
        `block ${header.number} does not follow the block before: block ${next.number}, ` +
          `send ${next.sends}, receive ${next.receives} expected`,
      );
    }
    if (this.#complete !== undefined) {
      throw new FormatError(segment.path, offset, "a block behind the end of the log");
    }
    const block = this.#block = {
      index: header.number,
      firstIcount: header.firstIcount,
      sends: header.sends,
      receives: header.receives,
      file: segment.path,
      offset,
    };
    const { version } = segment.header!;
    const contents = decodeBlock(payload, header, version, block, this.#unpacker, visitor);
    this.#complete = contents.complete;
    this.#next = {
      number: header.number + 1,
      sends: header.sends + contents.sends,
      receives: header.receives + contents.receives,
      icount: header.firstIcount,
    };
  }

  /** The log is cut off at `offset` of `file`; an error where it was closed. */
  #endCut(file: string, offset: number, detail: string): void {
    if (this.#expect.closed) {
      throw new FormatError(file, offset, `${detail}; the recording is damaged`);
    }
    const reason = this.#complete === undefined ? "cut off" : "closed, but its index is cut off";
    this.#end(file, offset, `${reason}: ${detail}`);
  }

  #end(file: string, offset: number, reason: string): void {
    this.#ending = { complete: this.#complete ?? false, reason, file, offset };
  }
}

/** The segments in `dir`, which must be numbered 0, 1, 2 … without a gap. */
function countSegments(dir: string): number {
  const names = new Set<string>();
  try {
    for (const { name } of Deno.readDirSync(dir)) {
      if (/^hybrid-\d{6,}\.seg$/.test(name)) names.add(name);
    }
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new FormatError(dir, 0, "the VM's directory is missing", { cause });
  }
  for (let n = 0; n < names.size; n++) {
    if (!names.has(segmentName(n))) {
      throw new FormatError(`${dir}/${segmentName(n)}`, 0, "the segment is missing");
    }
  }
  return names.size;
}
