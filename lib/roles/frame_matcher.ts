/**
 * Which frame is it? While recording, the rr log of a VM says what bytes it received; the recorder
 * says which frames entered its tap, in order; the capture filters say what bytes every VM sent.
 * This joins the three: a received frame becomes a reference (source VM, send number) once its bytes
 * have been compared with what that VM sent. Anything that cannot be matched is stored whole: a lost
 * recorder event or a wrong identification costs bytes, never correctness.
 *
 * ```
 * capture of each VM ──▶ SentFrames   (hash and length by send number)
 * recorder events ─────▶ Deliveries   (a queue per receiver: who sent what, Lamport time)
 * rr log ──frame──▶ match: the first queued delivery whose bytes are these
 * ```
 */
import { createHash } from "node:crypto";
import type { VmNumber } from "../units.ts";

/** Bytes of a frame's SHA-256 that are kept: enough that two different frames never share them. */
export const FRAME_HASH_BYTES = 16;

/** A frame hash as two 64-bit halves of the SHA-256, printed as hex so that maps can hold it. */
export type FrameHash = string;

/** The first bytes of a frame's SHA-256, as hex. */
export function hashFrame(frame: Uint8Array): FrameHash {
  return createHash("sha256").update(frame).digest("hex").slice(0, 2 * FRAME_HASH_BYTES);
}

/** A ring of what one VM sent: the last `capacity` frames, by send number. */
export class SentFrames {
  readonly #hashes: FrameHash[];
  readonly #lengths: Uint32Array;
  #count = 0;

  /** `capacity` is a power of two; memory is about 100 bytes a frame. */
  constructor(readonly capacity = 1 << 15) {
    this.#hashes = new Array<FrameHash>(capacity);
    this.#lengths = new Uint32Array(capacity);
  }

  /** Frames seen so far: the next frame's send number. */
  get count(): number {
    return this.#count;
  }

  add(hash: FrameHash, length: number): number {
    const slot = this.#count & (this.capacity - 1);
    this.#hashes[slot] = hash;
    this.#lengths[slot] = length;
    return this.#count++;
  }

  #holds(sendNumber: number): boolean {
    return sendNumber >= 0 && sendNumber < this.#count &&
      sendNumber >= this.#count - this.capacity;
  }

  hashOf(sendNumber: number): FrameHash | undefined {
    return this.#holds(sendNumber) ? this.#hashes[sendNumber & (this.capacity - 1)] : undefined;
  }

  lengthOf(sendNumber: number): number | undefined {
    return this.#holds(sendNumber) ? this.#lengths[sendNumber & (this.capacity - 1)] : undefined;
  }
}

/** A frame that entered a VM's tap, as the recorder reports it. `source` 0: external. */
export interface Delivery {
  readonly source: VmNumber;
  readonly sendNumber: number;
  readonly length: number;
  readonly lamport: bigint;
}

/** What a received frame turned out to be. */
export type Match =
  | {
    readonly kind: "internal";
    readonly source: VmNumber;
    readonly sendNumber: number;
    readonly lamport: bigint;
  }
  | { readonly kind: "external"; readonly lamport: bigint }
  | { readonly kind: "unmatched"; readonly lamport: bigint };

/**
 * The deliveries of one receiver that its rr log has not shown yet. Bounded by `limit`; beyond it the
 * oldest is forgotten, and its frame will be stored whole.
 */
export class Deliveries {
  readonly #queue: Delivery[] = [];
  #head = 0;
  #lastLamport = 0n;
  /** Deliveries that never showed in the rr log: dropped by a full tap queue, or forgotten. */
  skipped = 0;

  /** The default is above the tap's queue (10,000 frames) and what QEMU's log buffer can hide. */
  constructor(readonly limit = 1 << 15) {}

  get waiting(): number {
    return this.#queue.length - this.#head;
  }

  add(delivery: Delivery): void {
    this.#queue.push(delivery);
    if (this.waiting > this.limit) this.#drop(1);
  }

  /** Finds the delivery that `length` bytes with `hash` are; everything before it counts as skipped. */
  match(
    hash: FrameHash,
    length: number,
    hashOf: (source: VmNumber, sendNumber: number) => FrameHash | undefined,
  ): Match {
    for (let i = this.#head; i < this.#queue.length; i++) {
      const delivery = this.#queue[i]!;
      if (delivery.length !== length) continue;
      const { source, sendNumber, lamport } = delivery;
      if (source !== 0 && hashOf(source, sendNumber) !== hash) continue;
      this.skipped += i - this.#head;
      this.#drop(i - this.#head + 1);
      this.#lastLamport = lamport;
      return source === 0
        ? { kind: "external", lamport }
        : { kind: "internal", source, sendNumber, lamport };
    }
    // Its event was lost. The clock went on by at least one; more is not known.
    this.#lastLamport += 1n;
    return { kind: "unmatched", lamport: this.#lastLamport };
  }

  #drop(count: number): void {
    this.#head += count;
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
  }
}

/**
 * Joins the recorder's send events (Lamport times) with the captured frames (bytes) of one VM.
 * Both come in the order of sending; a frame that the tap refused was captured but never reported,
 * which shows as a length that does not fit.
 */
export class SendJoin {
  readonly #events: { sendNumber: number; length: number; lamport: bigint }[] = [];
  #joined = 0;
  #drift = 0;
  #lastLamport = 0n;

  constructor(readonly sent: SentFrames) {}

  /** The capture's number of the recorder's frame `sendNumber`: the same unless the tap refused some. */
  captureNumber(sendNumber: number): number {
    return sendNumber + this.#drift;
  }

  event(sendNumber: number, length: number, lamport: bigint): void {
    this.#events.push({ sendNumber, length, lamport });
  }

  /**
   * Emits every captured frame whose event is known, in order.
   * @param rest also those without an event: at the end no more will come
   */
  join(emit: (sendNumber: number, lamport: bigint) => void, rest = false): void {
    let used = 0;
    for (const event of this.#events) {
      const at = this.#find(event.sendNumber, event.length);
      if (at === undefined) {
        if (this.captureNumber(event.sendNumber) >= this.sent.count) break; // not captured yet
        used++; // an event that fits nothing: identify nothing by it
        continue;
      }
      while (this.#joined < at) this.#emit(emit, this.#lastLamport + 1n); // lost events
      if (at === this.#joined) this.#emit(emit, event.lamport);
      used++;
    }
    this.#events.splice(0, used);
    while (rest && this.#joined < this.sent.count) this.#emit(emit, this.#lastLamport + 1n);
  }

  #emit(emit: (sendNumber: number, lamport: bigint) => void, lamport: bigint): void {
    this.#lastLamport = lamport > this.#lastLamport ? lamport : this.#lastLamport + 1n;
    emit(this.#joined++, this.#lastLamport);
  }

  #find(sendNumber: number, length: number): number | undefined {
    const REFUSED_IN_A_ROW_MAX = 64;
    for (let skip = 0; skip < REFUSED_IN_A_ROW_MAX; skip++) {
      const at = this.captureNumber(sendNumber) + skip;
      if (at >= this.sent.count) return undefined;
      if (this.sent.lengthOf(at) === length) {
        this.#drift += skip;
        return at;
      }
    }
    return undefined;
  }
}
