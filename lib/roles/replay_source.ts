/**
 * A VM's hybrid log as its replay needs it: first counted (which frames are referenced how often, how
 * many sends there are, where the checks stand), then turned piece by piece into the rr log.
 */
import type { VmNumber } from "../units.ts";
import type { CheckPoint, HybridBlock, HybridVisitor } from "../recording/hybrid_log.ts";
import type { Piece } from "./replay_feed.ts";
import type { RecordedSend, ReplaySource } from "./replaying_agent.ts";

/** A hybrid log, read block by block; `lib/recording` implements it. */
export interface LogBlocks {
  /** Visits the items of the next block; `false` at the end. */
  nextBlock(visitor: HybridVisitor): boolean;
  /** The block that was visited last. */
  readonly block: Pick<HybridBlock, "firstIcount"> | undefined;
}

/** What has to be known of a log before its replay starts. */
export interface LogCensus {
  /** For each VM that this one received frames of: how often each send number is referenced. */
  readonly uses: Map<VmNumber, Map<number, number>>;
  readonly sends: number;
  /** Bytes of the rebuilt rr log. */
  readonly bytes: number;
  /** In rising order of instruction counts. */
  readonly checks: CheckPoint[];
  readonly complete: boolean;
  /** Instructions at the end; where the end was cut off, those before the last whole block. */
  readonly icount: number;
}

/** Reads a whole log; whatever is damaged in it is found here, before any VM starts. */
export function takeCensus(blocks: LogBlocks): LogCensus {
  const uses = new Map<VmNumber, Map<number, number>>();
  const checks: CheckPoint[] = [];
  let sends = 0;
  let bytes = 0;
  let complete = false;
  let icount: number | undefined;
  const visitor: HybridVisitor = {
    events: (events) => bytes += events.length,
    reference(header, source, sendNumber) {
      bytes += header.length + lengthIn(header);
      let counts = uses.get(source);
      if (counts === undefined) uses.set(source, counts = new Map());
      counts.set(sendNumber, (counts.get(sendNumber) ?? 0) + 1);
    },
    frame: (header, payload) => bytes += header.length + payload.length,
    send: () => sends++,
    check: (check) => checks.push(check),
    end: (wasComplete, at) => {
      complete = wasComplete;
      icount = at;
    },
  };
  while (blocks.nextBlock(visitor));
  checks.sort((a, b) => a.icount - b.icount);
  icount ??= blocks.block?.firstIcount ?? 0;
  return { uses, sends, bytes, checks, complete, icount };
}

/** Adds up how often each frame is referenced by all receivers. */
export function countUses(censuses: Iterable<LogCensus>): Map<VmNumber, Uint16Array> {
  const totals = new Map<VmNumber, Map<number, number>>();
  for (const { uses } of censuses) {
    for (const [source, counts] of uses) {
      const total = totals.get(source) ?? new Map<number, number>();
      totals.set(source, total);
      for (const [sendNumber, count] of counts) {
        total.set(sendNumber, (total.get(sendNumber) ?? 0) + count);
      }
    }
  }
  const result = new Map<VmNumber, Uint16Array>();
  for (const [source, counts] of totals) {
    const last = counts.keys().reduce((a, b) => Math.max(a, b), 0);
    const array = new Uint16Array(last + 1);
    for (const [sendNumber, count] of counts) array[sendNumber] = count;
    result.set(source, array);
  }
  return result;
}

/** The rr header of a received frame ends in the frame's length, a big-endian u32. */
function lengthIn(header: Uint8Array): number {
  return new DataView(header.buffer, header.byteOffset + header.length - 4, 4).getUint32(0);
}

/** The replay of one log. */
export class HybridSource implements ReplaySource {
  readonly sendsTotal: number;
  readonly bytesTotal: number;
  readonly complete: boolean;
  readonly #sends: RecordedSend[] = [];
  #pieces: Piece[] = [];
  #begun = false;
  #ended = false;

  /**
   * @param preamble what a replay's stream starts with
   * @param ending what closes a log that was cut off, so that its replay ends in order
   * @param rewrite makes of the log's events what the replay needs
   */
  constructor(
    private readonly blocks: LogBlocks,
    census: LogCensus,
    private readonly preamble: Uint8Array,
    private readonly ending: Uint8Array,
    private readonly rewrite: (events: Uint8Array) => Uint8Array = (events) => events,
  ) {
    this.sendsTotal = census.sends;
    this.bytesTotal = census.bytes;
    this.complete = census.complete;
  }

  get icountNear(): number {
    return this.blocks.block?.firstIcount ?? 0;
  }

  pieces = (): Piece[] | undefined => {
    if (!this.#begun) {
      this.#begun = true;
      return [{ kind: "bytes", bytes: this.preamble }];
    }
    if (this.#ended) return undefined;
    this.#pieces = [];
    if (!this.blocks.nextBlock(this.#visitor)) {
      this.#ended = true;
      return this.complete ? undefined : [{ kind: "bytes", bytes: this.ending }];
    }
    return this.#pieces;
  };

  nextSend(): RecordedSend | undefined {
    return this.#sends.shift();
  }

  readonly #visitor: HybridVisitor = {
    events: (bytes) => this.#bytes(this.rewrite(bytes)),
    reference: (header, source, sendNumber) => {
      this.#bytes(header);
      this.#pieces.push({ kind: "frame", source, sendNumber, length: lengthIn(header) });
    },
    frame: (header, payload) => {
      this.#bytes(header);
      this.#bytes(payload);
    },
    send: (_sendNumber, length, hash, _lamport, head) => {
      this.#sends.push({ length, hash: hash.slice(), head: head.slice() });
    },
    check: () => {},
    end: () => {},
  };

  /** The reader's bytes are only lent; pieces outlive the call. */
  #bytes(bytes: Uint8Array): void {
    this.#pieces.push({ kind: "bytes", bytes: bytes.slice() });
  }
}
