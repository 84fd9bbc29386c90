/**
 * The retransmission queue of a replay: holds regenerated frames until every receiver that the
 * recording names has taken them, in the recorded order of each receiver.
 *
 * A frame of VM s comes in once, as number n = 0, 1, 2 … It is kept while references to it are left
 * (`uses`, counted from the recording before the replay starts) and freed with the last one, so that
 * memory is bounded by what is in flight between the fastest sender and the slowest receiver.
 */
import type { VmNumber } from "../../lib/units.ts";

/** How often each frame of a VM is referenced: index = send number. */
export type UseCounts = ReadonlyMap<VmNumber, Uint16Array>;

/** A frame that was sent before the replay begins and is received in it. */
export interface FrameInFlight {
  readonly source: VmNumber;
  readonly sendNumber: number;
  readonly bytes: Uint8Array;
}

/** Where a replay begins that does not begin at the start. */
export interface QueueStart {
  /** Frames that each VM has sent before. */
  readonly sent: ReadonlyMap<VmNumber, number>;
  /** Those of them that will be received. */
  readonly inFlight: readonly FrameInFlight[];
}

/** Frames between replayed VMs. */
export class RetransmissionQueue {
  readonly #frames = new Map<VmNumber, Map<number, { bytes: Uint8Array; left: number }>>();
  readonly #arrived = new Map<VmNumber, number>();
  #bytes = 0;
  #bytesMax = 0;

  /** @param uses references that are still to come */
  constructor(private readonly uses: UseCounts, start?: QueueStart) {
    for (const { source, sendNumber, bytes } of start?.inFlight ?? []) {
      this.#hold(source, sendNumber, bytes);
    }
    for (const [source, sent] of start?.sent ?? []) this.#arrived.set(source, sent);
  }

  /** Takes over the next frame of `source`; returns its send number. */
  add(source: VmNumber, bytes: Uint8Array): number {
    const sendNumber = this.arrived(source);
    this.#arrived.set(source, sendNumber + 1);
    this.#hold(source, sendNumber, bytes);
    return sendNumber;
  }

  #hold(source: VmNumber, sendNumber: number, bytes: Uint8Array): void {
    const left = this.uses.get(source)?.[sendNumber] ?? 0;
    if (left === 0) return;
    let frames = this.#frames.get(source);
    if (frames === undefined) this.#frames.set(source, frames = new Map());
    frames.set(sendNumber, { bytes, left });
    this.#bytes += bytes.length;
    this.#bytesMax = Math.max(this.#bytesMax, this.#bytes);
  }

  /** Frames of `source` that have come in so far. */
  arrived(source: VmNumber): number {
    return this.#arrived.get(source) ?? 0;
  }

  /** One receiver's copy of a frame; `undefined` while it has not come in. */
  take(source: VmNumber, sendNumber: number): Uint8Array | undefined {
    const frames = this.#frames.get(source);
    const frame = frames?.get(sendNumber);
    if (frames === undefined || frame === undefined) {
      if (sendNumber < this.arrived(source)) {
        throw new Error(`frame ${sendNumber} of VM ${source} was taken more often than recorded`);
      }
      return undefined;
    }
    if (--frame.left === 0) {
      frames.delete(sendNumber);
      this.#bytes -= frame.bytes.length;
    }
    return frame.bytes;
  }

  /** The bytes of a frame that is held; its receivers go on waiting for it. */
  held(source: VmNumber, sendNumber: number): Uint8Array | undefined {
    return this.#frames.get(source)?.get(sendNumber)?.bytes;
  }

  /** Bytes of the frames held now, and the most that were held at once. */
  get heldBytes(): number {
    return this.#bytes;
  }
  get heldBytesMax(): number {
    return this.#bytesMax;
  }
}
