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
 * A VM of another host has no capture here. Its frames come with a keyed hash that the recorder made of
 * the bytes where they left that host (keyed_hash.ts): that is what their bytes are compared with.
 */
import { hash as digest } from "node:crypto";
import type { VmNumber } from "../units.ts";
import { hashKeyed } from "./keyed_hash.ts";

/** Bytes of a frame's SHA-256 that are kept: enough that two different frames never share them. */
export const FRAME_HASH_BYTES = 16;

/** A frame hash as two 64-bit halves of the SHA-256, printed as hex so that maps can hold it. */
export type FrameHash = string;

/** The first bytes of a frame's SHA-256, as hex. */
export function hashFrame(frame: Uint8Array): FrameHash {
  return digest("sha256", frame, "hex").slice(0, 2 * FRAME_HASH_BYTES);
}

/** The part of a hash that a recording keeps: 8 bytes. */
export function storedHash(hash: FrameHash): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hash.slice(0, 16));
}

/** Without its checksum, an Ethernet frame has at least 60 bytes. */
const ETHERNET_BYTES_MIN = 60;

/** Whether a frame of `sent` bytes may be one of `received` bytes in an rr log, which QEMU has padded. */
export function canBeReceivedAs(sent: number, received: number): boolean {
  return sent === received || (sent < received && received === ETHERNET_BYTES_MIN);
}

/**
 * A frame as a VM's rr log has it. For most NICs QEMU pads a short frame from the tap with zeros before
 * it logs it (net/tap.c, `net_peer_needs_padding`): it may be a shorter frame that was sent.
 */
class ReceivedFrame {
  readonly #hashes = new Map<number, FrameHash>();

  constructor(private readonly bytes: Uint8Array) {}

  /** Its hash as a frame of `length` bytes; `undefined` where it cannot be one. */
  hashAs(length: number): FrameHash | undefined {
    if (!this.canBe(length)) return undefined;
    let hash = this.#hashes.get(length);
    if (hash === undefined) {
      this.#hashes.set(length, hash = hashFrame(this.bytes.subarray(0, length)));
    }
    return hash;
  }

  /** Whether it can be a frame of `length` bytes. */
  canBe(length: number): boolean {
    return length === this.bytes.length || this.#isPadded(length);
  }

  /** Whether it is a frame of `length` bytes whose hash under `key` is `hash`. */
  hasKeyedHash(hash: bigint, length: number, key: bigint): boolean {
    return this.canBe(length) && hashKeyed(this.bytes.subarray(0, length), key) === hash;
  }

  /** Whether it cannot be a shorter frame. */
  get hasOneReading(): boolean {
    return this.bytes.length !== ETHERNET_BYTES_MIN || this.bytes.at(-1) !== 0;
  }

  #isPadded(length: number): boolean {
    return length < this.bytes.length && !this.hasOneReading &&
      this.bytes.subarray(length).every((byte) => byte === 0);
  }
}

/** A ring of what one VM sent: the last `capacity` frames, by send number. */
export class SentFrames {
  readonly #hashes: FrameHash[];
  readonly #lengths: Uint32Array;
  /** How many of the remembered frames have each hash. */
  readonly #copies = new Map<FrameHash, number>();
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
    const forgotten = this.#hashes[slot];
    if (forgotten !== undefined) this.#countCopies(forgotten, -1);
    this.#countCopies(hash, 1);
    this.#hashes[slot] = hash;
    this.#lengths[slot] = length;
    return this.#count++;
  }

  #countCopies(hash: FrameHash, change: 1 | -1): void {
    const copies = (this.#copies.get(hash) ?? 0) + change;
    if (copies === 0) this.#copies.delete(hash);
    else this.#copies.set(hash, copies);
  }

  /** Whether only one of the remembered frames has these bytes. */
  isUnique(hash: FrameHash): boolean {
    return this.#copies.get(hash) === 1;
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

/** The {@link Delivery.remoteHash} of a frame that came without a hash: too long for one. */
export const NO_REMOTE_HASH = 0n;

/** A frame that entered a VM's tap, as the recorder reports it. `source` 0: external. */
export interface Delivery {
  readonly source: VmNumber;
  readonly sendNumber: number;
  readonly length: number;
  readonly lamport: bigint;
  /** Of a frame from a VM of another host: its keyed hash, or {@link NO_REMOTE_HASH}. */
  readonly remoteHash?: bigint | undefined;
}

/**
 * What a received frame turned out to be. `certain`: `lamport` is its true time; else the lowest that it
 * can be, because recorder events were lost.
 */
export type Match =
  | {
    readonly kind: "internal";
    readonly source: VmNumber;
    readonly sendNumber: number;
    readonly lamport: bigint;
    readonly certain: true;
  }
  | { readonly kind: "external"; readonly lamport: bigint; readonly certain: boolean }
  | { readonly kind: "unmatched"; readonly lamport: bigint; readonly certain: boolean };

/** What is remembered of the frames that the VMs sent, by the recorder's numbers. */
export interface SentLookup {
  hashOf(source: VmNumber, sendNumber: number): FrameHash | undefined;
  isUnique(source: VmNumber, hash: FrameHash): boolean;
}

/**
 * The deliveries of one receiver that its rr log has not shown yet. Bounded by `limit`; beyond it the
 * oldest is forgotten, and its frame will be stored whole.
 *
 * Frames with the same bytes are sent again and again (ARP, heartbeats). Where the event of one was
 * lost, the next one in the queue fits as well, but its sender may have sent it only after hearing of
 * the first: a replay that waited for it would never go on. So from a loss on, only frames whose bytes
 * are unique become references. Such a frame does not show where the log stands: its place in the
 * queue rests on numbers that are too low where a tap refused frames of the sender. Of a frame from
 * another host nobody here knows whether it is unique: from a loss on, all of them are stored whole.
 */
export class Deliveries {
  /** `afterLoss`: the events of deliveries before this one were lost, or forgotten. */
  readonly #queue: { delivery: Delivery; afterLoss: boolean }[] = [];
  #head = 0;
  #nextNumber = 0;
  #lastLamport = 0n;
  /** Whether the queue may not stand where the log stands. */
  #unsure = false;
  /** Deliveries that never showed in the rr log: dropped by a full tap queue, or forgotten. */
  skipped = 0;

  /**
   * The default limit is above the tap's queue (10,000 frames) and what QEMU's log buffer can hide.
   * @param remoteKey the recording's cookie, under which frames of other hosts are hashed
   */
  constructor(readonly limit = 1 << 15, private readonly remoteKey = 0n) {}

  get waiting(): number {
    return this.#queue.length - this.#head;
  }

  /** The time of the oldest delivery that the log has not shown; `undefined` if there is none. */
  get oldest(): bigint | undefined {
    return this.#queue[this.#head]?.delivery.lamport;
  }

  /** @param number the recorder's number of this delivery; a gap stands for events that were lost */
  add(delivery: Delivery, number = this.#nextNumber): void {
    this.#queue.push({ delivery, afterLoss: number !== this.#nextNumber });
    this.#nextNumber = number + 1;
    if (this.waiting <= this.limit) return;
    this.#drop(1);
    this.skipped++;
    this.#queue[this.#head]!.afterLoss = true;
  }

  /** Finds the delivery that `frame` is; everything before it counts as skipped. */
  match(frame: Uint8Array, sent: SentLookup): Match {
    const received = new ReceivedFrame(frame);
    for (let i = this.#head; i < this.#queue.length; i++) {
      const { delivery, afterLoss } = this.#queue[i]!;
      this.#unsure ||= afterLoss || i > this.#head;
      const { source, sendNumber } = delivery;
      const unique = this.#compare(received, delivery, sent);
      if (unique === undefined) continue;
      this.skipped += i - this.#head;
      this.#drop(i - this.#head + 1);
      if (this.#unsure && !unique) {
        // Perhaps a later copy: its time would put the frame into a later epoch than it is of.
        const lamport = this.#goOn(0n);
        return source === 0
          ? { kind: "external", lamport, certain: false }
          : { kind: "unmatched", lamport, certain: false };
      }
      const lamport = this.#goOn(delivery.lamport);
      if (source === 0) return { kind: "external", lamport, certain: true };
      if (delivery.remoteHash === NO_REMOTE_HASH) {
        return { kind: "unmatched", lamport, certain: true };
      }
      return { kind: "internal", source, sendNumber, lamport, certain: true };
    }
    // Its event was lost. The clock went on by at least one; more is not known.
    this.#unsure = true;
    return { kind: "unmatched", lamport: this.#goOn(0n), certain: false };
  }

  /**
   * Whether a delivery is this frame, as far as is known: `undefined` if not, `true` if it is and no
   * other frame that is remembered has these bytes.
   */
  #compare(
    received: ReceivedFrame,
    { source, sendNumber, length, remoteHash }: Delivery,
    sent: SentLookup,
  ): boolean | undefined {
    if (!received.canBe(length)) return undefined;
    if (source === 0 || remoteHash === NO_REMOTE_HASH) return false;
    if (remoteHash !== undefined) {
      return received.hasKeyedHash(remoteHash, length, this.remoteKey) ? false : undefined;
    }
    const hash = received.hashAs(length);
    if (hash === undefined || sent.hashOf(source, sendNumber) !== hash) return undefined;
    return received.hasOneReading && sent.isUnique(source, hash);
  }

  /** The receiver's clock never stands still, also where some of its times are guesses. */
  #goOn(lamport: bigint): bigint {
    const next = this.#lastLamport + 1n;
    return this.#lastLamport = lamport > next ? lamport : next;
  }

  #drop(count: number): void {
    this.#head += count;
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
  }
}
