/**
 * Places the cuts of one VM in its rr log while the log comes in: behind the tick, behind every receive
 * of an earlier epoch, and before the first receive of the new one.
 */
import { EPOCH_SHIFT } from "./lamport.ts";

interface Pending {
  readonly epoch: number;
  readonly start: bigint;
  readonly safeAt: number;
  lastBefore: bigint;
}

export class CutPlacer {
  readonly #pending: Pending[] = [];
  #lastDelivered = 0n;
  #lastReceived = 0n;

  constructor(private readonly options: { bufferBytes?: number } = {}) {}

  get dueAt(): number {
    return this.#pending[0]?.safeAt ?? Infinity;
  }

  tick(epoch: number, logBytes: number): void {
    this.#pending.push({
      epoch,
      start: BigInt(epoch) << EPOCH_SHIFT,
      safeAt: logBytes + (this.options.bufferBytes ?? 4096),
      lastBefore: this.#lastDelivered,
    });
  }

  delivered(lamport: bigint): void {
    this.#lastDelivered = lamport;
    for (const pending of this.#pending) if (lamport < pending.start) pending.lastBefore = lamport;
  }

  beforeReceive(lamport: bigint, _logBytes: number): number[] {
    this.#lastReceived = lamport;
    return this.#take((pending) => pending.start <= lamport);
  }

  atBoundary(logBytes: number): number[] {
    return this.#take((pending) =>
      pending.safeAt <= logBytes && pending.lastBefore <= this.#lastReceived
    );
  }

  #take(may: (pending: Pending) => boolean): number[] {
    const epochs: number[] = [];
    while (this.#pending.length > 0 && may(this.#pending[0]!)) {
      epochs.push(this.#pending.shift()!.epoch);
    }
    return epochs;
  }
}
