/**
 * The moments of all VMs in one order: each VM's own stay in theirs, and a received frame comes after all that
 * it may be an answer to.
 *
 * A received frame has a Lamport time; a line on a console has none of its own, only the VM's clock on the
 * wall. So received frames are ordered by Lamport time, and lines find their place between two of their
 * VM's by the clock.
 */
import type { VmNumber } from "../units.ts";

/** Something that happened in a VM. */
export interface Moment {
  readonly vm: VmNumber;
  /** The VM's clock, in nanoseconds since the recording began. */
  readonly ns: number;
  /** Of a received frame; `undefined` of anything else. */
  readonly lamport?: bigint;
}

/** Merges the moments of each VM, each in its own order. */
export function* mergeMoments<M extends Moment>(
  sequences: readonly (readonly M[])[],
): Generator<M> {
  const queues = sequences.map((moments) => new Queue(moments));
  for (;;) {
    const waiting = queues.filter(({ head }) => head !== undefined);
    if (waiting.length === 0) return;
    const firstReceiver = waiting.reduce((a, b) => comparePending(a, b) <= 0 ? a : b);
    const free = waiting.filter((queue) =>
      queue.head!.lamport === undefined || queue === firstReceiver
    );
    const next = free.reduce((a, b) => a.head!.ns <= b.head!.ns ? a : b);
    yield next.head!;
    next.shift();
  }
}

/** The moments of one VM that are still to come. */
class Queue<M extends Moment> {
  #at = 0;
  #nextReceive = 0;

  constructor(private readonly moments: readonly M[]) {
    this.#findReceive();
  }

  get head(): M | undefined {
    return this.moments[this.#at];
  }

  /** The Lamport time of the next received frame. */
  get pending(): bigint | undefined {
    return this.moments[this.#nextReceive]?.lamport;
  }

  shift(): void {
    this.#at++;
    if (this.#nextReceive < this.#at) this.#findReceive();
  }

  #findReceive(): void {
    this.#nextReceive = Math.max(this.#nextReceive, this.#at);
    while (
      this.#nextReceive < this.moments.length && this.pending === undefined
    ) this.#nextReceive++;
  }
}

function comparePending(a: Queue<Moment>, b: Queue<Moment>): number {
  if (a.pending === undefined || b.pending === undefined) {
    return Number(a.pending === undefined) - Number(b.pending === undefined);
  }
  return a.pending < b.pending ? -1 : a.pending > b.pending ? 1 : 0;
}
