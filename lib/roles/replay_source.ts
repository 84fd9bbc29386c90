/**
 * A VM's hybrid log, turned piece by piece into the rr log that its replay is fed with: from its start,
 * or from the middle of a run of instructions, where a snapshot of the VM was taken.
 */
import type { HybridVisitor } from "../recording/hybrid_log.ts";
import type { LogBlocks, LogCensus, VmPosition } from "./log_census.ts";
import { lengthIn } from "./log_census.ts";
import type { RunReader } from "./ports.ts";
import type { Piece } from "./replay_feed.ts";
import type { RecordedSend, ReplaySource } from "./replaying_agent.ts";

/**
 * QEMU fetches the kind byte of the next event, and the count of a run, before it runs the current one:
 * so much is offered beyond a cut, or a VM held there might not have sent what it sent before it.
 */
const LOOKAHEAD_BYTES = 5;

/** What stands around the events in the stream that QEMU reads; `hypervisor/rr_log` makes it. */
export interface StreamFrame {
  /** What a replay's stream starts with. */
  readonly preamble: Uint8Array;
  /** What closes a log that was cut off, so that its replay ends in order. */
  readonly ending: Uint8Array;
  /** Makes of the log's events what a replay from its start needs; without it they are fed as they are. */
  readonly rewrite?: (events: Uint8Array) => Uint8Array;
  /** Puts in what QEMU did but did not log. */
  readonly mend?: LogMender;
}

/** Sees a log in order, and says what has to come in between. */
export interface LogMender {
  /** @returns the events, with what was missing before each */
  events(events: Uint8Array): Uint8Array;
  /** A received frame comes next. @returns what is missing before it */
  beforeFrame(): Uint8Array | undefined;
}

/** Where a source begins that does not begin at the start, and what finds the place. */
export interface SourceStart {
  readonly position: VmPosition;
  readonly readRuns: RunReader;
}

/** The replay of one log. */
export class HybridSource implements ReplaySource {
  readonly sendsTotal: number;
  readonly complete: boolean;
  readonly #sends: RecordedSend[] = [];
  readonly #start: SourceStart | undefined;
  #pieces: Piece[] = [];
  /** Epochs whose cut has been read and that stand behind the next bytes. */
  readonly #epochs: number[] = [];
  #begun = false;
  #ended = false;
  /** Instructions before what comes next, until the start has been found; then `undefined`. */
  #skipping: { icount: number } | undefined;
  #block: LogBlocks["block"];
  #bytesGiven = 0;
  /** Where the blocks begin that have been given: bytes of the stream, instructions. */
  readonly #places: { readonly bytes: number; readonly icount: number }[] = [];

  /** @param start where `blocks` have been sent to: no block that is needed comes before */
  constructor(
    private readonly blocks: LogBlocks,
    private readonly census: LogCensus,
    private readonly frame: StreamFrame,
    start?: SourceStart,
  ) {
    this.sendsTotal = census.sendTimes.length;
    this.complete = census.complete;
    this.#start = start;
    if (start !== undefined) this.#skipping = { icount: 0 };
  }

  get icountNear(): number {
    return this.blocks.block?.firstIcount ?? 0;
  }

  shareAt(bytes: number): number {
    const { icount: total } = this.census;
    const begin = this.#start?.position.icount ?? this.#places[0]?.icount ?? 0;
    const i = this.#places.findLastIndex((place) => place.bytes <= bytes);
    const at = this.#places[i];
    if (at === undefined) return 0;
    const next = this.#places[i + 1] ??
      { bytes: this.#bytesGiven, icount: this.#ended ? total : at.icount };
    const part = Math.min(1, (bytes - at.bytes) / Math.max(1, next.bytes - at.bytes));
    const icount = at.icount + part * (next.icount - at.icount);
    return Math.min(1, Math.max(0, icount - begin) / Math.max(1, total - begin));
  }

  pieces = (): Piece[] | undefined => {
    const pieces = this.#nextPieces();
    for (const piece of pieces ?? []) {
      if (piece.kind === "bytes") this.#bytesGiven += piece.bytes.length;
      else if (piece.kind === "frame") this.#bytesGiven += piece.length;
    }
    return pieces;
  };

  #nextPieces(): Piece[] | undefined {
    if (!this.#begun) {
      this.#begun = true;
      return [{ kind: "bytes", bytes: this.frame.preamble }];
    }
    if (this.#ended) return undefined;
    this.#pieces = [];
    if (!this.blocks.nextBlock(this.#visitor)) {
      this.#ended = true;
      if (this.#skipping !== undefined) {
        throw new Error(`the log has no run around instruction ${this.#start!.position.icount}`);
      }
      return this.complete ? undefined : [{ kind: "bytes", bytes: this.frame.ending }];
    }
    this.#places.push({ bytes: this.#bytesGiven, icount: this.icountNear });
    return this.#pieces;
  }

  nextSend(): RecordedSend | undefined {
    return this.#sends.shift();
  }

  readonly #visitor: HybridVisitor = {
    events: (bytes) => this.#events(bytes),
    reference: (header, source, sendNumber) => {
      if (this.#skipping !== undefined) return;
      this.#frameHeader(header);
      this.#pieces.push({ kind: "frame", source, sendNumber, length: lengthIn(header) });
    },
    frame: (header, payload) => {
      if (this.#skipping !== undefined) return;
      this.#frameHeader(header);
      this.#bytes(payload);
    },
    send: (sendNumber, length, hash, lamport, head) => {
      if (sendNumber < (this.#start?.position.sends ?? 0)) return;
      this.#sends.push({ length, hash: hash.slice(), head: head.slice(), lamport });
    },
    check: () => {},
    epoch: (epoch) => {
      if (this.#skipping === undefined) this.#epochs.push(epoch);
    },
    end: () => {},
  };

  #events(bytes: Uint8Array): void {
    if (this.#start === undefined) return this.#mended(this.frame.rewrite?.(bytes) ?? bytes);
    const from = this.#skipping === undefined ? 0 : this.#skip(bytes, this.#skipping);
    if (from < bytes.length) this.#mended(bytes.subarray(from));
  }

  #mended(bytes: Uint8Array): void {
    this.#bytes(this.frame.mend?.events(bytes) ?? bytes);
  }

  #frameHeader(header: Uint8Array): void {
    const missing = this.frame.mend?.beforeFrame();
    if (missing !== undefined) this.#bytes(missing);
    this.#bytes(header);
  }

  /** Skips the events up to and with the run that the start lies in; returns where the rest begins. */
  #skip(bytes: Uint8Array, at: { icount: number }): number {
    if (this.#block !== this.blocks.block) {
      this.#block = this.blocks.block;
      at.icount = this.#block!.firstIcount;
    }
    const { position, readRuns } = this.#start!;
    let from = bytes.length;
    readRuns(bytes, (count, end) => {
      at.icount += count;
      if (at.icount <= position.icount) return false;
      from = end;
      this.#skipping = undefined;
      return true;
    });
    return from;
  }

  /** The reader's bytes are only lent; pieces outlive the call. */
  #bytes(bytes: Uint8Array): void {
    let from = 0;
    if (this.#epochs.length > 0) {
      from = Math.min(LOOKAHEAD_BYTES, bytes.length);
      this.#pieces.push({ kind: "bytes", bytes: bytes.slice(0, from) });
      for (const epoch of this.#epochs.splice(0)) this.#pieces.push({ kind: "epoch", epoch });
    }
    if (from < bytes.length) this.#pieces.push({ kind: "bytes", bytes: bytes.slice(from) });
  }
}
