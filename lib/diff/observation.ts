/**
 * What a comparison of two runs works with and what it answers. Both sides are called A and B
 * throughout; everything that is "equal" is taken from A.
 */
import type { CheckPoint, FrameOrigin } from "../recording/hybrid_log.ts";
import type { RamDigest } from "../recording/ram_digest.ts";

/** One event of an rr log, decoded; `lib` does not know its bytes. */
export interface LoggedEvent {
  /** Bytes it takes in the log. */
  readonly length: number;
  /** Instructions that it says were executed; 0 for all events but runs of instructions. */
  readonly instructions: number;
  /** Only QEMU's main loop notices it, not the guest: a clock was read, a checkpoint was passed. */
  readonly hostOnly: boolean;
  readonly kind: string;
  /** Its fields in one line. */
  readonly text: string;
}

/** Counts through whole events. */
export interface EventCounter {
  push(bytes: Uint8Array): void;
  readonly icount: number;
  readonly events: number;
  /** Bytes so far. */
  readonly offset: number;
}

/** Decodes the rr logs of one QEMU version; `hypervisor/rr_log` implements it. */
export interface EventCodec {
  /** @param firstIcount the instruction count at which the log begins */
  counter(name: string, firstIcount: number): EventCounter;
  /** Lazily; `offset` of `bytes[0]` in the log is for errors. @throws {FormatError} */
  decode(bytes: Uint8Array, name: string, offset: number): Iterable<LoggedEvent>;
}

/** A frame that a VM sent. */
export interface Sent {
  readonly item: "send";
  readonly number: number;
  readonly length: number;
  /** The first 8 bytes of its SHA-256. */
  readonly hash: Uint8Array;
  /** Its first bytes, perhaps none. */
  readonly head: Uint8Array;
  /** `undefined` where it was not stamped. */
  readonly lamport: bigint | undefined;
}

/** A frame that a VM received: a reference to a sent one, or whole. */
export interface Received {
  readonly item: "receive";
  /** As in the rr log: kind, id, flags, length. */
  readonly header: Uint8Array;
  readonly lamport: bigint;
  readonly content:
    | { readonly stored: "reference"; readonly source: number; readonly number: number }
    | { readonly stored: FrameOrigin; readonly payload: Uint8Array };
}

/** A VM's state at an instruction count; the registers as text or, from a trace, hashed. */
export interface Checked {
  readonly item: "check";
  readonly icount: number;
  readonly registers?: string;
  readonly registersSha256: string;
  readonly ramDigest: RamDigest;
}

/** How a VM's run ends. */
export interface Ended {
  readonly item: "end";
  /** It was recorded, or replayed, to its end. */
  readonly complete: boolean;
  /** For the user: "complete", "cut off: …". */
  readonly reason: string;
  /** The file is damaged there: the message of the error, with file and offset. */
  readonly damage?: string;
}

/** What one side has at a difference. */
export interface Observed {
  readonly icount: number;
  /** "INTERRUPT", "RECEIVE", "SEND", "CHECK", "END"… */
  readonly kind: string;
  readonly text: string;
  /** The frame, as far as it is kept, or its first bytes; hex. */
  readonly bytes?: string;
}

export type DifferenceKind = "vm" | "event" | "receive" | "send" | "check" | "end" | "console";

/** Where two runs of one VM first differ. */
export interface Difference {
  readonly kind: DifferenceKind;
  /** In one sentence. */
  readonly what: string;
  /** The epoch of the last stamped item at or before it. */
  readonly epoch: number;
  /** The Lamport times of these items; `null` where nothing was stamped. */
  readonly lamport: { readonly a: bigint | null; readonly b: bigint | null };
  /** The smaller of both sides' instruction counts; of a send the place of its record in the log. */
  readonly icount: number;
  readonly a: Observed;
  readonly b: Observed;
  /** What both have before it, oldest first. */
  readonly context: readonly Observed[];
}

/** How much of a VM's run is equal, up to the difference or the end. */
export interface Equal {
  readonly instructions: number;
  /** rr events of A, received frames not among them; runs of instructions are. */
  readonly events: number;
  readonly received: number;
  readonly sent: number;
  readonly checks: number;
  /** Bytes of rr events. */
  readonly logBytes: number;
  /** Received frames whose bytes one side does not have any more, with the same name on both sides. */
  readonly unproven: number;
}

export interface ConsoleComparison {
  /** `unknown`: not kept, or one side's run ends early. */
  readonly result: "equal" | "different" | "unknown";
  /** The first different byte and the line that it is in, from 1, where both texts are there. */
  readonly at?: { readonly byte: number; readonly line: number };
}

/** The comparison of one VM. */
export interface VmDiff {
  readonly vm: string;
  readonly equal: Equal;
  readonly console: ConsoleComparison;
  readonly difference?: Difference;
  /** Why a side is known only in part. */
  readonly cutOff: { readonly a?: string; readonly b?: string };
  /** Damage that was met, with file and offset. */
  readonly damage: readonly string[];
}

/** The comparison of two runs of a cluster. */
export interface DiffReport {
  readonly identical: boolean;
  readonly a: RunIdentity;
  readonly b: RunIdentity;
  /** The VM that differs first in the cluster. */
  readonly first?: { readonly vm: string; readonly difference: Difference };
  readonly vms: readonly VmDiff[];
  /** What the two runs were made with that is not the same; no difference by itself. */
  readonly setup: readonly string[];
  /** What was not compared, and why. */
  readonly notCompared: readonly string[];
  readonly seconds: number;
}

/** What was compared. */
export interface RunIdentity {
  readonly kind: "recording" | "trace";
  readonly path: string;
  readonly name: string;
  /** The recording's id. */
  readonly id: string;
}

/** @param check as a log has it; `hash` gives a SHA-256 in hex */
export function checkedOf(check: CheckPoint, hash: (text: string) => string): Checked {
  const { icount, registers, ramDigest } = check;
  return { item: "check", icount, registers, registersSha256: hash(registers), ramDigest };
}
