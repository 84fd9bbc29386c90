/**
 * The receiving end of a link: takes the frames that this host needs of the VMs of another one, each once
 * and in order, and writes them into the spool before it acknowledges them.
 *
 * It takes whatever it asked for, however far its own VMs are: an acknowledgement waits for the disk alone.
 */
import { ProtocolError } from "../../lib/errors.ts";
import type { FrameMessage } from "../../lib/protocol/link_messages.ts";
import type { VmNumber } from "../../lib/units.ts";
import type { SpooledFrame } from "./spool.ts";
import type { WantedFrames } from "./wanted_frames.ts";

/** Where received frames are kept; {@link Spool} is one. */
export interface FrameStore {
  count(vm: VmNumber): number;
  append(frame: SpooledFrame): void;
  read(vm: VmNumber, sequence: number): Uint8Array | undefined;
  readonly bytes: number;
  close(): void;
}

/** What comes from one peer. */
export class LinkReceiver {
  /** VMs whose count the peer has to be told. */
  readonly #due = new Set<VmNumber>();
  #frames = 0;
  #bytes = 0;
  #duplicates = 0;

  /** @param wanted of every VM of the peer */
  constructor(
    readonly wanted: ReadonlyMap<VmNumber, WantedFrames>,
    private readonly store: FrameStore,
  ) {}

  /** Frames and bytes that were taken, and frames that came again. */
  get counters(): { frames: number; bytes: number; duplicates: number } {
    return { frames: this.#frames, bytes: this.#bytes, duplicates: this.#duplicates };
  }

  /**
   * Whether it is the next frame, which is in the store now; one that comes again or too early is dropped.
   * @throws {ProtocolError} it was never asked for
   */
  take({ vm, sequence, sendNumber, bytes }: Omit<FrameMessage, "type">): boolean {
    const wanted = this.wanted.get(vm);
    if (
      wanted === undefined || sequence >= wanted.count || wanted.numberOf(sequence) !== sendNumber
    ) {
      throw new ProtocolError(`frame ${sendNumber} of VM ${vm} came as number ${sequence}`);
    }
    const next = this.store.count(vm);
    this.#due.add(vm); // also where it comes again: the acknowledgement may have been lost
    if (sequence !== next) {
      if (sequence < next) this.#duplicates++;
      return false;
    }
    this.store.append({ vm, sequence, sendNumber, bytes });
    this.#frames++;
    this.#bytes += bytes.length;
    return true;
  }

  /** What the peer is told next: how many frames of a VM have come. */
  nextAcknowledgement(): { vm: VmNumber; count: number } | undefined {
    for (const vm of this.#due) {
      this.#due.delete(vm);
      return { vm, count: this.store.count(vm) };
    }
    return undefined;
  }

  get acknowledgementDue(): boolean {
    return this.#due.size > 0;
  }

  /** Says everything again: an acknowledgement may have been lost. */
  repeat(): void {
    for (const vm of this.wanted.keys()) this.#due.add(vm);
  }

  /** How many frames of each VM have come. */
  positions(): { vm: VmNumber; count: number }[] {
    return [...this.wanted.keys()].sort((a, b) => a - b)
      .map((vm) => ({ vm, count: this.store.count(vm) }));
  }

  /** The send number below which every wanted frame of `vm` has come. */
  arrived(vm: VmNumber): number {
    const wanted = this.wanted.get(vm);
    if (wanted === undefined) return 0;
    const count = this.store.count(vm);
    return count < wanted.count ? wanted.numberOf(count) : wanted.end;
  }

  /** The bytes of a frame; `undefined` while it has not come. */
  frame(vm: VmNumber, sendNumber: number): Uint8Array | undefined {
    const sequence = this.wanted.get(vm)?.sequenceOf(sendNumber);
    return sequence === undefined ? undefined : this.store.read(vm, sequence);
  }
}
