/** Time that passes only when everything that could happen at a moment has happened. */
import type { LinkTime } from "../../net/retransmit/replay_links.ts";

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly call: () => void;
  cancelled: boolean;
}

/** How many rounds of promises are settled before time goes on. */
const SETTLING_ROUNDS = 24;

/** The clock of a simulation. */
export class VirtualTime implements LinkTime {
  #now = 1;
  #order = 0;
  /** A binary heap: the earliest timer first, those of one moment in the order of their making. */
  readonly #heap: Timer[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): () => void {
    const timer = { at: this.#now + ms, order: this.#order++, call, cancelled: false };
    this.#push(timer);
    return () => timer.cancelled = true;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Lets time pass until `running` has ended. */
  async run<T>(running: Promise<T>): Promise<T> {
    let over = false;
    running.catch(() => {}).finally(() => over = true);
    while (!over) {
      for (let i = 0; i < SETTLING_ROUNDS; i++) await undefined;
      const next = this.#pop();
      if (next === undefined) {
        if (over) break;
        throw new Error("the simulation waits, and nothing will happen any more");
      }
      if (next.cancelled) continue;
      this.#now = Math.max(this.#now, next.at);
      next.call();
    }
    return await running;
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!earlier(timer, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || first === last) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && earlier(heap[child + 1]!, heap[child]!)) child++;
      if (!earlier(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function earlier(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
