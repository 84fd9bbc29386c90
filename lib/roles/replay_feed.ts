/**
 * The rr log of one VM, rebuilt for its replay.
 *
 * hybrid log ─▶ pieces (log bytes; "the frame of VM s, number n"; whole frames) ─▶ FIFO of QEMU
 *
 * Everything up to and including the header of a received frame is offered at once; only the frame's
 * bytes are waited for. QEMU fetches the kind of the next event before it runs the current one, so a
 * stream that held the header back would deadlock two VMs that talk to each other.
 */
import type { VmNumber } from "../units.ts";

/** A part of the stream: bytes, or a frame that another VM's replay has to send first. */
export type Piece =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
    readonly kind: "frame";
    readonly source: VmNumber;
    readonly sendNumber: number;
    readonly length: number;
  };

/** What a feed did when it was pumped. */
export type FeedState =
  /** The FIFO is full: go on when there is room. */
  | "full"
  /** The stream stands at a frame that its sender has not sent yet. */
  | "waiting"
  /** Everything has been written. */
  | "done"
  /** QEMU has gone. */
  | "closed";

/** Gives the next pieces of the stream, a block at a time; `undefined` at the end of the log. */
export type PieceSource = () => Piece[] | undefined;

/** Feeds one VM. */
export class ReplayFeed {
  #pieces: Piece[] = [];
  #next = 0;
  #offset = 0;
  /** The frame the stream stands at, once it is there; held no longer than it takes to write it. */
  #frame: Uint8Array | undefined;
  #state: FeedState = "full";
  #bytesFed = 0;

  constructor(
    private readonly source: PieceSource,
    private readonly write: (bytes: Uint8Array) => number | "again" | "closed",
    private readonly takeFrame: (source: VmNumber, sendNumber: number) => Uint8Array | undefined,
  ) {}

  get state(): FeedState {
    return this.#state;
  }

  /** Bytes of the rr log written so far. */
  get bytesFed(): number {
    return this.#bytesFed;
  }

  /** The frame the stream stands at, if it waits. */
  get awaited(): { source: VmNumber; sendNumber: number } | undefined {
    const piece = this.#pieces[this.#next];
    return this.#state === "waiting" && piece?.kind === "frame" ? piece : undefined;
  }

  /** Writes as much as can be written now. */
  pump(): FeedState {
    while (this.#state !== "done" && this.#state !== "closed") {
      const piece = this.#pieces[this.#next];
      if (piece === undefined) {
        const more = this.source();
        if (more === undefined) return this.#state = "done";
        this.#pieces = more;
        this.#next = 0;
        continue;
      }
      let bytes: Uint8Array;
      if (piece.kind === "bytes") bytes = piece.bytes;
      else {
        const frame = this.#frame ?? this.takeFrame(piece.source, piece.sendNumber);
        if (frame === undefined) return this.#state = "waiting";
        bytes = this.#frame = padded(frame, piece.length);
      }
      const went = this.write(bytes.subarray(this.#offset));
      if (went === "closed") return this.#state = "closed";
      if (went === "again") return this.#state = "full";
      this.#bytesFed += went;
      this.#offset += went;
      if (this.#offset === bytes.length) {
        this.#offset = 0;
        this.#frame = undefined;
        this.#next++;
      }
    }
    return this.#state;
  }
}

/** QEMU pads short frames with zeros before it logs them, for NICs that need it. */
function padded(frame: Uint8Array, length: number): Uint8Array {
  if (frame.length >= length) return frame;
  const whole = new Uint8Array(length);
  whole.set(frame);
  return whole;
}
