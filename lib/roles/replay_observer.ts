/** What a replay tells whoever wants to keep it. All calls are synchronous and in the order of a VM. */
import type { RamDigest } from "../recording/ram_digest.ts";

/** A frame that a replayed VM sent, whether or not it is the recorded one. */
export interface ObservedSend {
  readonly number: number;
  /** Valid only during the call. */
  readonly frame: Uint8Array;
  /** The first 8 bytes of its SHA-256. */
  readonly hash: Uint8Array;
  /** An instruction count near it. */
  readonly near: number;
  /** The recorded frame's Lamport time; `undefined` where the recording has no such frame. */
  readonly lamport: bigint | undefined;
}

/** The state at which a replayed VM was stopped. */
export interface ObservedCheck {
  readonly icount: number;
  /** QEMU's text of the registers. */
  readonly registers: string;
  readonly ramDigest: RamDigest;
}

export interface ReplayObserver {
  sent(vm: string, send: ObservedSend): void;
  checked(vm: string, check: ObservedCheck): void;
}
