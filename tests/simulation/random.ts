/** Chance for the simulation: the same seed makes the same run. */

/** Mixes `value` into `state`: a 32-bit hash step (the finalizer of MurmurHash3). */
export function mix(state: number, value: number): number {
  let h = state ^ Math.imul(value + 0x9e3779b9, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return (h ^ h >>> 16) >>> 0;
}

/** A seeded source of numbers. */
export class Random {
  #state: number;
  #count = 0;

  constructor(seed: number) {
    this.#state = mix(0x5eed, seed);
  }

  /** From 0 to `limit - 1`. */
  below(limit: number): number {
    this.#state = mix(this.#state, ++this.#count);
    return this.#state % limit;
  }

  /** From `min` to `max`, both included. */
  between(min: number, max: number): number {
    return min + this.below(max - min + 1);
  }

  /** True in `percent` of a hundred cases. */
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }
}
