/**
 * The checkpoints' cuts in the rr log of one VM, placed while the log comes in.
 *
 * ```
 * recorder.tick(E)            B: where the log stood               cut of E (boundary rule)
 *      │                      │◀──── at most the buffer ────▶│     │
 * ─────┴── log read so far ───┴──────────────────────────────┴─────┴───▶ rr log
 *                    a receive with a time of epoch E: the cut stands before it at the latest
 * ```
 *
 * In: ticks, the Lamport times of received frames, event boundaries. Out: the epochs whose cut stands
 * at a place of the log. A cut never has a receive of its own epoch before it and never a send of an
 * earlier epoch behind it; CHECKPOINTS.md shows that this makes every cut consistent.
 */
import { lamportTime } from "../units.ts";
import { epochOf, epochStart } from "./lamport.ts";

/** How a {@link CutPlacer} works. */
export interface CutPlacerOptions {
  /** What QEMU's stdio buffer may hold back: a FIFO's block size. */
  readonly bufferBytes?: number;
  /**
   * The time of the oldest frame that entered the VM's tap and that the log, up to the place that is
   * asked about, has not shown; `undefined` if there is none. A cut waits for frames of earlier epochs.
   */
  readonly oldestDelivery?: () => bigint | undefined;
  /**
   * How many further ticks a cut waits for such a frame. It may never come: a full tap queue dropped
   * it, or the guest takes no frames any more. One that comes later still stands behind the cut, as
   * part of the channel state; the cut is as consistent as any.
   */
  readonly patienceEpochs?: number;
  /**
   * Whether frames come from hosts that are ticked apart from this one: a frame of unknown time may then
   * be of an epoch that has not been ticked here.
   */
  readonly remoteEpochs?: boolean;
}

interface PendingCut {
  readonly epoch: number;
  /** The cut stands behind this byte unless a receive forces it: all before it may precede the tick. */
  readonly behind: number;
  /** A frame has been received that may be of this epoch: its time is not known. */
  doubtful: boolean;
}

const NONE: number[] = [];

/** Places the cuts of one VM. Memory is constant for each epoch that has no cut yet. */
export class CutPlacer {
  readonly #bufferBytes: number;
  readonly #oldestDelivery: () => bigint | undefined;
  readonly #patienceEpochs: number;
  /** Ascending epochs, and `behind` does not descend. */
  #pending: PendingCut[] = [];
  /** The highest epoch heard of. */
  #epoch = 0;
  readonly #remoteEpochs: boolean;
  /** A frame has been received that may be of the next epoch: its time is not known. */
  #doubt = false;
  #at = 0;
  /** Epochs without a cut, because a frame on one side of it may belong on the other. */
  voided = 0;

  constructor(options: CutPlacerOptions = {}) {
    this.#bufferBytes = options.bufferBytes ?? 4096;
    this.#oldestDelivery = options.oldestDelivery ?? (() => undefined);
    this.#patienceEpochs = options.patienceEpochs ?? 4;
    this.#remoteEpochs = options.remoteEpochs ?? false;
  }

  /** Epochs that wait for their cut. */
  get pending(): number {
    return this.#pending.length;
  }

  /** The first byte at which a boundary may get a cut: none is missed by not asking before. */
  get dueAt(): number {
    return (this.#pending[0]?.behind ?? Infinity) + 1;
  }

  /**
   * The clock of this VM is now at least `epoch << 40`. An epoch that is not above all before it changes
   * nothing. To be called before anything is decoded that was read after the clock was raised.
   * @param logBytes at least what QEMU had written when the clock was raised: what has been read of the
   *   log once it was read empty *after* that
   */
  tick(epoch: number, logBytes: number): void {
    epochStart(epoch); // throws where it is none
    if (epoch <= this.#epoch) return;
    this.#epoch = epoch;
    this.#pending.push({ epoch, behind: logBytes + this.#bufferBytes, doubtful: this.#doubt });
    // What was received before this call is of no later epoch: that has not begun anywhere.
    this.#doubt = false;
  }

  /**
   * A received frame comes next in the log.
   * @param lamport the receiver's clock after it; `undefined` if that is not known for certain, because
   *   recorder events were lost
   * @param logBytes where its header starts
   * @returns the epochs whose cut stands right before it, ascending. An epoch that was not ticked here
   *   yet may be among them: the frame says that it has begun elsewhere.
   */
  beforeReceive(lamport: bigint | undefined, logBytes: number): number[] {
    this.#moveTo(logBytes);
    if (lamport === undefined) {
      this.#doubt = this.#remoteEpochs;
      for (const cut of this.#pending) cut.doubtful = true;
      return NONE;
    }
    const epoch = epochOf(lamportTime(lamport));
    if (epoch > this.#epoch) {
      this.#pending.push({ epoch, behind: logBytes, doubtful: this.#doubt });
      this.#epoch = epoch;
    }
    const cuts = this.#take(this.#pending.findLastIndex((cut) => cut.epoch <= epoch) + 1);
    // Frames come in the order of their times: those of unknown time were earlier than this one.
    this.#doubt = false;
    for (const cut of this.#pending) cut.doubtful = false;
    return cuts;
  }

  /**
   * An event ends in the log at `logBytes`.
   * @returns the epochs whose cut stands here, ascending
   */
  atBoundary(logBytes: number): number[] {
    this.#moveTo(logBytes);
    if (this.#pending.length === 0 || logBytes <= this.#pending[0]!.behind) return NONE;
    const oldest = this.#oldestDelivery();
    const last = this.#pending.findLastIndex((cut, i) => {
      if (logBytes <= cut.behind || cut.doubtful) return false;
      if (oldest === undefined || oldest >= epochStart(cut.epoch)) return true;
      const later = this.#pending[i + this.#patienceEpochs];
      return later !== undefined && logBytes > later.behind;
    });
    return this.#take(last + 1);
  }

  /**
   * The log ends at `logBytes`, as QEMU ends it: nothing is sent behind it, so every cut may stand here.
   * After a later tick, to be called again: a VM that has ended has a cut too. Not for a log that was cut
   * off, whose VM may have sent more than the log shows.
   */
  atEnd(logBytes: number): number[] {
    this.#moveTo(logBytes);
    return this.#take(this.#pending.length);
  }

  /** The first `count` pending cuts stand here; those in doubt nowhere. */
  #take(count: number): number[] {
    if (count === 0) return NONE;
    const taken = this.#pending.slice(0, count);
    this.#pending = this.#pending.slice(count);
    const cuts = taken.filter((cut) => !cut.doubtful).map((cut) => cut.epoch);
    this.voided += count - cuts.length;
    return cuts;
  }

  #moveTo(logBytes: number): void {
    if (logBytes < this.#at) throw new Error(`the log goes back from ${this.#at} to ${logBytes}`);
    this.#at = logBytes;
  }
}
