/**
 * What a hybrid log is made of: the items that go in through `HybridLogWriter` and come out through
 * `HybridLogReader`, in the same order. The bytes between the two: `FORMAT.md`.
 */
import { z } from "zod";
import type { VmNumber } from "../units.ts";
import { ramDigestSchema } from "./ram_digest.ts";

/** The VM's state at an instruction count, to be compared with the replay's. */
export const checkPointSchema = z.strictObject({
  /** Instructions executed. */
  icount: z.int().nonnegative(),
  /** Whether `icount` lies strictly inside one run of instructions of the rr log. */
  inside: z.boolean(),
  /** QEMU's text of the registers. */
  registers: z.string(),
  ramDigest: ramDigestSchema,
  ramBytes: z.int().nonnegative(),
  /** When, in ms since 1970. */
  wallMs: z.number(),
});
export type CheckPoint = z.infer<typeof checkPointSchema>;

/** Why a received frame is stored whole: it came from outside, or the recorder could not tell whence. */
export type FrameOrigin = "external" | "unmatched";

/** Bytes of a received frame's header in the rr log: kind, id, flags, and the length at the end. */
export const RR_FRAME_HEADER_BYTES = 10;
/** Bytes of a frame's hash. */
export const FRAME_HASH_BYTES = 8;

/**
 * Receives the items of a log. Events, received frames and checks come in exactly the order in which
 * they were written; neighbouring runs of events may come as one; a send may come earlier.
 * All `Uint8Array`s are valid only during the call.
 */
export interface HybridVisitor {
  /** Whole rr events, verbatim, none of them a received frame. */
  events(bytes: Uint8Array): void;
  /** A received frame that VM `source` sent as its frame `sendNumber`; `header` as in the rr log. */
  reference(header: Uint8Array, source: VmNumber, sendNumber: number, lamport: bigint): void;
  /** A received frame that is stored whole. */
  frame(header: Uint8Array, payload: Uint8Array, lamport: bigint, origin: FrameOrigin): void;
  /** A frame that the VM sent: its length, hash (8 bytes) and first bytes (perhaps none). */
  send(
    sendNumber: number,
    length: number,
    hash: Uint8Array,
    lamport: bigint,
    head: Uint8Array,
  ): void;
  check(check: CheckPoint): void;
  /**
   * The VM's cut of `epoch` stands here, after `icount` instructions: every item before belongs to
   * earlier epochs, and no received frame behind is of an earlier one (`lib/clocks/CHECKPOINTS.md`).
   */
  epoch(epoch: number, icount: number): void;
  /** The last item. `complete`: the rr log was recorded to its end; `icount`: where it stops. */
  end(complete: boolean, icount: number): void;
}

/** Takes no notice of anything: for whoever wants some kinds of items only, or none. */
export const IGNORE_ITEMS: HybridVisitor = {
  events() {},
  reference() {},
  frame() {},
  send() {},
  check() {},
  epoch() {},
  end() {},
};

/** Where a block stands. */
export interface HybridBlock {
  /** Counted from 0 through the whole log. */
  readonly index: number;
  /** Instructions executed before its first item. */
  readonly firstIcount: number;
  /** Sends before it: the send number of its first send. */
  readonly sends: number;
  /** Received frames before it. */
  readonly receives: number;
  readonly file: string;
  /** Bytes from the start of `file`. */
  readonly offset: number;
}

/** What a log holds so far. */
export interface HybridCounts {
  /** Bytes of the rr log that the items stand for, frames included, the version word not. */
  readonly rrLogBytes: number;
  /** Bytes of the hybrid log before compression. */
  readonly hybridBytes: number;
  readonly framesInternal: number;
  readonly framesExternal: number;
  readonly framesUnmatched: number;
  readonly framesSent: number;
  readonly checks: number;
  /** Cuts of epochs. */
  readonly epochs: number;
}

/** A finished segment file. */
export interface SegmentSummary {
  /** Its name in the VM's directory. */
  readonly file: string;
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
}

/** A closed log. */
export interface HybridTotals extends HybridCounts {
  /** Bytes of all segments. */
  readonly storedBytes: number;
  readonly segments: readonly SegmentSummary[];
  /** The rr log was recorded to its end, and nothing failed. */
  readonly complete: boolean;
  /** The end item and the index are in the file: a reader may insist on them. */
  readonly closed: boolean;
  /** Instructions at the end of the log. */
  readonly icount: number;
}

/** The name of segment `number` in its VM's directory. */
export function segmentName(number: number): string {
  return `hybrid-${String(number).padStart(6, "0")}.seg`;
}
