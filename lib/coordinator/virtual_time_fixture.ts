/**
 * Virtual time for tests: timers fire in the order of their time, as soon as nothing else is left to do.
 *
 * ```
 * everything that is ready has run, no KV operation is under way ──▶ the next timer fires, the clock jumps to it ──▶ …
 * ```
 * What it replaces is global (`setTimeout`, `setInterval`, `Date`, `performance.now`), so code under test needs to know
 * nothing. Deno KV is the real one: it is counted what it has under way.
 */
import { setImmediate } from "node:timers";

/** 2026-01-01, when virtual time begins. */
const BEGIN_MS = Date.UTC(2026, 0, 1);

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly fire: () => void;
}

const realNow = performance.now.bind(performance);
/** Real time in which nothing can be ready any more but a KV operation. */
const STUCK_MS = 20_000;

export class VirtualTime {
  #nowMs = 0;
  #lastId = 0;
  #kvOperations = 0;
  readonly #timers = new Map<number, Timer>();

  /** Virtual ms since the beginning. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /**
   * Runs `work` to its end in virtual time.
   * @param limitMs virtual time after which it is taken for stuck
   */
  async run<T>(work: () => Promise<T>, limitMs: number): Promise<T> {
    const restore = this.#install();
    try {
      let settled = false;
      const result = work().finally(() => settled = true);
      result.catch(() => {}); // awaited below
      for (;;) {
        await this.#quiet();
        if (settled) return await result;
        const next = this.#next();
        if (next === undefined) throw new Error("Nothing is left that could happen");
        const [id, { at, fire }] = next;
        if (at > limitMs) throw new Error(`Not done after ${limitMs / 1000} virtual seconds`);
        this.#timers.delete(id);
        this.#nowMs = Math.max(this.#nowMs, at);
        fire();
      }
    } finally {
      restore();
    }
  }

  /**
   * `kv`, for one process of the simulation.
   * @param alive when it says no, the process has been killed: nothing it waits for comes any more
   */
  kvFor(kv: Deno.Kv, alive: () => boolean): Deno.Kv {
    const counted = async <T>(operation: () => Promise<T>): Promise<T> => {
      if (!alive()) return await new Promise(() => {});
      this.#kvOperations++;
      try {
        return await operation();
      } finally {
        this.#kvOperations--;
        if (!alive()) await new Promise(() => {});
      }
    };
    const wrapped = {
      get: (key: Deno.KvKey) => counted(() => kv.get(key)),
      getMany: (keys: Deno.KvKey[]) => counted(() => kv.getMany(keys)),
      set: (key: Deno.KvKey, value: unknown) => counted(() => kv.set(key, value)),
      delete: (key: Deno.KvKey) => counted(() => kv.delete(key)),
      list: async function* (selector: Deno.KvListSelector) {
        const found = await counted(() => Array.fromAsync(kv.list(selector)));
        yield* found;
      },
      atomic: () => {
        const atomic = kv.atomic();
        const commit = atomic.commit.bind(atomic);
        atomic.commit = () => counted(commit);
        return atomic;
      },
    };
    return wrapped as unknown as Deno.Kv;
  }

  #next(): [number, Timer] | undefined {
    let next: [number, Timer] | undefined;
    for (const entry of this.#timers) {
      const [, { at, order }] = entry;
      if (next === undefined || at < next[1].at || (at === next[1].at && order < next[1].order)) {
        next = entry;
      }
    }
    return next;
  }

  /** Lets everything run that is ready. */
  async #quiet(): Promise<void> {
    const startedAt = realNow();
    do {
      await new Promise<void>((resolve) => void setImmediate(resolve));
      if (realNow() - startedAt > STUCK_MS) throw new Error("A KV operation does not end");
    } while (this.#kvOperations > 0);
  }

  #add(fire: () => void, ms: number): number {
    const id = ++this.#lastId;
    this.#timers.set(id, { at: this.#nowMs + Math.max(0, ms), order: id, fire });
    return id;
  }

  #install(): () => void {
    const now = () => BEGIN_MS + this.#nowMs;
    const before = {
      setTimeout: globalThis.setTimeout,
      clearTimeout: globalThis.clearTimeout,
      setInterval: globalThis.setInterval,
      clearInterval: globalThis.clearInterval,
      Date: globalThis.Date,
    };
    class VirtualDate extends before.Date {
      constructor(value?: number | string | Date) {
        super(value ?? now());
      }
      static override now = now;
    }
    const repeat = (work: () => void, ms: number): number => {
      const id = this.#add(work, ms);
      const again = () => {
        this.#timers.set(id, { at: this.#nowMs + ms, order: ++this.#lastId, fire: again });
        work();
      };
      this.#timers.set(id, { at: this.#nowMs + ms, order: id, fire: again });
      return id;
    };
    const clear = (id?: number) => void this.#timers.delete(id ?? 0);
    Object.assign(globalThis, {
      setTimeout: (work: () => void, ms = 0) => this.#add(work, ms),
      clearTimeout: clear,
      setInterval: repeat,
      clearInterval: clear,
      Date: VirtualDate,
    });
    performance.now = () => this.#nowMs;
    return () => {
      Object.assign(globalThis, before);
      performance.now = realNow;
    };
  }
}

/** A stream of numbers in [0, 1) that `seed` determines (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
