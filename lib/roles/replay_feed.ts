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
import { canBeReceivedAs } from "./frame_matcher.ts";

/** A part of the stream: bytes, or a frame that another VM's replay has to send first. */
export type Piece =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
    readonly kind: "frame";
    readonly source: VmNumber;
    readonly sendNumber: number;
    readonly length: number;
  }
  /** From here on the stream belongs to `epoch`, give or take an event. */
  | { readonly kind: "epoch"; readonly epoch: number };

/** What a feed did when it was pumped. */
export type FeedState =
  /** The FIFO is full: go on when there is room. */
  | "full"
  /** The stream stands at a frame that its sender has not sent yet. */
  | "waiting"
  /** The stream stands before an epoch that the VM may not enter yet. */
  | "held"
  /** The frame that the stream stands at has been sent, and cannot be the one that was received. */
  | "misfit"
  /** Everything has been written. */
  | "done"
  /** QEMU has gone. */
  | "closed";

/** Gives the next pieces of the stream, a block at a time; `undefined` at the end of the log. */
export type PieceSource = () => Piece[] | undefined;

/**
 * What has been written may still be on its way: in the pipe (64 KiB) and in QEMU's stdio. So much later
 * it has been read.
 */
const AHEAD_BYTES_MAX = 128 << 10;

/** Feeds one VM. */
export class ReplayFeed {
  #pieces: Piece[] = [];
  #next = 0;
  #offset = 0;
  /** The frame the stream stands at, once it is there, as it was sent. */
  #frame: Uint8Array | undefined;
  #state: FeedState = "full";
  #bytesFed = 0;
  /** The last frames that were written, which QEMU may not have got to. */
  readonly #recent: { source: VmNumber; sendNumber: number; bytes: Uint8Array; end: number }[] = [];

  constructor(
    private readonly source: PieceSource,
    private readonly write: (bytes: Uint8Array) => number | "again" | "closed",
    private readonly takeFrame: (source: VmNumber, sendNumber: number) => Uint8Array | undefined,
    private readonly mayEnter: (epoch: number) => boolean = () => true,
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
    return this.#state === "waiting" ? this.#framePiece : undefined;
  }

  /** The frame that the log means, and the one that was sent under its number, if they do not fit. */
  get misfit():
    | { source: VmNumber; sendNumber: number; length: number; sent: Uint8Array }
    | undefined {
    const piece = this.#framePiece;
    if (this.#state !== "misfit" || piece === undefined) return undefined;
    return { ...piece, sent: this.#frame! };
  }

  get #framePiece() {
    const piece = this.#pieces[this.#next];
    return piece?.kind === "frame" ? piece : undefined;
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
      if (piece.kind === "epoch") {
        if (!this.mayEnter(piece.epoch)) return this.#state = "held";
        this.#next++;
        continue;
      }
      let bytes: Uint8Array;
      if (piece.kind === "bytes") bytes = piece.bytes;
      else {
        const frame = this.#frame ?? this.takeFrame(piece.source, piece.sendNumber);
        if (frame === undefined) return this.#state = "waiting";
        this.#frame = frame;
        if (!canBeReceivedAs(frame.length, piece.length)) return this.#state = "misfit";
        bytes = padded(frame, piece.length);
      }
      const went = this.write(bytes.subarray(this.#offset));
      if (went === "closed") return this.#state = "closed";
      if (went === "again") return this.#state = "full";
      this.#bytesFed += went;
      this.#offset += went;
      if (this.#offset === bytes.length) {
        this.#offset = 0;
        if (piece.kind === "frame") this.#remember(piece.source, piece.sendNumber);
        this.#frame = undefined;
        this.#next++;
      }
    }
    return this.#state;
  }

  /** A frame that has been written of late, or in part so far, as its sender sent it. */
  recentFrame(source: VmNumber, sendNumber: number): Uint8Array | undefined {
    const piece = this.#framePiece;
    const isAtHand = piece?.source === source && piece.sendNumber === sendNumber;
    if (isAtHand && this.#frame !== undefined) return this.#frame;
    return this.#recent.findLast((frame) =>
      frame.source === source && frame.sendNumber === sendNumber
    )?.bytes;
  }

  #remember(source: VmNumber, sendNumber: number): void {
    this.#recent.push({ source, sendNumber, bytes: this.#frame!, end: this.#bytesFed });
    const read = this.#recent.findIndex(({ end }) => end >= this.#bytesFed - AHEAD_BYTES_MAX);
    if (read > 0) this.#recent.splice(0, read);
  }
}

/** QEMU pads short frames with zeros before it logs them, for NICs that need it. */
function padded(frame: Uint8Array, length: number): Uint8Array {
  if (frame.length >= length) return frame;
  const whole = new Uint8Array(length);
  whole.set(frame);
  return whole;
}
