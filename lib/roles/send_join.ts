/**
 * Joins what two observers say of the frames that one VM sent: the recorder its numbers and Lamport times,
 * the capture filter the bytes. Both come in the order of sending; a frame that the tap refused was
 * captured but never reported, which shows as a length that does not fit.
 *
 * ```
 * recorder:  0    1         2    3        number n
 * capture:   0    1    2    3    4        number n + 1 from n = 2 on: a drift
 *                      ▲ refused by the tap
 * ```
 */
import type { SentFrames } from "./frame_matcher.ts";

/**
 * From the recorder's frame `from` on, the capture had `frames` more before it than the recorder. The
 * recorder's frame n is frame n + `frames` of the log, which counts as the capture does, by the last drift
 * whose `from` is at most n; it is frame n if there is none.
 */
export interface SendDrift {
  readonly from: number;
  readonly frames: number;
  /**
   * The frames from this one to `from` have numbers that may be too low: their lengths do not show where
   * among them the refused ones were. Equal to `from` where there is no doubt.
   */
  readonly doubtFrom: number;
}

/** Drifts that are kept for the end; behind them all is in doubt. */
const DRIFTS_MAX = 1 << 16;

/**
 * Joins the recorder's send events (Lamport times) with the captured frames (bytes) of one VM.
 * Both come in the order of sending; a frame that the tap refused was captured but never reported,
 * which shows as a length that does not fit.
 */
export class SendJoin {
  readonly #events: { sendNumber: number; length: number; lamport: bigint }[] = [];
  /** How many captured frames the recorder never saw, from which of its frames on; oldest first. */
  readonly #drifts = [{ from: 0, frames: 0 }];
  /** All of them, for those who have only the recorder's numbers. */
  readonly #history: SendDrift[] = [];
  /** The recorder's frames so far. */
  #numbered = 0;
  /** The first event behind the last drift that fits no captured frame. */
  #unplacedFrom = Infinity;
  #joined = 0;
  #lastLamport = 0n;

  constructor(readonly sent: SentFrames) {}

  /**
   * The capture's number of the recorder's frame `sendNumber`: the same unless the tap refused some.
   * It may come out too low, never too high: what is named by it was not sent later. -1 where the frame
   * is no longer remembered.
   */
  captureNumber(sendNumber: number): number {
    if (sendNumber < this.#drifts[0]!.from) return -1;
    let i = this.#drifts.length - 1;
    while (i > 0 && this.#drifts[i]!.from > sendNumber) i--;
    return sendNumber + this.#drifts[i]!.frames;
  }

  /**
   * Every drift of the recording, `from` ascending; to be asked at its end.
   * @param allReported no event was lost: frames that were captured and never reported were refused,
   *   also where no later length has shown it
   */
  drifts(allReported: boolean): SendDrift[] {
    const from = this.#numbered;
    const seen = this.#drifts.at(-1)!.frames;
    const frames = Math.max(seen, this.sent.count - from);
    const beyond = this.#history.length > DRIFTS_MAX;
    if (!beyond && (!allReported || frames === seen)) return [...this.#history];
    const kept = this.#history.slice(0, DRIFTS_MAX);
    const doubtFrom = beyond ? this.#history[DRIFTS_MAX]!.doubtFrom : this.#doubtFrom(from, frames);
    return [...kept, { from, frames, doubtFrom }];
  }

  event(sendNumber: number, length: number, lamport: bigint): void {
    this.#events.push({ sendNumber, length, lamport });
    this.#numbered = sendNumber + 1;
  }

  /**
   * Emits every captured frame whose event is known, in order.
   * @param rest also those without an event: at the end no more will come
   */
  join(emit: (sendNumber: number, lamport: bigint) => void, rest = false): void {
    let used = 0;
    for (const event of this.#events) {
      const at = this.#find(event.sendNumber, event.length);
      if (at === "later" && !rest) break;
      if (typeof at !== "number") {
        used++; // an event that fits nothing: identify nothing by it
        this.#unplacedFrom = Math.min(this.#unplacedFrom, event.sendNumber);
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

  /** The captured frame of an event; `later`: it may not have been read yet. */
  #find(sendNumber: number, length: number): number | "later" | "none" {
    const REFUSED_IN_A_ROW_MAX = 64;
    const first = this.captureNumber(sendNumber);
    if (first < this.sent.count - this.sent.capacity) return "none"; // forgotten meanwhile
    for (let skip = 0; skip < REFUSED_IN_A_ROW_MAX; skip++) {
      const at = first + skip;
      if (at >= this.sent.count) return "later";
      if (this.sent.lengthOf(at) === length) {
        if (skip > 0) this.#drift(sendNumber, at - sendNumber);
        return at;
      }
    }
    return "none";
  }

  /** Notes a drift and forgets those that end before the oldest frame that is remembered. */
  #drift(from: number, frames: number): void {
    if (this.#history.length <= DRIFTS_MAX) {
      this.#history.push({ from, frames, doubtFrom: this.#doubtFrom(from, frames) });
    }
    this.#unplacedFrom = Infinity;
    this.#drifts.push({ from, frames });
    const oldest = this.sent.count - this.sent.capacity;
    while (this.#drifts.length > 1) {
      if (this.#drifts[1]!.from + this.#drifts[0]!.frames > oldest) return;
      this.#drifts.shift();
    }
  }

  /**
   * Goes back from a drift over the frames whose lengths fit the numbers that they were given as well as
   * higher ones, up to those of the drift. What is before them can only have the number that it has,
   * unless it was placed nowhere.
   */
  #doubtFrom(from: number, frames: number): number {
    return Math.min(this.#unplacedFrom, this.#ambiguousFrom(from, frames));
  }

  #ambiguousFrom(from: number, frames: number): number {
    for (let at = from; at > 0; at--) {
      const given = this.captureNumber(at - 1);
      const length = this.sent.lengthOf(given);
      if (length === undefined) return 0; // forgotten: nothing is known of what is before
      let fits = false;
      for (let other = given + 1; other < at + frames; other++) {
        fits ||= this.sent.lengthOf(other) === length;
      }
      if (!fits) return at;
    }
    return 0;
  }
}
